# SPDX-License-Identifier: Apache-2.0
"""Keys, digests and URLs are checked before any store is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.objects import (
    InvalidKeyError,
    S3Config,
    StoreRefusedError,
    open_store,
)
from storage.objects.folder import FolderStore
from storage.objects.naming import checked_key, checked_prefix, checked_sha256

MALFORMED = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../../b",
    "a/./b",
    ".incoming/a",
    "a/.hidden",
    "a\\..\\b",
    "a\x00b",
    "a\nb",
    "a\u202eb",
    "a/" + "b" * 256,
    "é" * 128,
    "/".join(["abc"] * 300),
    "\ud800",
]


@pytest.mark.parametrize("key", MALFORMED)
def test_malformed_key_is_refused(key: str) -> None:
    """A key that could leave the folder or that a store cannot hold is refused."""
    with pytest.raises(InvalidKeyError):
        checked_key(key)


@pytest.mark.parametrize(
    "key", ["a", "runs/r1/s0/a1.parquet", "a b+c%20#?&=~é.txt", "日本/語", "a..b/c."]
)
def test_well_formed_key_passes_unchanged(key: str) -> None:
    """A well-formed key comes back as it was."""
    assert checked_key(key) == key


@pytest.mark.parametrize("prefix", ["../", "/", "a//b", "a/../b", "\ud800"])
def test_malformed_prefix_is_refused(prefix: str) -> None:
    """A prefix with which no key can start is a fault, not an empty answer."""
    with pytest.raises(InvalidKeyError):
        checked_prefix(prefix)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/"])
def test_well_formed_prefix_passes_unchanged(prefix: str) -> None:
    """A prefix may be empty and may end inside a segment or at its end."""
    assert checked_prefix(prefix) == prefix


@pytest.mark.parametrize("digest", ["", "A" * 64, "g" * 64, "0" * 63, "0" * 64 + "\n"])
def test_malformed_digest_is_refused(digest: str) -> None:
    """Only 64 lower-case hexadecimal characters are a SHA-256."""
    with pytest.raises(InvalidKeyError):
        checked_sha256(digest)


def test_file_url_and_plain_path_mean_the_same_folder(tmp_path: Path) -> None:
    """`file:///a%20b` and `/a b` name one folder, which opening does not create."""
    folder = tmp_path / "a b"
    by_path = open_store(str(folder), None)
    by_url = open_store(folder.as_uri(), None)
    assert isinstance(by_path, FolderStore)
    assert isinstance(by_url, FolderStore)
    assert by_path._root == by_url._root == folder
    assert not folder.exists()


@pytest.mark.parametrize(
    "url", ["", "http://host/bucket", "gs://bucket", "s3://", "file://host/share"]
)
def test_unknown_url_is_refused(url: str) -> None:
    """A URL of another kind is refused with the kinds that are known."""
    with pytest.raises(StoreRefusedError, match="s3://bucket/prefix"):
        open_store(url, None)


def test_refusal_of_a_url_does_not_repeat_its_password() -> None:
    """A mistyped URL with a password in it never reaches a message."""
    with pytest.raises(StoreRefusedError) as caught:
        open_store("https://user:hunter2@host/bucket", None)
    assert "hunter2" not in str(caught.value)


def test_secret_key_is_not_in_the_representation() -> None:
    """Printing the configuration never prints the secret."""
    config = S3Config(access_key_id="id", secret_access_key="hunter2")
    assert "hunter2" not in repr(config)


def test_importing_the_package_leaves_boto3_out() -> None:
    """Commands that use a folder do not pay for boto3."""
    code = (
        "import sys, storage.objects as o; o.open_store('x', None); "
        "sys.exit(any(n.split('.')[0] in {'boto3', 'botocore'} for n in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
