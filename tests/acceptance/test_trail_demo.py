# SPDX-License-Identifier: Apache-2.0
"""`make demo-trail` from end to end, by the script that it calls."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples" / "trail"

#: A word of each thing that must be proved, in the order of the demonstration.
PROOFS = (
    "no token is refused",
    "its rights alone",
    "every photograph is explained; result digest",
    "no name can be read",
    "cryptography, pycparser and no network",
    "one item alone has",
    "under the key that the stranger was given",
    "item 1 holds",
    "one flipped byte of one artifact is found (exit 14)",
    "one officer alone erases nobody",
    "4 items in 3 shards were erased",
    "the certificate is signed",
    "its rows hold",
    "the evidence from before still holds",
    "goes on from the checkpoint",
    "entries are anchored outside",
    "nobody of that name is known",
    "no artifact and no report holds the token",
)


def _call(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a demonstration, and what it printed."""
    folder = tmp_path_factory.mktemp("trail") / "demo"
    return folder, _call("demo.py", folder, "--copy")


@pytest.mark.timeout(900)
def test_each_step_says_what_it_proved(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """One command audits, hands over, verifies, erases and verifies again."""
    _, done = shown
    assert done.returncode == 0, done.stdout + done.stderr
    proved = [line for line in done.stdout.splitlines() if "proved: " in line]
    assert len(proved) == len(PROOFS), done.stdout
    for line, word in zip(proved, PROOFS, strict=True):
        assert word in line


@pytest.mark.timeout(900)
def test_the_strangers_environment_has_nothing_of_ours(
    shown: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Neither the product nor what it needs can be imported there."""
    folder, _ = shown
    python = folder / "stranger" / "venv" / "bin" / "python"
    for name, there in (("cryptography", True), ("ledger", False), ("torch", False)):
        done = subprocess.run(
            [str(python), "-I", "-c", f"import {name}"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert (done.returncode == 0) == there, name


@pytest.mark.timeout(900)
def test_another_key_is_not_taken_for_the_ledgers(
    shown: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A stranger who was given another public key is not told that it holds."""
    from ledger.checkpoint import SigningKey

    folder, _ = shown
    vkey = tmp_path / "other.vkey"
    vkey.write_text(f"{SigningKey.generate('affidavit.local/ledger').verifier}\n")
    stranger = folder / "stranger"
    done = subprocess.run(
        [
            *(str(stranger / "venv" / "bin" / "python"), "-I"),
            *(str(SCRIPTS / "offline.py"), str(stranger / "verify.pyz")),
            *(str(stranger / "after.zip"), "--key", str(vkey)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 10, done.stdout + done.stderr


def test_the_offline_process_reaches_no_network(tmp_path: Path) -> None:
    """What is run by it fails as soon as it opens a socket."""
    script = tmp_path / "talks.py"
    script.write_text("import socket\nsocket.socket()\nprint('connected')\n")
    done = _call("offline.py", script)
    assert done.returncode != 0
    assert "connected" not in done.stdout
    assert "offline" in done.stderr


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """Nothing is deleted that no demonstration has made."""
    (tmp_path / "mine.txt").write_text("mine")
    done = _call("demo.py", tmp_path)
    assert done.returncode == 2
    assert "name another folder" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"
    shutil.rmtree(tmp_path)
