# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one item is a reason; what is wrong with a server is not."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

from pipeline.errors import InfrastructureError, ItemError, Reason
from pipeline.limits import Limits
from pipeline.paths import AllowedRoots
from pipeline.reading import ItemReader, mtime_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An allowed folder."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def reader(folder: Path) -> ItemReader:
    """A reader of that folder that takes files of up to 1,000 bytes."""
    return ItemReader(AllowedRoots((folder,)), None, Limits(max_bytes=1000))


def reason_of(read: Callable[[], object]) -> Reason:
    """Return the reason for which a read fails."""
    with pytest.raises(ItemError) as caught:
        read()
    return caught.value.reason


def test_an_unchanged_file_is_read_whole(folder: Path, reader: ItemReader) -> None:
    """A file with the size and the time of the manifest gives its bytes."""
    file = folder / "a.png"
    file.write_bytes(b"x" * 1000)
    version = mtime_version(file.stat().st_mtime_ns)
    assert reader.read(str(file), 1000, version) == b"x" * 1000


def test_a_missing_file_has_its_reason(folder: Path, reader: ItemReader) -> None:
    """A name without a file, or below a file, is missing."""
    (folder / "file").write_bytes(b"x")
    for name in ("none.png", "file/below.png", "n" * 300):
        assert reason_of(lambda n=name: reader.read(f"{folder}/{n}")) is (
            Reason.FILE_MISSING
        )


def test_an_empty_file_has_its_reason(folder: Path, reader: ItemReader) -> None:
    """A file of no bytes is empty, also when the manifest knew it."""
    (folder / "a.png").touch()
    assert reason_of(lambda: reader.read(f"{folder}/a.png")) is Reason.FILE_EMPTY
    assert reason_of(lambda: reader.read(f"{folder}/a.png", 0)) is Reason.FILE_EMPTY


def test_a_large_file_is_not_read(folder: Path, reader: ItemReader) -> None:
    """A file above the limit is refused by its size alone."""
    with (folder / "a.png").open("wb") as file:
        file.truncate(10**12)
    assert reason_of(lambda: reader.read(f"{folder}/a.png")) is Reason.FILE_TOO_LARGE


def test_what_is_no_file_is_unreadable(folder: Path, reader: ItemReader) -> None:
    """A folder or a FIFO is refused at once, without waiting for a writer."""
    (folder / "d.png").mkdir()
    os.mkfifo(folder / "f.png")
    for name in ("d.png", "f.png", "a\0b"):
        assert reason_of(lambda n=name: reader.read(f"{folder}/{n}")) is (
            Reason.FILE_UNREADABLE
        )


def test_a_file_outside_the_roots_has_its_reason(
    folder: Path, reader: ItemReader, tmp_path: Path
) -> None:
    """Neither a path nor a symlink leads the reader out of the allowed roots."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder / "link.png").symlink_to(secret)
    for uri in (str(secret), f"{folder}/link.png", f"{folder}/../secret"):
        assert reason_of(lambda u=uri: reader.read(u)) is Reason.OUTSIDE_ALLOWED_ROOTS


@pytest.mark.parametrize("expected", [(3, None), (None, "mtime:1"), (4, "mtime:1")])
def test_a_changed_file_has_its_reason(
    folder: Path, reader: ItemReader, expected: tuple[int | None, str | None]
) -> None:
    """Another size or time than the manifest's means another content."""
    (folder / "a.png").write_bytes(b"1234")
    changed = reason_of(lambda: reader.read(f"{folder}/a.png", *expected))
    assert changed is Reason.FILE_CHANGED


def test_a_mount_that_is_gone_is_no_item_failure(tmp_path: Path) -> None:
    """When the root itself is missing the shard must be tried again."""
    reader = ItemReader(AllowedRoots((tmp_path / "gone",)))
    with pytest.raises(InfrastructureError, match="mounted"):
        reader.read(f"{tmp_path}/gone/a.png")


class AnsweringS3:
    """Stands for an S3 client whose every read ends in the same way."""

    def __init__(self, answer: Exception | bytes, length: int | None = None) -> None:
        self._answer = answer
        self._length = length

    def get_object(self, **_names: str) -> dict[str, Any]:
        """Return the answer or raise it."""
        if isinstance(self._answer, Exception):
            raise self._answer
        length = len(self._answer) if self._length is None else self._length
        return {
            "Body": StreamingBody(io.BytesIO(self._answer), length),
            "ContentLength": length,
            "ETag": '"tag"',
        }


def s3_reader(answer: Exception | bytes, length: int | None = None) -> ItemReader:
    """Return a reader whose S3 server gives that answer."""
    client = AnsweringS3(answer, length)
    return ItemReader(AllowedRoots(()), lambda: client, Limits(max_bytes=1000))


def client_error(code: str) -> ClientError:
    """Return what boto3 raises for an error code."""
    return ClientError({"Error": {"Code": code}}, "GetObject")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NoSuchKey", Reason.FILE_MISSING),
        ("NoSuchBucket", Reason.FILE_MISSING),
        ("AccessDenied", Reason.FILE_UNREADABLE),
        ("InvalidObjectState", Reason.FILE_UNREADABLE),
    ],
)
def test_what_s3_says_of_an_object_is_a_reason(code: str, reason: Reason) -> None:
    """A missing or forbidden object fails alone."""
    assert reason_of(lambda: s3_reader(client_error(code)).read("s3://b/k")) is reason


@pytest.mark.parametrize(
    "error",
    [
        client_error("SlowDown"),
        client_error("InternalError"),
        client_error("ExpiredToken"),
        client_error("SignatureDoesNotMatch"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        ConnectionResetError(),
    ],
)
def test_a_server_in_trouble_is_no_item_failure(error: Exception) -> None:
    """What another attempt may not see again must not become an item's result."""
    with pytest.raises(InfrastructureError):
        s3_reader(error).read("s3://b/k")


def test_an_object_that_breaks_off_is_no_item_failure() -> None:
    """A body shorter than announced is a broken connection."""
    with pytest.raises(InfrastructureError):
        s3_reader(b"1234", length=10).read("s3://b/k")


def test_an_object_is_checked_like_a_file() -> None:
    """Size, ETag and limit hold for objects as well."""
    reader = s3_reader(b"1234")
    assert reader.read("s3://b/k", 4, "etag:tag") == b"1234"
    changed = Reason.FILE_CHANGED
    assert reason_of(lambda: reader.read("s3://b/k", 5)) is changed
    assert reason_of(lambda: reader.read("s3://b/k", 4, "etag:other")) is changed
    large = s3_reader(b"x" * 1001)
    assert reason_of(lambda: large.read("s3://b/k")) is Reason.FILE_TOO_LARGE
    assert reason_of(lambda: s3_reader(b"").read("s3://b/k")) is Reason.FILE_EMPTY


def test_s3_items_need_a_connection(reader: ItemReader) -> None:
    """Without an S3 connection the run is told so, not the item."""
    with pytest.raises(InfrastructureError, match="no S3 connection"):
        reader.read("s3://b/k")
