# SPDX-License-Identifier: Apache-2.0
"""Key files: private, whole, one winner, and clear refusals."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.checkpoint import SigningKey
from ledger.errors import KeyFileError
from ledger.key_file import (
    load_or_create,
    load_signing_key,
    load_verifier,
    save_verifier,
)


def test_the_key_is_created_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The first call makes a file of mode 0600, the second reads the same key."""
    path = tmp_path / "home" / "signing.pem"
    first = load_or_create(path, "example.com/log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path, "example.com/log").verifier == first.verifier
    assert [entry.name for entry in path.parent.iterdir()] == ["signing.pem"]


def test_starting_together_gives_one_key(tmp_path: Path) -> None:
    """Threads that race for the file all end with the key that lies there."""
    path = tmp_path / "signing.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create(path, "a.example"), range(16)))
    assert {str(key.verifier) for key in keys} == {str(load_signing_key(path).verifier)}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_an_exposed_key_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file that group or others can read is refused with what to do."""
    path = tmp_path / "signing.pem"
    load_or_create(path, "example.com/log")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create(path, "example.com/log")


def test_a_key_of_another_name_is_refused(tmp_path: Path) -> None:
    """Changing the ledger's name does not silently change its key."""
    path = tmp_path / "signing.pem"
    load_or_create(path, "example.com/log")
    with pytest.raises(KeyFileError, match=r"expected example\.com/other"):
        load_or_create(path, "example.com/other")


def test_a_missing_or_broken_file_is_one_sentence(tmp_path: Path) -> None:
    """Files that are not there, folders and rubbish end in KeyFileError."""
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no key")
    rubbish.chmod(0o600)
    for path in (tmp_path / "none.pem", rubbish):
        with pytest.raises(KeyFileError):
            load_signing_key(path)
    for path in (tmp_path / "none.pem", tmp_path, rubbish):
        with pytest.raises(KeyFileError):
            load_verifier(path)
    with pytest.raises(KeyFileError):
        load_or_create(rubbish / "under-a-file.pem", "example.com/log")


def test_a_verifier_file_may_hold_comments(tmp_path: Path) -> None:
    """The vkey line is found after comments and blank lines, as people write them."""
    path = tmp_path / "log.vkey"
    key = SigningKey.generate("example.com/log").verifier
    save_verifier(path, key)
    assert load_verifier(path) == key
    path.write_text(f"# our ledger\n\n{key}\n")
    assert load_verifier(path) == key
