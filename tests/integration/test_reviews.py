# SPDX-License-Identifier: Apache-2.0
"""Reviewers sign reports, parts of runs are computed again, and later reports tell."""

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger.bundle import BundleEntry
from tests.support.workspace import Workspace, photograph


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run of 14 items in 4 batches, one of them no picture."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("reviews") / "w").lay_out(14)
    (workspace.folder / "photos" / "0003.png").write_bytes(b"no picture")
    workspace.run(workspace.write_spec(metrics=["deletion"], model={"sha256": None}))
    return workspace


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of that installation; its inputs are found where they were planned."""
    other = Workspace(folder=tmp_path / "copy", variables=dict(finished.variables))
    shutil.copytree(finished.folder, other.folder)
    return other


def _alter(workspace: Workspace, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(workspace.database)) as connection, connection:
        assert connection.execute(statement, values).rowcount >= 1


def _entries(workspace: Workspace, action: str) -> list[dict[str, Any]]:
    bodies = [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]
    return [body for body in bodies if body["action"] == action]


def test_a_whole_run_is_computed_again_bit_for_bit(copy: Workspace) -> None:
    """All items, the failed one included, give their records; the ledger says so."""
    answer = copy.call("reverify", "latest", "--fraction", "1", "--json")
    assert answer.code == 0, answer.err
    found = answer.document
    assert (found["verdict"], found["items"], found["batches"]) == ("agrees", 14, 4)
    assert (found["same"], found["differing"], found["not_computed"]) == (14, 0, 0)
    (entry,) = _entries(copy, "run:reverified")
    assert entry["digest"] == copy.rows("runs")[0]["result_digest"]
    assert entry["details"]["fraction"] == "1.0"
    assert entry["details"]["root"] == found["root"]
    verified = copy.call("verify", "latest", "--json").document
    assert verified["ok"], verified["failures"]
    assert verified["reverifications"][0]["verdict"] == "agrees"


def test_a_fraction_draws_whole_batches_and_another_root_other_ones(
    copy: Workspace,
) -> None:
    """A twentieth is one batch here; each entry moves the root and so the draw."""
    roots = set()
    for _ in range(2):
        found = copy.call("reverify", "latest", "--json").document
        assert (found["batches"], found["verdict"]) == (1, "agrees")
        assert found["items"] in {2, 4}
        roots.add(found["root"])
    assert len(roots) == 2


def test_a_record_that_was_never_computed_is_found(copy: Workspace) -> None:
    """A row whose digest is another one differs, exit 3, and rows do not hold."""
    _alter(
        copy,
        "UPDATE items SET record_digest = ? WHERE item_index = 5",
        bytes(32),
    )
    answer = copy.call("reverify", "latest", "--fraction", "1", "--json")
    assert answer.code == 3
    found = answer.document
    assert (found["verdict"], found["differing"], found["same"]) == ("differs", 1, 13)
    assert found["differences"][0]["item_index"] == 5
    assert found["rows_hold"] is False
    told = copy.call("reverify", "latest", "--fraction", "1")
    assert told.code == 3
    assert "item 5: stored 0000000000000000" in told.out


def test_inputs_that_are_gone_or_changed_say_nothing(copy: Workspace) -> None:
    """They are counted by reason, nothing differs, and the sentence says what to do."""
    spec = json.loads(copy.rows("runs")[0]["spec"])
    photos = Path(spec["data"]["source"])
    aside = {}
    for name in ("0001.png", "0002.png"):
        aside[name] = (photos / name).read_bytes(), (photos / name).stat()
    try:
        (photos / "0001.png").unlink()
        photograph(99).save(photos / "0002.png")
        answer = copy.call("reverify", "latest", "--fraction", "1")
        assert answer.code == 4
        assert "put the inputs back as they were" in answer.err
        document = json.loads(copy.rows("reverifications")[0]["facts"])
        assert (document["same"], document["differing"]) == (12, 0)
        assert document["reasons"] == {"file_changed": 1, "file_missing": 1}
    finally:
        import os

        for name, (data, stat) in aside.items():
            (photos / name).write_bytes(data)
            os.utime(photos / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("fraction", ["0", "1.5", "-1"])
def test_a_senseless_fraction_is_one_sentence(copy: Workspace, fraction: str) -> None:
    """Bad usage exits 2 and leaves nothing in the ledger."""
    answer = copy.call("reverify", "latest", "--fraction", fraction)
    assert answer.code == 2
    assert "at most 1" in answer.err
    assert not _entries(copy, "run:reverified")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("state", "running", "only a finished run"),
        ("not_comparable", 1, "halved for lack of memory"),
    ],
)
def test_what_cannot_be_computed_again_is_refused(
    copy: Workspace, column: str, value: Any, words: str
) -> None:
    """The sentence says why, and nothing is drawn."""
    _alter(copy, f"UPDATE runs SET {column} = ?", value)  # noqa: S608 - ours
    answer = copy.call("reverify", "latest")
    assert answer.code == 2
    assert words in answer.err


def test_weights_that_changed_are_not_taken_for_the_runs(copy: Workspace) -> None:
    """Another model would differ everywhere; it is refused before."""
    _alter(copy, "UPDATE runs SET model_digest = ?", "0" * 64)
    answer = copy.call("reverify", "latest")
    assert answer.code == 2
    assert "the file was changed since" in answer.err


def test_a_reviewer_signs_the_report(copy: Workspace) -> None:
    """One entry with the digest of the JSON report; `report` and `verify` show it."""
    answer = copy.call(
        *("sign-off", "latest", "--verdict", "accept"),
        *("--comment", "Read with the team.", "--json"),
    )
    assert answer.code == 0, answer.err
    (entry,) = _entries(copy, "report:signed")
    (written,) = _entries(copy, "report:written")
    assert entry["digest"] == written["digest"] == answer.document["report_sha256"]
    assert entry["details"]["verdict"] == "accept"
    assert "team" not in json.dumps(entry)
    shown = copy.call("report", "latest", "--json").document["sign_offs"]
    assert [one["comment"] for one in shown] == ["Read with the team."]
    verified = copy.call("verify", "latest")
    assert verified.code == 0
    assert "Signed: accept by user/" in verified.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--verdict", "reject"), "A rejection needs a reason"),
        (("--verdict", "accept", "--comment", "x" * 1001), "at most 1,000"),
        (("--verdict", "accept", "--comment", "a\nb"), "one line"),
        (("--verdict", "perhaps"), "perhaps"),
    ],
)
def test_a_senseless_sign_off_is_one_sentence(
    copy: Workspace, arguments: tuple[str, ...], words: str
) -> None:
    """Nothing is signed."""
    answer = copy.call("sign-off", "latest", *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert not _entries(copy, "report:signed")


def test_a_report_that_was_altered_is_not_signed(copy: Workspace) -> None:
    """What the reviewer read must be what the ledger names."""
    (report,) = copy.objects.glob("runs/*/report.f*.json")
    report.chmod(0o600)
    report.write_bytes(report.read_bytes().replace(b'"tiny"', b'"tidy"'))
    answer = copy.call("sign-off", "latest", "--verdict", "accept")
    assert answer.code == 3
    assert "was not signed" in answer.err
    assert not _entries(copy, "report:signed")


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE sign_offs SET verdict = 'reject'", "another verdict"),
        ("UPDATE sign_offs SET comment = 'Never read.'", "another comment"),
        ("UPDATE sign_offs SET signed_by = x'00'", "sign_offs.signed_by"),
        ("UPDATE sign_offs SET id = 'other'", "no row of it"),
        ("UPDATE reverifications SET verdict = 'differs'", "another verdict"),
        ("UPDATE reverifications SET facts = '{}'", "another items"),
        ("DELETE FROM reverifications", "no row of it"),
    ],
)
def test_altered_reviews_are_named(copy: Workspace, statement: str, word: str) -> None:
    """Whoever changes a row behind the ledger's back is found by `verify`."""
    accept = ("sign-off", "latest", "--verdict", "accept", "--comment", "Fine.")
    assert copy.call(*accept).code == 0
    assert copy.call("reverify", "latest").code == 0
    assert copy.call("verify", "latest").code == 0
    _alter(copy, statement)
    answer = copy.call("verify", "latest", "--json")
    assert answer.code == 3
    assert any(word in one["message"] for one in answer.document["failures"])


def test_a_deleted_comment_breaks_nothing(copy: Workspace) -> None:
    """A comment may name somebody and go; what was signed stays proven."""
    assert (
        copy.call("sign-off", "latest", "--verdict", "reject", "--comment", "No.").code
        == 0
    )
    _alter(copy, "UPDATE sign_offs SET comment = NULL, comment_salt = NULL")
    assert copy.call("verify", "latest").code == 0


def test_a_stranger_can_check_what_was_said(copy: Workspace) -> None:
    """The bundle has the entries of both, and its verdict does not rest on them."""
    assert copy.call("sign-off", "latest", "--verdict", "accept").code == 0
    assert copy.call("reverify", "latest", "--fraction", "1").code == 0
    assert copy.call("evidence", "latest", "-o", "b.zip").code == 0
    key = (copy.home / "ledger.key.pub").read_text().strip()
    answer = copy.call("verify", "b.zip", "--key", key, "--json")
    assert answer.code == 0, answer.out
    with zipfile.ZipFile(copy.folder / "b.zip") as bundle:
        lines = bundle.read("entries.jsonl").splitlines()
    actions = {json.loads(BundleEntry.parse(line).body)["action"] for line in lines}
    assert {"report:signed", "run:reverified"} <= actions


def test_the_next_report_tells_of_review_and_recomputation(copy: Workspace) -> None:
    """Sections 9 and 13 of the next run's report have both, section 3 both runs."""
    assert copy.call("sign-off", "latest", "--verdict", "accept").code == 0
    assert copy.call("reverify", "latest", "--fraction", "1").code == 0
    spec = copy.write_spec(metrics=["deletion"])
    copy.run(spec)
    assert copy.call("report", "latest", "--out", "out").code == 0
    document = json.loads((copy.folder / "out" / "report.json").read_text())
    assert document["review"]["accepted"] == 1
    assert document["review"]["median_hours"] >= 0
    assert document["reverified"]["listed"][0]["same"] == 14
    assert document["model_record"]["runs"] == 2
    assert [row["runs"] for row in document["model_record"]["versions"]] == [2]
    assert document["model_record"]["threshold_changes"] == 0
    signed = document["evidence"]["signed_size"]
    assert 0 < signed <= document["evidence"]["ledger_size"]
