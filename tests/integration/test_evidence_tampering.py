# SPDX-License-Identifier: Apache-2.0
"""Whatever is changed behind our back, `verify` exits 3 and names it."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run of two shards, with a failed item and a bundle; never altered."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("genuine")).lay_out(6)
    (workspace.folder / "photos" / "0005.png").write_bytes(b"")
    spec = workspace.write_spec(
        metrics=["completeness"], criteria=["items_failed.count <= 1"]
    )
    workspace.run(spec)
    answer = workspace.call(
        "report", "latest", "--bundle", workspace.folder / "bundle.zip"
    )
    assert answer.code == 0, answer.err
    return workspace


@pytest.fixture
def copy(genuine: Workspace, tmp_path: Path) -> Workspace:
    """The same run in a folder that may be altered."""
    shutil.copytree(genuine.folder, tmp_path / "copy")
    return Workspace(folder=tmp_path / "copy")


@contextlib.contextmanager
def behind_our_back(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """A connection on which the ledger's triggers are gone."""
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        triggers = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        connection.commit()


def _failures(workspace: Workspace) -> list[tuple[str, str]]:
    answer = workspace.call("verify", "latest", "--json")
    assert answer.code == 3, answer.out + answer.err
    assert not answer.document["ok"]
    return [(each["kind"], each["where"]) for each in answer.document["failures"]]


def test_an_untouched_run_verifies(copy: Workspace) -> None:
    """Without any change nothing is named, also where the key is pinned."""
    answer = copy.call("verify", "latest", "--json")
    assert (answer.code, answer.document["failures"]) == (0, [])
    assert not answer.document["key_pinned"]
    public = copy.home / "ledger.key.pub"
    assert copy.call("verify", "latest", "--key", public).code == 0
    pinned = copy.call("verify", "latest", "--json", "--key", public.read_text())
    assert pinned.document["key_pinned"]


def test_no_evidence_holds_without_a_key(copy: Workspace, tmp_path: Path) -> None:
    """Who takes the keys away, with or without forging, gets no good verdict."""
    outside = tmp_path / "outside.pub"
    outside.write_text((copy.home / "ledger.key.pub").read_text())
    (copy.home / "ledger.key.pub").unlink()
    assert copy.call("verify", "latest").code == 0  # the signing key says its half
    (copy.home / "ledger.key.pub").unlink(missing_ok=True)
    (copy.home / "ledger.key").unlink()
    answer = copy.call("verify", "latest", "--json")
    assert answer.code == 4
    assert "--key" in answer.document["error"]["message"]
    assert copy.call("verify", "latest", "--key", outside).code == 0
    with behind_our_back(copy) as connection:
        for row in copy.rows("checkpoints"):
            note = row["note"]
            other = "A" if note[-6] != "A" else "B"
            connection.execute(
                "UPDATE checkpoints SET note = ? WHERE tree_size = ?",
                (note[:-6] + other + note[-5:], row["tree_size"]),
            )
    assert copy.call("verify", "latest").code == 4
    forged_answer = copy.call("verify", "latest", "--key", outside, "--json")
    assert forged_answer.code == 3
    kinds = {each["kind"] for each in forged_answer.document["failures"]}
    assert "bad_signature" in kinds


def test_another_key_is_named(copy: Workspace, tmp_path: Path) -> None:
    """A ledger that another key signed does not verify with the key from outside."""
    other = Workspace(folder=tmp_path / "other")
    other.folder.mkdir()
    vkey = other.call("init", "--json").document["vkey"]
    answer = copy.call("verify", "latest", "--key", vkey, "--json")
    assert answer.code == 3
    assert {f["kind"] for f in answer.document["failures"]} >= {"bad_signature"}


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("*.parquet", "artifact_mismatch"),
        ("report.*.json", "report_mismatch"),
        ("report.*.html", "report_mismatch"),
    ],
)
def test_one_flipped_byte_of_a_file_is_named(
    copy: Workspace, pattern: str, kind: str
) -> None:
    """One bit in any artifact or report is found, and the file named."""
    path = min(copy.objects.rglob(pattern))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert _failures(copy) == [(kind, str(path.relative_to(copy.objects)))]


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("*.parquet", "artifact_missing"), ("report.*.html", "report_mismatch")],
)
def test_a_deleted_file_is_named(copy: Workspace, pattern: str, kind: str) -> None:
    """An artifact or report that is gone is found, and named."""
    path = min(copy.objects.rglob(pattern))
    path.unlink()
    assert _failures(copy) == [(kind, str(path.relative_to(copy.objects)))]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE items SET score = score + 1e-9 WHERE item_index = 2", "item 2"),
        ("UPDATE items SET predicted = 4 - predicted WHERE item_index = 0", "item 0"),
        ("UPDATE items SET label = 1 WHERE item_index = 0", "item 0"),
        ("UPDATE items SET metrics = '{}' WHERE item_index = 0", "item 0"),
        ("UPDATE items SET reason = 'file_missing' WHERE item_index = 5", "item 5"),
        ("UPDATE items SET item_id = 'x' WHERE item_index = 1", "item 1"),
        ("UPDATE items SET shard_index = 1 WHERE item_index = 0", "item 0"),
        ("UPDATE items SET record_digest = x'00' WHERE item_index = 3", "item 3"),
        ("UPDATE items SET input_sha256 = NULL WHERE item_index = 3", "item 3"),
        ("DELETE FROM items WHERE item_index = 3", "shard 0"),
        ("UPDATE shards SET sha256 = 'x' WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET object_key = 'x' WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET size_bytes = 1 WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET attempt = 2 WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET item_count = 1 WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET state = 'dead' WHERE shard_index = 1", "shard 1"),
        ("DELETE FROM shards WHERE shard_index = 1", "shard 1"),
        ("UPDATE runs SET state = 'incomplete'", "run"),
        ("UPDATE runs SET items_total = 7", "run"),
        ("UPDATE runs SET spec_digest = 'x'", "run"),
        ("UPDATE runs SET model_digest = 'x'", "run"),
        ("UPDATE runs SET manifest_digest = 'x'", "run"),
        ("UPDATE runs SET plan = replace(plan, '\"seed\": 0', '\"seed\": 1')", "run"),
        ("UPDATE runs SET spec = replace(spec, 'gradcam', 'hirescam')", "run"),
        ("UPDATE runs SET summary = replace(summary, 'pass', 'fail')", "run"),
        (
            "UPDATE runs SET summary = replace(summary, 'file_empty', 'zero_gradient')",
            "run",
        ),
        ("UPDATE runs SET summary = replace(summary, 'report.f1', 'other')", "run"),
        ("UPDATE locations SET uri = 'x' WHERE item_index = 0", "manifest"),
        ("UPDATE locations SET label = 'cat' WHERE item_index = 0", "manifest"),
        ("UPDATE locations SET item_id = 'x' WHERE item_index = 0", "manifest"),
        ("UPDATE locations SET duplicate_of = 0 WHERE item_index = 1", "manifest"),
        ("UPDATE runs SET not_comparable = 1", "run"),
        ("UPDATE audits SET spec = replace(spec, 'gradcam', 'hirescam')", "audit"),
        ("UPDATE audits SET spec_digest = 'x'", "audit"),
        ("UPDATE audits SET name = 'x'", "audit"),
    ],
)
def test_a_changed_row_is_named(copy: Workspace, change: str, where: str) -> None:
    """A change of any row of items, shards, runs or manifest is found and named."""
    with behind_our_back(copy) as connection:
        assert connection.execute(change).rowcount == 1
    found = _failures(copy)
    assert any(
        kind == "row_mismatch" and place.startswith(where) for kind, place in found
    ), found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE runs SET summary = '[1]'", "run "),
        ("UPDATE runs SET summary = '{'", "run "),
        ("UPDATE runs SET plan = '[1]'", "run "),
        ("UPDATE runs SET items_total = 'x'", "run "),
        ("UPDATE audits SET spec = '{'", "audit "),
        ("UPDATE items SET metrics = '{' WHERE item_index = 1", "item 1"),
        ("UPDATE items SET metrics = '[1]' WHERE item_index = 1", "item 1"),
        ("UPDATE items SET record_digest = 'abc' WHERE item_index = 1", "item 1"),
        ("UPDATE items SET status = x'00' WHERE item_index = 1", "item 1"),
        ("UPDATE items SET item_index = 'x' WHERE item_index = 5", "item -1"),
        ("UPDATE locations SET groups = '[1]' WHERE item_index = 1", "manifest "),
        ("UPDATE locations SET uri = x'00' WHERE item_index = 1", "manifest "),
        ("UPDATE shards SET first_item = 'x' WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET item_count = 1 << 40 WHERE shard_index = 1", "shard 1"),
        ("UPDATE shards SET object_key = 7 WHERE shard_index = 1", "shard 1"),
        ("UPDATE ledger_entries SET body = CAST(body AS TEXT) WHERE idx = 3", "entry"),
        ("UPDATE ledger_entries SET body = 5 WHERE idx = 3", "entry 3"),
        ("UPDATE ledger_entries SET leaf_hash = 'x' WHERE idx = 3", "entry 3"),
        ("UPDATE ledger_entries SET idx = 'x' WHERE idx = 3", "entry -1"),
        ("UPDATE checkpoints SET note = x'00' WHERE tree_size > 3", "checkpoint"),
        ("UPDATE checkpoints SET root = x'00' WHERE tree_size > 3", "checkpoint"),
        ("UPDATE checkpoints SET root = 'x' WHERE tree_size > 3", "checkpoint"),
        ("UPDATE ledger_head SET frontier = '[1]'", "ledger head"),
        ("UPDATE ledger_head SET frontier = '{'", "ledger head"),
        ("UPDATE ledger_head SET tree_size = 4, frontier = 'x'", "ledger head"),
        ("DELETE FROM ledger_head", "ledger head"),
    ],
)
def test_a_senseless_cell_is_named(copy: Workspace, change: str, where: str) -> None:
    """SQLite takes anything in any column; verify names it and does not break off."""
    with behind_our_back(copy) as connection:
        assert connection.execute(change).rowcount >= 1
    found = _failures(copy)
    assert any(place.startswith(where) for _kind, place in found), found


def test_a_head_that_counts_other_entries_is_named(copy: Workspace) -> None:
    """A head set back, or a tail cut off after the last checkpoint, is found."""
    from ledger.merkle import CompactRange

    tree = CompactRange()
    for row in copy.rows("ledger_entries")[:4]:
        tree.append(row["leaf_hash"])
    with behind_our_back(copy) as connection:
        connection.execute(
            "UPDATE ledger_head SET tree_size = 4, frontier = ?",
            (json.dumps(tree.frontier_hex),),
        )
    assert ("inconsistent", "ledger head") in _failures(copy)


def test_a_forged_history_is_not_signed_and_not_believed(
    copy: Workspace,
) -> None:
    """Entries, head and checkpoints rewritten together are refused by the next run."""
    from ledger.merkle import CompactRange, leaf_hash

    public = copy.home / "ledger.key.pub"
    with behind_our_back(copy) as connection:
        tree = CompactRange()
        for row in copy.rows("ledger_entries"):
            body = row["body"].replace(b'"actor":"user/', b'"actor":"user/mallory-')
            tree.append(leaf_hash(body))
            connection.execute(
                "UPDATE ledger_entries SET body = ?, leaf_hash = ? WHERE idx = ?",
                (body, leaf_hash(body), row["idx"]),
            )
        connection.execute(
            "UPDATE ledger_head SET frontier = ?", (json.dumps(tree.frontier_hex),)
        )
        connection.execute("DELETE FROM checkpoints")
    for command in (("report", "latest"), ("run", copy.folder / "audit.yaml")):
        answer = copy.call(*command, "--json")
        assert answer.code == 3
        assert answer.document["error"]["kind"] == "broken_ledger"
        assert "nothing was signed" in answer.err
    assert copy.rows("checkpoints") == []
    assert len(copy.rows("runs")) == 1
    answer = copy.call("verify", "latest", "--json", "--key", public)
    assert answer.code == 3
    kinds = {failure["kind"] for failure in answer.document["failures"]}
    assert "root_mismatch" in kinds


def test_what_a_killed_process_left_unsigned_is_signed(copy: Workspace) -> None:
    """A run whose last checkpoint was never written is covered by the next command."""
    with behind_our_back(copy) as connection:
        connection.execute("DELETE FROM checkpoints")
    (copy.home / "ledger.key.head").unlink()
    assert copy.call("verify", "latest", "--json").code == 0
    assert len(copy.rows("checkpoints")) == 2  # before the check, and with its entry


def test_every_command_leaves_the_ledger_signed(copy: Workspace) -> None:
    """Reads, exports and checks of an embedded installation wait for nobody."""
    for command in (
        ("report", "latest"),
        ("show", "latest", "0", "--out", copy.folder / "item.png"),
        ("report", "latest", "--bundle", copy.folder / "again.zip"),
        ("verify", "latest"),
    ):
        before = len(copy.rows("ledger_entries"))
        assert copy.call(*command).code == 0
        assert copy.rows("ledger_outbox") == []
        entries = copy.rows("ledger_entries")
        assert len(entries) > before
        assert copy.rows("checkpoints")[-1]["tree_size"] == len(entries)


def test_another_result_digest_in_the_runs_row_is_named(copy: Workspace) -> None:
    """A run's row that states another result than the ledger is found."""
    with behind_our_back(copy) as connection:
        connection.execute("UPDATE runs SET result_digest = 'x'")
    run = copy.rows("runs")[0]["id"]
    assert _failures(copy) == [("result_digest_mismatch", f"run {run}")]


def _flip_entry(connection: sqlite3.Connection) -> None:
    body = connection.execute(
        "SELECT body FROM ledger_entries WHERE idx = 3"
    ).fetchone()[0]
    changed = bytearray(body)
    changed[changed.index(b'"at":"') + 6] ^= 1
    connection.execute(
        "UPDATE ledger_entries SET body = ? WHERE idx = 3", (bytes(changed),)
    )


def _cut_tail(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM ledger_entries WHERE idx >= (SELECT max(idx) FROM ledger_entries)"
    )


def _cut_tail_and_checkpoints(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM ledger_entries WHERE idx > 2")
    connection.execute("DELETE FROM checkpoints")


def _put_the_tail_back_into_the_outbox(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM checkpoints")
    connection.execute(
        "INSERT INTO ledger_outbox (at, body) "
        "SELECT 0, body FROM ledger_entries WHERE idx > 2"
    )
    connection.execute("DELETE FROM ledger_entries WHERE idx > 2")


def _gap(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM ledger_entries WHERE idx = 4")


def _alter_signature(connection: sqlite3.Connection) -> None:
    size, note = connection.execute(
        "SELECT tree_size, note FROM checkpoints"
    ).fetchone()
    # A character within the signature, whose last ones may be padding.
    changed = note[:-12] + ("A" if note[-12] != "A" else "B") + note[-11:]
    connection.execute(
        "UPDATE checkpoints SET note = ? WHERE tree_size = ?", (changed, size)
    )


@pytest.mark.parametrize(
    ("change", "kinds", "named"),
    [
        (_flip_entry, {"entry_mismatch", "root_mismatch"}, "entry 3"),
        (_cut_tail, {"missing_entries"}, "entries "),
        (_cut_tail_and_checkpoints, {"missing_entries"}, "run "),
        (_put_the_tail_back_into_the_outbox, {"missing_entries"}, "entries "),
        (_gap, {"missing_entries"}, "entries 4..4"),
        (_alter_signature, {"bad_signature"}, "checkpoint "),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_changed_ledger_is_named(
    copy: Workspace,
    change: Callable[[sqlite3.Connection], None],
    kinds: set[str],
    named: str,
) -> None:
    """An altered, cut, emptied or unsigned ledger is found, and the place named."""
    with behind_our_back(copy) as connection:
        change(connection)
    found = _failures(copy)
    assert {kind for kind, _ in found} >= kinds
    assert any(place.startswith(named) for _, place in found), found


def test_showing_an_item_of_an_altered_artifact_is_refused(copy: Workspace) -> None:
    """`show` reads no numbers from an artifact that is not the one written."""
    path = min(copy.objects.rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    answer = copy.call("show", "latest", "0", "--json")
    assert (answer.code, answer.document["error"]["kind"]) == (3, "digest_mismatch")
    assert "affidavit verify" in answer.err


def test_the_database_refuses_to_change_its_ledger(copy: Workspace) -> None:
    """Without dropping triggers first, no entry can be changed or deleted."""
    with contextlib.closing(sqlite3.connect(copy.database)) as connection:
        for statement in (
            "UPDATE ledger_entries SET body = x'00' WHERE idx = 0",
            "DELETE FROM ledger_entries",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)


# The bundle, checked by a stranger who has the ledger package and cryptography alone.

_STRANGER = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"affidavit", "workers", "pipeline", "storage", "explain", "torch",
                   "numpy", "pyarrow", "sqlalchemy", "pydantic", "boto3", "celery"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from ledger.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def _stranger(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _STRANGER, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _rewritten(source: Path, target: Path, change: dict[str, bytes | None]) -> Path:
    """Return a copy of a zip file with some of its files replaced or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = change.get(info.filename, old.read(info))
            if content is not None:
                new.writestr(info, content)
    return target


def test_a_stranger_verifies_the_bundle_offline(genuine: Workspace) -> None:
    """The bundle verifies with the ledger package and cryptography, nothing else."""
    bundle = genuine.folder / "bundle.zip"
    public = genuine.home / "ledger.key.pub"
    done = _stranger(bundle, "--json", "--key", public)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    run = genuine.rows("runs")[0]
    assert verdict["key_pinned"]
    assert verdict["artifacts"] == 2
    assert verdict["result_digest"] == run["result_digest"]


def test_a_damaged_bundle_fails(genuine: Workspace, tmp_path: Path) -> None:
    """A flipped byte in any file of the bundle, or a file less, is an exit code 3.

    The verifier that comes along is no evidence: whoever checks brings another.
    """
    bundle = genuine.folder / "bundle.zip"
    with zipfile.ZipFile(bundle) as archive:
        contents: dict[str, Any] = {n: archive.read(n) for n in archive.namelist()}
    del contents["verify.pyz"], contents["consistency.jsonl"]
    assert len(contents) >= 6
    passed = []
    for number, (name, content) in enumerate(sorted(contents.items())):
        middle = len(content) // 2
        flipped = (
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        )
        for kind, new in (("flipped", flipped), ("gone", None)):
            target = tmp_path / f"{number}-{kind}.zip"
            path = _rewritten(bundle, target, {name: new})
            answer = genuine.call("verify", path, "--json")
            if answer.code != 3 or not answer.document["failures"]:
                passed.append((kind, name))
    assert passed == []


def test_a_bundle_of_an_uncovered_run_is_refused(tmp_path: Path) -> None:
    """A run whose end no checkpoint covers cannot be packed; no file is written."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(4)
    workspace.run(workspace.write_spec())
    with behind_our_back(workspace) as connection:
        connection.execute("DELETE FROM checkpoints")
    # The key is elsewhere, with whoever signs.
    (workspace.home / "ledger.key").unlink()
    before = len(workspace.rows("ledger_entries"))
    answer = workspace.call(
        "report", "latest", "--out", tmp_path / "o", "--bundle", tmp_path / "b.zip"
    )
    assert answer.code == 2
    assert "checkpoint" in answer.err
    assert not (tmp_path / "b.zip").exists()
    assert not (tmp_path / "o").exists()
    assert workspace.rows("ledger_outbox") == []
    assert len(workspace.rows("ledger_entries")) == before
