# SPDX-License-Identifier: Apache-2.0
"""Which items failed, and where any item is, can be asked for and is recorded."""

import json
from pathlib import Path

import pytest

import affidavit
from ledger.entries import Action, Entry
from tests.support.workspace import Workspace, photograph


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run of six items, two of which failed."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("lists")).lay_out(4)
    photos = workspace.folder / "photos"
    (photos / "0002.png").write_bytes(b"")
    (photos / "more").mkdir()
    photograph(7).save(photos / "more" / "0001.png")
    (photos / "more" / "new\nline.png").write_text("no picture")
    workspace.run(workspace.write_spec())
    return workspace


def _readings(workspace: Workspace) -> list[Entry]:
    bodies = [row["body"] for row in workspace.rows("ledger_outbox")]
    bodies += [row["body"] for row in workspace.rows("ledger_entries")]
    entries = [Entry.parse(body) for body in bodies]
    return [entry for entry in entries if entry.action is Action.RESULTS_READ]


def test_failed_items_are_listed_one_a_line(finished: Workspace) -> None:
    """`items --failed` gives place, status, reason and file; control characters not."""
    answer = finished.call("items", "latest", "--failed")
    assert (answer.code, answer.err) == (0, "")
    photos = finished.folder / "photos"
    assert [line.split(maxsplit=3) for line in answer.out.splitlines()] == [
        ["2", "failed", "file_empty", f"{photos}/0002.png"],
        ["5", "failed", "not_an_image", f"{photos}/more/new\\nline.png"],
    ]
    everything = finished.call("items", "latest").out.splitlines()
    assert [line.split()[1] for line in everything] == [
        *("done", "done", "failed", "done", "done", "failed"),
    ]


def test_the_list_is_one_document_with_json(finished: Workspace) -> None:
    """`items --json` has every item with its outcome, and says how many there are."""
    run = finished.rows("runs")[0]
    document = finished.call("items", "latest", "--json").document
    assert (document["run"], document["state"]) == (run["id"], "done")
    assert document["count"] == len(document["items"]) == 6
    assert document["items"][2] == {
        "item_index": 2,
        "item_id": finished.rows("items")[2]["item_id"],
        "uri": str(finished.folder / "photos" / "0002.png"),
        "status": "failed",
        "reason": "file_empty",
        "predicted": None,
        "target": None,
        "label": None,
        "score": None,
    }
    failed = finished.call("items", "latest", "--failed", "--json").document
    assert failed["items"] == [document["items"][2], document["items"][5]]


def test_a_reading_is_one_entry(finished: Workspace) -> None:
    """The ledger tells of each list that was read, once and without its content."""
    before = len(_readings(finished))
    finished.call("items", "latest", "--failed")
    new = _readings(finished)[before:]
    assert [(entry.object, dict(entry.details)) for entry in new] == [
        (f"run/{finished.rows('runs')[0]['id']}", {"items": "failed"})
    ]


def test_the_report_lists_failed_items(finished: Workspace, tmp_path: Path) -> None:
    """The JSON and the page name the files that failed, with the reason."""
    finished.call("report", "latest", "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_bytes())
    failed = report["scope"]["failed_items"]
    assert failed["more"] == 0
    assert [(f["item_index"], f["name"], f["reason"]) for f in failed["listed"]] == [
        (2, "0002.png", "file_empty"),
        (5, "new\nline.png", "not_an_image"),
    ]
    page = (tmp_path / "report.html").read_text()
    assert "0002.png" in page
    assert f"affidavit items {report['run']['id']} --failed" in page


def test_results_say_where_items_are(finished: Workspace) -> None:
    """The table of results has the URI of each item."""
    with finished.environment():
        frame = affidavit.results()
    assert list(frame["uri"][:2]) == [
        str(finished.folder / "photos" / name) for name in ("0000.png", "0001.png")
    ]


def test_an_item_is_shown_by_its_file(finished: Workspace) -> None:
    """`show` takes a name that one item has, and prints where the item is."""
    answer = finished.call("show", "latest", "0003.png", "--out", "x.png")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("Item 3 of run")
    assert f"  input      {finished.folder}/photos/0003.png\n" in answer.out
    several = finished.call("show", "latest", "0001.png")
    assert several.code == 2
    assert "Several items of run" in several.err
    assert "(items 1, 4)" in several.err
    assert "Item 4" in finished.call("show", "latest", "more/0001.png").out
