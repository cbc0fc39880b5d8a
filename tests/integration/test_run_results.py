# SPDX-License-Identifier: Apache-2.0
"""What a run's result depends on, and runs of which little or nothing is left."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.manifest_slice import as_manifest_item
from pipeline.planning import prepare
from pipeline.preparing import PreparedItem
from pipeline.services import Services
from pipeline.settings import load_settings
from storage.tables import LocationTable
from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten photographs, one of them empty, and a first run of them."""
    place = Workspace(folder=tmp_path_factory.mktemp("results") / "work").lay_out(9)
    (place.folder / "photos" / "0009.png").write_bytes(b"")
    first = place.run(place.write_spec(metrics=["max_sensitivity"]))
    (place.folder / "first.json").write_text(json.dumps(first))
    return place


def _digest(workspace: Workspace, **sections: Any) -> str:
    spec = workspace.write_spec("next.yaml", metrics=["max_sensitivity"], **sections)
    return str(workspace.run(spec)["result_digest"])


def _first(workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.folder / "first.json").read_text())
    return document


def test_the_same_audit_gives_the_same_digest_and_other_names(
    workspace: Workspace,
) -> None:
    """Twice the same run is one digest, although ids and moments differ."""
    again = workspace.run(workspace.folder / "audit.yaml")
    first = _first(workspace)
    assert again["result_digest"] == first["result_digest"]
    assert again["run"] != first["run"]
    items = workspace.rows("items")
    assert len({row["item_id"] for row in items}) == len(items)


def test_shards_and_places_do_not_change_the_digest(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Another shard size or folder gives the same digest, byte for byte the same maps.

    Items then lie in other shards, and their batches are the same ones.
    """
    first = _first(workspace)
    assert _digest(workspace, run={"shard_size": 8}) == first["result_digest"]
    assert len(first["artifacts"]) == 3
    shutil.copytree(workspace.folder / "photos", tmp_path / "moved" / "photos")
    moved = Workspace(folder=tmp_path / "moved")
    (moved.folder / "tiny.pt").write_bytes((workspace.folder / "tiny.pt").read_bytes())
    spec = moved.write_spec(metrics=["max_sensitivity"], run={"shard_size": 100})
    document = moved.run(spec)
    assert document["result_digest"] == first["result_digest"]
    assert len(document["artifacts"]) == 1

    def numbers(run: dict[str, Any]) -> list[Any]:
        columns = ["item_index", "map", "map_scale", "score", "cut", "metrics"]
        return [
            row
            for place in run["artifacts"]
            for row in pq.read_table(place, columns=columns).to_pylist()
        ]

    assert numbers(document) == numbers(first)


@pytest.mark.parametrize(
    "sections",
    [{"run": {"batch_size": 2}}, {"run": {"seed": 1}}, {"threshold": {"keep": 0.2}}],
    ids=str,
)
def test_batch_size_seed_and_fraction_change_the_digest(
    workspace: Workspace, sections: dict[str, Any]
) -> None:
    """Whatever decides last bits or draws gives another digest."""
    assert _digest(workspace, **sections) != _first(workspace)["result_digest"]


def test_two_audits_that_differ_in_their_data_only_keep_their_own_report(
    workspace: Workspace,
) -> None:
    """A report names the data of its own run, also where the digests agree."""
    others = workspace.folder / "others"
    if not others.exists():
        shutil.copytree(workspace.folder / "photos", others)
    document = workspace.run(
        workspace.write_spec(
            "others.yaml", metrics=["max_sensitivity"], data={"source": "others/"}
        )
    )
    assert document["result_digest"] == _first(workspace)["result_digest"]
    report = json.loads(Path(document["report_json"]).read_bytes())
    assert report["scope"]["source"] == "others/"


def test_a_report_tells_no_folder_and_says_how_to_verify(workspace: Workspace) -> None:
    """The report has no path of the planning machine; its command names the key."""
    document = _first(workspace)
    text = Path(document["report_json"]).read_text()
    assert str(workspace.folder) not in text
    report = json.loads(text)
    command = report["evidence"]["verify_command"]
    vkey = (workspace.home / "ledger.key.pub").read_text().strip()
    assert command == f"affidavit verify {document['run']} --key {vkey}"
    assert workspace.call(*command.split()[1:]).code == 0


def test_a_run_of_which_every_item_fails_has_a_report(tmp_path: Path) -> None:
    """Without a single explanation there is a report; criteria cannot be judged."""
    place = Workspace(folder=tmp_path / "work").lay_out(0)
    for number in range(3):
        (place.folder / "photos" / f"{number}.png").write_text("no picture")
    document = place.run(place.write_spec(metrics=["completeness"]))
    assert document["items"] == {"total": 3, "done": 0, "failed": 3}
    assert document["reasons"] == {"not_an_image": 3}
    assert len(document["result_digest"]) == 64
    assert place.call("verify", "latest").code == 0
    shown = place.call("show", "latest", "0", "--json")
    assert (shown.code, shown.document["overlay"]) == (0, None)
    spec = place.write_spec(
        metrics=["completeness"], criteria=["completeness_energy.mean >= 0.1"]
    )
    answer = place.call("run", spec, "--json")
    assert answer.code == 1
    assert [each["verdict"] for each in answer.document["criteria"]] == ["incomplete"]
    assert answer.document["criteria"][0]["observed"] is None


def test_an_empty_place_in_a_batch_is_no_item(workspace: Workspace) -> None:
    """A batch shorter than the batch size gives as many results as it has items."""
    with workspace.environment():
        services = Services(settings=load_settings(), actor="user/test")
        audit = prepare(services, workspace.write_spec("short.yaml"))
        row = LocationTable(item_index=0, item_id="0", uri="/nothing", groups={})
        item = PreparedItem(item=as_manifest_item(row))
        with audit.executor.session():
            output = audit.executor.explain_batch([item])
        services.close()
    assert [result.status.value for result in output.results] == ["failed"]
    assert not output.halved
