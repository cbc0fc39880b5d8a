# SPDX-License-Identifier: Apache-2.0
"""One embedded run on every database and object store, from the command line."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.packing import ARTIFACT_SCHEMA
from pipeline.settings import load_settings
from storage.objects import open_store
from tests.support.places import StorePlace
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(
    tmp_path: Path, database_url: str, object_store_place: StorePlace
) -> Workspace:
    """A workspace whose database and store are those of the backends."""
    return Workspace(
        folder=tmp_path / "work",
        variables={
            "AFFIDAVIT_DATABASE_URL": database_url,
            **object_store_place.environment(),
        },
    ).lay_out(6)


def test_an_embedded_run_works_on_every_backend(
    workspace: Workspace, object_store_place: StorePlace, tmp_path: Path
) -> None:
    """Items, artifacts, report, bundle and verdict are there on each backend."""
    (workspace.folder / "photos" / "0003-empty.png").write_bytes(b"")
    spec = workspace.write_spec(metrics=["completeness"])
    assert workspace.call("db", "upgrade").code == 0

    document = workspace.run(spec)
    assert document["state"] == "done"
    assert document["items"] == {"total": 7, "done": 6, "failed": 1}
    assert document["reasons"] == {"file_empty": 1}

    store = open_store(object_store_place.url, object_store_place.s3)
    prefix = f"runs/{document['run']}/shards/"
    keys = sorted(store.keys(prefix))
    assert [place.rpartition("/")[2] for place in document["artifacts"]] == [
        key.rpartition("/")[2] for key in keys
    ]
    rows = []
    for number, key in enumerate(keys):
        local = tmp_path / f"{number}.parquet"
        with store.open(key) as stream:
            local.write_bytes(stream.read())
        table = pq.read_table(local)
        assert table.schema.equals(ARTIFACT_SCHEMA)
        assert table.schema.metadata[b"spec_digest"].decode() == document["spec_digest"]
        assert (
            table.schema.metadata[b"model_digest"].decode()
            == (document["model_digest"])
        )
        rows += table.to_pylist()
    assert [row["item_index"] for row in rows] == list(range(7))
    assert [row["status"] for row in rows].count("done") == 6

    out = tmp_path / "out"
    answer = workspace.call(
        "report", "latest", "--out", out, "--bundle", tmp_path / "b.zip", "--json"
    )
    assert answer.code == 0, answer.err
    report = json.loads((out / "report.json").read_bytes())
    assert report["provenance"]["digests"]["result"] == document["result_digest"]
    assert (out / "report.html").stat().st_size > 10_000

    assert workspace.call("verify", document["run"]).code == 0
    assert workspace.call("verify", tmp_path / "b.zip").code == 0
    assert workspace.call("show", "latest", "0", "--out", tmp_path / "0.png").code == 0
    with workspace.environment():
        assert load_settings().resolved_object_store_url == object_store_place.url
