# SPDX-License-Identifier: Apache-2.0
"""Sources and items in S3, on a real server."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pytest

from pipeline.domain import SourceItem
from pipeline.errors import InfrastructureError, ItemError, Reason, SourceError
from pipeline.paths import AllowedRoots
from pipeline.reading import ItemReader
from pipeline.sources.opening import open_source
from pipeline.sources.source import Source
from pipeline.spec import ColumnsSpec, DataSpec
from storage.objects import S3Config
from storage.objects.s3 import s3_client
from tests.support.servers import S3Server

ROOTS = AllowedRoots(())


@pytest.fixture(params=["s3_server", "moto_s3"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """A running S3 server, once for each kind."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, S3Server)
    found.ensure_running()
    return found


@pytest.fixture
def client(server: S3Server) -> Iterator[Any]:
    """A client of that server."""
    client = s3_client(server.config)
    yield client
    client.close()


@pytest.fixture
def bucket(server: S3Server) -> str:
    """An empty bucket."""
    return server.create_bucket()


def config_of(port: int) -> S3Config:
    """Return how to reach whatever answers S3 calls on that port."""
    return S3Config(
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key_id="nobody",
        secret_access_key="nothing",
        connect_timeout_s=1,
        max_attempts=1,
    )


def opened(client: Any, source: str, **options: Any) -> Source:
    """Return the source at that address."""
    data = DataSpec(source=source, **options)
    return open_source(data, base=Path("/"), roots=ROOTS, s3_client=lambda: client)


def put(client: Any, bucket: str, *keys: str) -> None:
    """Objects of those keys are in the bucket."""
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())


def reason_of(read: Callable[[], object]) -> Reason:
    """Return the reason for which a read fails."""
    with pytest.raises(ItemError) as caught:
        read()
    return caught.value.reason


def test_a_prefix_lists_pictures_in_key_order(client: Any, bucket: str) -> None:
    """Order is that of the key's bytes; neighbours of the prefix are not listed."""
    put(client, bucket, "set/b/x.png", "set/b.png", "set/B.JPG", "set/a/10.tif")
    put(client, bucket, "set/a/2.tif", "set2/x.png", "set/.h/x.png", "set/list.txt")
    expected = ["B.JPG", "a/10.tif", "a/2.tif", "b.png", "b/x.png"]
    for address in (f"s3://{bucket}/set", f"s3://{bucket}/set/"):
        source = opened(client, address, labels="folders")
        items = list(source.items())
        assert source.kind == "s3"
        assert [item.uri for item in items] == [
            f"s3://{bucket}/set/{name}" for name in expected
        ]
        assert [item.label for item in items] == [None, "a", "a", None, "b"]
        assert items == list(source.items())


def test_a_whole_bucket_is_a_prefix(client: Any, bucket: str) -> None:
    """A bucket without a prefix lists everything in it."""
    put(client, bucket, "a.png", "x/b.png")
    for address in (f"s3://{bucket}", f"s3://{bucket}/"):
        items = list(opened(client, address).items())
        expected = [f"s3://{bucket}/a.png", f"s3://{bucket}/x/b.png"]
        assert [item.uri for item in items] == expected


def test_more_objects_than_a_page_are_listed(s3_server: S3Server) -> None:
    """A listing goes on after the thousand keys that one answer holds."""
    s3_server.ensure_running()
    assert s3_server.folder is not None
    bucket = s3_server.create_bucket()
    folder = s3_server.folder / bucket / "p"
    folder.mkdir()
    for number in range(1005):
        (folder / f"{number:04}.png").write_bytes(b"x")
    client = s3_client(s3_server.config)
    items = list(opened(client, f"s3://{bucket}/p").items())
    client.close()
    assert [item.uri[-8:] for item in items] == [f"{n:04}.png" for n in range(1005)]


def test_a_listed_object_is_read_until_it_changes(client: Any, bucket: str) -> None:
    """Size and ETag of the listing hold for the object, and for no other content."""
    put(client, bucket, "p/a.png")
    [item] = opened(client, f"s3://{bucket}/p").items()
    assert item.size_bytes == 7
    assert item.version is not None
    reader = ItemReader(ROOTS, lambda: client)
    assert reader.read(item.uri, item.size_bytes, item.version) == b"p/a.png"
    client.put_object(Bucket=bucket, Key="p/a.png", Body=b"p/b.png")
    changed = reason_of(lambda: reader.read(item.uri, item.size_bytes, item.version))
    assert changed is Reason.FILE_CHANGED


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_in_s3_is_listed(
    client: Any, bucket: str, tmp_path: Path, kind: str
) -> None:
    """Relative rows count from the manifest's own prefix."""
    rows = pd.DataFrame(
        {"path": ["a.png", "../b.png", "s3://o/c.png", "/d.png"], "label": [1, 2, 3, 4]}
    )
    file = tmp_path / f"m.{kind}"
    if kind == "csv":
        rows.to_csv(file, index=False)
    else:
        rows.to_parquet(file)
    client.put_object(Bucket=bucket, Key=f"x/y/m.{kind}", Body=file.read_bytes())
    columns = ColumnsSpec(label="label")
    source = opened(client, f"s3://{bucket}/x/y/m.{kind}", columns=columns)
    assert source.kind == kind
    assert list(source.items()) == [
        SourceItem(uri=f"s3://{bucket}/x/y/a.png", label="1"),
        SourceItem(uri=f"s3://{bucket}/x/b.png", label="2"),
        SourceItem(uri="s3://o/c.png", label="3"),
        SourceItem(uri="/d.png", label="4"),
    ]


def test_a_wrong_manifest_in_s3_is_called_by_its_address(
    client: Any, bucket: str
) -> None:
    """Messages name the object and not the copy that was made of it."""
    client.put_object(Bucket=bucket, Key="m.csv", Body=b"file\na.png\n")
    with pytest.raises(SourceError, match=f"s3://{bucket}/m.csv has no column 'path'"):
        list(opened(client, f"s3://{bucket}/m.csv").items())


def test_a_missing_source_is_refused(client: Any, bucket: str) -> None:
    """A missing bucket or manifest and an empty prefix are each said in a sentence."""
    for address, message in [
        ("s3://no-such-bucket-here/p", "There is nothing at s3://no-such-bucket-here"),
        (f"s3://{bucket}/none.csv", "There is nothing at"),
        (f"s3://{bucket}/none", "holds no picture"),
    ]:
        with pytest.raises(SourceError, match=message):
            list(opened(client, address).items())


def test_a_missing_object_is_an_item_failure(client: Any, bucket: str) -> None:
    """A row whose object or bucket is not there fails alone."""
    reader = ItemReader(ROOTS, lambda: client)
    for uri in (f"s3://{bucket}/none.png", "s3://no-such-bucket-here/a.png"):
        assert reason_of(lambda u=uri: reader.read(u)) is Reason.FILE_MISSING
    assert reason_of(lambda: reader.read("s3://Not_A_Bucket!/a.png")) in {
        Reason.FILE_UNREADABLE,
        Reason.FILE_MISSING,
    }


class _BreaksOff(BaseHTTPRequestHandler):
    """Announces a hundred bytes, sends ten and hangs up."""

    def do_GET(self) -> None:
        """Answer one read."""
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(b"0123456789")
        self.close_connection = True

    def log_message(self, *_parts: object) -> None:
        """Nothing is logged."""


def test_a_connection_that_breaks_off_is_no_item_failure() -> None:
    """Half an object is neither a truncated picture nor a changed file."""
    with HTTPServer(("127.0.0.1", 0), _BreaksOff) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        client = s3_client(config_of(server.server_port))
        try:
            with pytest.raises(InfrastructureError, match="object store"):
                ItemReader(ROOTS, lambda: client).read("s3://bucket/a.png")
            with pytest.raises(InfrastructureError, match="object store"):
                list(opened(client, "s3://bucket/m.csv").items())
        finally:
            client.close()
            server.shutdown()
            thread.join()


def test_a_server_that_is_down_is_no_item_failure() -> None:
    """Neither a listing nor a read blames the data when the server is away."""
    client = s3_client(config_of(9))
    with pytest.raises(InfrastructureError, match="object store did not answer"):
        list(opened(client, "s3://bucket/p").items())
    with pytest.raises(InfrastructureError, match="object store did not answer"):
        ItemReader(ROOTS, lambda: client).read("s3://bucket/a.png")
    client.close()
