# SPDX-License-Identifier: Apache-2.0
"""What every object store promises, shown on a folder and on a real S3 server."""

import dataclasses
import hashlib
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.objects import (
    DigestMismatchError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    open_store,
)
from storage.objects.s3 import S3Store, s3_client
from tests.support.places import StorePlace
from tests.support.servers import S3Server

ODD_KEYS = [
    "a b",
    "a+b",
    "a%20b",
    "a%2Fb",
    "a#b?c&d=e",
    "a..b/c.",
    "a~b@c!d$e'(f),;:g",
    'a<b>c|d*e"f',
    "ünïcode/日本語/🙂",
    "e\u0301",
    "x" * 200,
    "/".join(["deep"] * 60),
]
LARGE_BYTES = 40 << 20  # more than one part on S3


def _put(store: ObjectStore, key: str, content: bytes) -> ObjectInfo:
    digest = hashlib.sha256(content).hexdigest()
    return store.put(key, io.BytesIO(content), sha256=digest)


def _get(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


class _BrokenStream(io.BytesIO):
    """A source that fails after its first piece, as a cut connection does."""

    def __init__(self) -> None:
        super().__init__(b"first piece")
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > 1:
            raise RuntimeError("the source broke off")
        return super().read(size)


class _PausingStream(io.BytesIO):
    """A source that waits before its last bytes until it is told to go on."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.has_paused = threading.Event()
        self.may_end = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if not content:
            self.has_paused.set()
            self.may_end.wait(20)
        return content


def test_object_comes_back_as_it_was_put(object_store: ObjectStore) -> None:
    """What was put is read back byte for byte, and described truly."""
    before = time.time()
    info = _put(object_store, "runs/r/a1.parquet", b"content")
    assert _get(object_store, "runs/r/a1.parquet") == b"content"
    assert info.key == "runs/r/a1.parquet"
    assert info.size_bytes == 7
    assert info.sha256 == hashlib.sha256(b"content").hexdigest()
    assert before - 2 <= info.modified_at <= time.time() + 2


def test_stat_agrees_with_put(object_store: ObjectStore) -> None:
    """`stat` tells what `put` told; a digest it tells is the true one."""
    told = _put(object_store, "a", b"content")
    seen = object_store.stat("a")
    assert (seen.key, seen.size_bytes) == (told.key, told.size_bytes)
    assert seen.modified_at == pytest.approx(told.modified_at, abs=2)
    assert seen.sha256 in {None, told.sha256}


def test_put_takes_the_rest_of_the_stream(object_store: ObjectStore) -> None:
    """Bytes before the stream's position are not part of the object."""
    source = io.BytesIO(b"header" + b"body")
    source.seek(6)
    object_store.put("a", source, sha256=hashlib.sha256(b"body").hexdigest())
    assert _get(object_store, "a") == b"body"


def test_handle_can_seek(object_store: ObjectStore) -> None:
    """A Parquet reader starts at the end: the handle must be able to jump."""
    _put(object_store, "a", b"0123456789")
    with object_store.open("a") as file:
        file.seek(-3, io.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


def test_empty_object_is_an_object(object_store: ObjectStore) -> None:
    """No bytes are content too."""
    assert _put(object_store, "empty", b"").size_bytes == 0
    assert _get(object_store, "empty") == b""
    assert list(object_store.keys("")) == ["empty"]


def test_large_object_survives_whole(object_store: ObjectStore) -> None:
    """An object of several parts comes back whole and can be put again."""
    content = hashlib.shake_256(b"large").digest(1 << 20) * (LARGE_BYTES >> 20)
    assert _put(object_store, "large", content).size_bytes == LARGE_BYTES
    assert _put(object_store, "large", content).size_bytes == LARGE_BYTES
    assert _get(object_store, "large") == content


def test_same_content_again_is_fine(object_store: ObjectStore) -> None:
    """A repeated put, as after a lost answer, changes nothing and is no error."""
    first = _put(object_store, "a", b"same")
    second = _put(object_store, "a", b"same")
    assert (second.sha256, second.modified_at) == (first.sha256, first.modified_at)
    assert list(object_store.keys("")) == ["a"]


def test_other_content_under_a_key_is_refused(object_store: ObjectStore) -> None:
    """Evidence is written once: the first content stays."""
    _put(object_store, "a", b"first")
    with pytest.raises(ObjectExistsError):
        _put(object_store, "a", b"other")
    assert _get(object_store, "a") == b"first"


@pytest.mark.parametrize("content", [b"wrong", b"", b"x" * (33 << 20)])
def test_digest_mismatch_leaves_nothing(
    object_store: ObjectStore, content: bytes
) -> None:
    """Bytes that are not the announced ones are not stored, nor any trace of them."""
    with pytest.raises(DigestMismatchError):
        object_store.put("runs/a", io.BytesIO(content), sha256="0" * 64)
    with pytest.raises(ObjectNotFoundError):
        object_store.stat("runs/a")
    assert list(object_store.keys("")) == []


def test_digest_mismatch_is_found_under_an_existing_key(
    object_store: ObjectStore,
) -> None:
    """Wrong bytes are named as such even where the key already holds the right ones."""
    _put(object_store, "a", b"right")
    digest = hashlib.sha256(b"right").hexdigest()
    with pytest.raises(DigestMismatchError):
        object_store.put("a", io.BytesIO(b"wrong"), sha256=digest)
    assert _get(object_store, "a") == b"right"


def test_broken_source_leaves_nothing(object_store: ObjectStore) -> None:
    """A source that fails half-way leaves no object, and its own error comes out."""
    with pytest.raises(RuntimeError, match="broke off"):
        object_store.put("a", _BrokenStream(), sha256="0" * 64)
    assert list(object_store.keys("")) == []
    _put(object_store, "a", b"second try")


def test_broken_source_leaves_no_temporary_file(tmp_path: Path) -> None:
    """The folder holds no half-written file after a failure."""
    store = open_store(str(tmp_path), None)
    with pytest.raises(RuntimeError, match="broke off"):
        store.put("a", _BrokenStream(), sha256="0" * 64)
    with pytest.raises(DigestMismatchError):
        store.put("a", io.BytesIO(b"wrong"), sha256="0" * 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_object_is_invisible_until_it_is_whole(object_store: ObjectStore) -> None:
    """While a writer is at work, readers see no object and no key."""
    source = _PausingStream(b"slow")
    digest = hashlib.sha256(b"slow").hexdigest()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(object_store.put, "runs/a", source, sha256=digest)
        try:
            assert source.has_paused.wait(20)
            with pytest.raises(ObjectNotFoundError):
                object_store.stat("runs/a")
            with pytest.raises(ObjectNotFoundError), object_store.open("runs/a"):
                pass
            assert list(object_store.keys("")) == []
        finally:
            source.may_end.set()
        writing.result(20)
    assert _get(object_store, "runs/a") == b"slow"


def test_readers_never_see_a_part(object_store: ObjectStore) -> None:
    """Readers that poll while a large object is stored get all of it or nothing."""
    stop = threading.Event()
    seen: list[int] = []

    def poll() -> None:
        while not stop.is_set():
            try:
                content = _get(object_store, "large")
            except ObjectNotFoundError:
                time.sleep(0.002)
            else:
                seen.append(len(content))
                return

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(poll) for _ in range(2)]
        try:
            _put(object_store, "large", b"\x5a" * LARGE_BYTES)
            for reader in readers:
                reader.result(30)
        finally:
            stop.set()
    assert seen == [LARGE_BYTES, LARGE_BYTES]


@pytest.fixture(params=["folder", "moto"])
def atomic_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Return an empty store that replaces an object in one step, as S3 promises.

    `rclone serve s3` truncates the file, then writes it, and keeps the metadata apart.
    """
    if request.param == "folder":
        return open_store(str(tmp_path), None)
    server = request.getfixturevalue("moto_s3")
    assert isinstance(server, S3Server)
    return open_store(f"s3://{server.create_bucket()}", server.config)


def test_many_writers_of_the_same_content_agree(atomic_store: ObjectStore) -> None:
    """Writers who store the same bytes at the same moment all succeed."""
    content = b"agreed" * 1000
    start = threading.Barrier(6)

    def write() -> ObjectInfo:
        start.wait(20)
        return _put(atomic_store, "runs/same", content)

    with ThreadPoolExecutor(6) as pool:
        told = [task.result(30) for task in [pool.submit(write) for _ in range(6)]]
    assert {info.size_bytes for info in told} == {len(content)}
    assert _get(atomic_store, "runs/same") == content
    assert list(atomic_store.keys("")) == ["runs/same"]


def _write_rival_contents(store: ObjectStore) -> tuple[list[bytes], bytes]:
    """Return what the winners wrote and what the key holds, after a race of six."""
    start = threading.Barrier(6)

    def write(number: int) -> bytes | None:
        content = b"%d" % number * 1000
        start.wait(20)
        try:
            _put(store, "runs/rival", content)
        except ObjectExistsError:
            return None
        return content

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(write, range(6)))
    return [won for won in results if won is not None], _get(store, "runs/rival")


def test_rivals_leave_one_whole_content(atomic_store: ObjectStore) -> None:
    """Of writers with other bytes one content stays, whole, and its writer was told."""
    winners, held = _write_rival_contents(atomic_store)
    assert held in winners


def test_one_rival_wins_in_a_folder(tmp_path: Path) -> None:
    """In a folder exactly one of the rivals succeeds, every time."""
    for round_number in range(20):
        store = open_store(str(tmp_path / str(round_number)), None)
        winners, held = _write_rival_contents(store)
        assert winners == [held]


def test_keys_are_sorted_by_their_bytes(object_store: ObjectStore) -> None:
    """The order is that of the UTF-8 bytes, folders or not."""
    keys = ["a", "a b/x", "a.txt", "b/1", "b/1.a/x", "b/10", "b/2", "b/2-", "Z", "é"]
    for key in reversed(keys):
        _put(object_store, key, b"")
    assert list(object_store.keys("")) == sorted(keys, key=str.encode)


def test_prefix_is_text_and_not_a_folder(object_store: ObjectStore) -> None:
    """`runs/1` finds `runs/1/a` and `runs/12/b`; `runs/1/` only the former."""
    for key in ["runs/1/a", "runs/12/b", "runs/2/c", "run", "runs1"]:
        _put(object_store, key, b"")
    assert list(object_store.keys("runs/1")) == ["runs/1/a", "runs/12/b"]
    assert list(object_store.keys("runs/1/")) == ["runs/1/a"]
    assert list(object_store.keys("runs/1/a")) == ["runs/1/a"]
    assert list(object_store.keys("runs/3")) == []
    assert list(object_store.keys("nothing/here")) == []


def test_keys_of_several_pages_come_as_a_stream(s3_place: StorePlace) -> None:
    """More keys than S3 lists at a time all come, in order, and lazily."""
    store = open_store(s3_place.url, s3_place.s3)
    assert isinstance(store, S3Store)
    keys = [f"many/{number % 7}/{number:05d}" for number in range(1100)]
    for key in keys:  # one request each, where `put` makes three
        store._client.put_object(Bucket=store._bucket, Key=store._name(key))
    listing = store.keys("many/")
    assert next(listing) == "many/0/00000"
    assert [*listing] == sorted(keys)[1:]


def test_prefix_that_climbs_is_refused(object_store: ObjectStore) -> None:
    """A listing cannot look outside the store."""
    with pytest.raises(InvalidKeyError):
        object_store.keys("../")


def test_deleted_object_is_gone_and_stays_gone(object_store: ObjectStore) -> None:
    """Erasure can be repeated, and leaves its neighbours alone."""
    _put(object_store, "runs/a", b"1")
    _put(object_store, "runs/b", b"2")
    object_store.delete("runs/a")
    object_store.delete("runs/a")
    with pytest.raises(ObjectNotFoundError):
        object_store.stat("runs/a")
    assert list(object_store.keys("")) == ["runs/b"]


def test_key_can_be_used_again_after_deletion(object_store: ObjectStore) -> None:
    """Write-once holds for what is there, not for what was erased."""
    _put(object_store, "a", b"old")
    object_store.delete("a")
    _put(object_store, "a", b"new")
    assert _get(object_store, "a") == b"new"


def test_deleting_a_folder_of_objects_deletes_none(tmp_path: Path) -> None:
    """In a folder a key that is only the beginning of others names nothing."""
    store = open_store(str(tmp_path), None)
    _put(store, "runs/a", b"1")
    store.delete("runs")
    assert _get(store, "runs/a") == b"1"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_key_is_kept_exactly(object_store: ObjectStore, key: str) -> None:
    """A key with spaces, escapes or foreign letters is neither changed nor merged."""
    _put(object_store, key, key.encode())
    assert _get(object_store, key) == key.encode()
    assert object_store.stat(key).key == key
    assert list(object_store.keys("")) == [key]
    object_store.delete(key)
    assert list(object_store.keys("")) == []


@pytest.mark.parametrize("key", ["", "../a", "/a", "a//b", "a/..", "a\x00b"])
def test_malformed_key_is_refused_by_every_verb(
    object_store: ObjectStore, key: str
) -> None:
    """No verb takes a key that could mean a place outside the store."""
    with pytest.raises(InvalidKeyError):
        _put(object_store, key, b"")
    with pytest.raises(InvalidKeyError), object_store.open(key):
        pass
    with pytest.raises(InvalidKeyError):
        object_store.stat(key)
    with pytest.raises(InvalidKeyError):
        object_store.delete(key)


@pytest.mark.parametrize("key", ["none", "a/none", "a/b/none", "a"])
def test_missing_object_is_not_found(object_store: ObjectStore, key: str) -> None:
    """A key without an object is said to have none, also where it is a folder."""
    _put(object_store, "a/b", b"1")
    with pytest.raises(ObjectNotFoundError):
        object_store.stat(key)
    with pytest.raises(ObjectNotFoundError), object_store.open(key):
        pass


def test_error_inside_the_block_is_the_callers(object_store: ObjectStore) -> None:
    """What a reader raises while it holds the handle comes out unchanged."""
    _put(object_store, "a", b"1")
    with pytest.raises(FileNotFoundError, match="mine"), object_store.open("a"):
        raise FileNotFoundError("mine")


def test_key_below_an_object_is_refused_in_a_folder(tmp_path: Path) -> None:
    """A folder cannot hold both `a` and `a/b`, and says which key is at fault."""
    store = open_store(str(tmp_path), None)
    _put(store, "a", b"1")
    with pytest.raises(InvalidKeyError, match="'a/b/c'"):
        _put(store, "a/b/c", b"2")
    _put(store, "b/c", b"3")
    with pytest.raises(InvalidKeyError, match="'b'"):
        _put(store, "b", b"4")


def test_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A path that names a file is a setting to correct."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    store = open_store(str(path), None)
    with pytest.raises(StoreRefusedError, match="folder"):
        _put(store, "a", b"1")
    with pytest.raises(StoreRefusedError, match="folder"):
        store.stat("a")


def test_reading_creates_no_folder(tmp_path: Path) -> None:
    """A command that only looks leaves no trace on the disk."""
    root = tmp_path / "objects"
    store = open_store(str(root), None)
    assert list(store.keys("")) == []
    store.delete("a")
    with pytest.raises(ObjectNotFoundError):
        store.stat("a")
    assert not root.exists()


@pytest.mark.parametrize("is_known", [True, False])
def test_wrong_credentials_are_refused(s3_place: StorePlace, *, is_known: bool) -> None:
    """Every verb with a wrong key says that the credentials are to be corrected."""
    assert s3_place.s3 is not None
    wrong = dataclasses.replace(
        s3_place.s3,
        access_key_id=s3_place.s3.access_key_id if is_known else "unknown",
        secret_access_key="wrong",
    )
    store = open_store(s3_place.url, wrong)
    with pytest.raises(StoreRefusedError, match="access key"):
        _put(store, "a", b"1")
    with pytest.raises(StoreRefusedError, match="access key"):
        store.stat("a")
    with pytest.raises(StoreRefusedError, match="access key"), store.open("a"):
        pass
    with pytest.raises(StoreRefusedError, match="access key"):
        list(store.keys(""))
    with pytest.raises(StoreRefusedError, match="access key"):
        store.delete("a")


def test_missing_bucket_is_refused(s3_place: StorePlace) -> None:
    """A missing bucket is not taken for a missing object."""
    store = open_store("s3://no-such-bucket/prefix", s3_place.s3)
    with pytest.raises(StoreRefusedError, match="no-such-bucket"):
        _put(store, "a", b"1")
    with pytest.raises(StoreRefusedError, match="no-such-bucket"):
        store.stat("a")
    with pytest.raises(StoreRefusedError, match="no-such-bucket"), store.open("a"):
        pass
    with pytest.raises(StoreRefusedError, match="no-such-bucket"):
        list(store.keys(""))


def test_stores_below_other_prefixes_do_not_meet(s3_place: StorePlace) -> None:
    """Two prefixes of one bucket are two stores."""
    bucket = s3_place.url.split("/")[2]
    one = open_store(f"s3://{bucket}/one", s3_place.s3)
    ten = open_store(f"s3://{bucket}/one0/", s3_place.s3)
    _put(one, "a", b"1")
    _put(ten, "a", b"2")
    assert _get(one, "a") == b"1"
    assert list(ten.keys("")) == ["a"]
    assert sorted(open_store(f"s3://{bucket}", s3_place.s3).keys("")) == [
        "one/a",
        "one0/a",
    ]


def test_server_that_is_down_is_unavailable_within_seconds(
    s3_place: StorePlace, s3_server: S3Server
) -> None:
    """A stopped server is reported soon, and the same store works once it is back."""
    store = open_store(s3_place.url, s3_place.s3)
    _put(store, "a", b"1")
    s3_server.kill()
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            _put(store, "b", b"2")
        with pytest.raises(StoreUnavailableError):
            store.stat("a")
        assert time.monotonic() - began < 20
    finally:
        s3_server.restart()
    assert _get(store, "a") == b"1"


def test_digest_survives_a_server_that_forgot_it(
    s3_place: StorePlace, s3_server: S3Server
) -> None:
    """Where the metadata are lost, write-once is judged by the bytes themselves."""
    store = open_store(s3_place.url, s3_place.s3)
    _put(store, "a", b"1")
    s3_server.restart()
    assert store.stat("a").sha256 is None
    assert _put(store, "a", b"1").sha256 == hashlib.sha256(b"1").hexdigest()
    with pytest.raises(ObjectExistsError):
        _put(store, "a", b"2")


def _conditional_store(server: S3Server) -> ObjectStore:
    server.ensure_running()
    return open_store(f"s3://{server.create_bucket()}/prefix", server.config)


def test_conditional_write_keeps_the_first_content(moto_s3: S3Server) -> None:
    """With If-None-Match a rival that appears after the look is not overwritten."""
    store = _conditional_store(moto_s3)
    assert isinstance(store, S3Store)
    _put(store, "a", b"first")
    # The one way to come between the look and the write: upload without the look.
    store._upload("a", io.BytesIO(b"other"), 5, hashlib.sha256(b"other").hexdigest())
    assert _get(store, "a") == b"first"
    with pytest.raises(ObjectExistsError):
        _put(store, "a", b"other")
    assert _get(store, "a") == b"first"


def test_conditional_write_takes_large_objects(moto_s3: S3Server) -> None:
    """Objects of several parts can be written under the condition too."""
    store = _conditional_store(moto_s3)
    content = b"\x5a" * LARGE_BYTES
    assert _put(store, "large", content).size_bytes == LARGE_BYTES
    told = store.stat("large")
    assert told.sha256 == hashlib.sha256(content).hexdigest()
    assert _put(store, "large", content).modified_at == told.modified_at


def test_an_object_that_a_rival_is_replacing_is_waited_for(moto_s3: S3Server) -> None:
    """A server that replaces in two steps has no object for a moment: put waits."""
    bucket = moto_s3.create_bucket()
    client = s3_client(moto_s3.config)
    gone: list[str] = []

    def vanish(**_: object) -> None:
        if len(gone) < 2:
            gone.append("runs/a")
            s3_client(moto_s3.config).delete_object(Bucket=bucket, Key="runs/a")

    client.meta.events.register("after-call.s3.PutObject", vanish)
    store = S3Store(bucket, "", client)
    assert _put(store, "runs/a", b"kept").size_bytes == 4
    assert _get(store, "runs/a") == b"kept"
    assert len(gone) == 2
