# SPDX-License-Identifier: Apache-2.0
"""One item is proven alone: small, offline, and without a word of any other item."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_evidence_tampering import behind_our_back
from tests.support.workspace import Workspace, write_csv

#: The limit of an item's evidence, its map left out.
MOST_BYTES = 20_000


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run of six photographs of three persons; never altered."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("items")).lay_out(6)
    rows = [
        {"path": f"photos/{n:04d}.png", "who": f"Jane Roe {n // 2}"} for n in range(6)
    ]
    write_csv(workspace.folder / "list.csv", rows)
    spec = workspace.write_spec(
        data={"source": "list.csv", "columns": {"uri": "path", "subject": "who"}},
        metrics=["completeness"],
    )
    workspace.run(spec)
    for name, arguments in {
        "run.zip": ("latest",),
        "item.zip": ("latest", "--item", "3"),
        "verify.pyz": ("--verifier",),
    }.items():
        answer = workspace.call("evidence", *arguments, "-o", name, "--json")
        assert answer.code == 0, answer.err
    return workspace


def _verified(
    workspace: Workspace, bundle: Path, *more: object
) -> subprocess.CompletedProcess[str]:
    """Return what the one file says of a bundle, run where nothing of ours is."""
    key = workspace.home / "ledger.key.pub"
    return subprocess.run(
        [
            *(sys.executable, "-I", str(workspace.folder / "verify.pyz"), str(bundle)),
            *("--key", str(key), "--json", *map(str, more)),
        ],
        cwd=workspace.folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_one_item_is_proven_alone(genuine: Workspace) -> None:
    """The item's bundle verifies with the one file; it is small and knows no other."""
    path = genuine.folder / "item.zip"
    done = _verified(genuine, path)
    assert done.returncode == 0, done.stdout + done.stderr
    item = json.loads(done.stdout)["item"]
    row = next(r for r in genuine.rows("items") if r["item_index"] == 3)
    assert item["record_sha256"] == row["record_digest"].hex()
    assert item["input"] == row["input_sha256"]
    assert path.stat().st_size < MOST_BYTES
    everything = b"\n".join(_members(path).values())
    everything += b"\n".join(
        base64.b64decode(json.loads(line)["body"])
        for line in _members(path)["entries.jsonl"].splitlines()
    )
    for other in genuine.rows("items"):
        if other["item_index"] == 3:
            continue
        for secret in (
            other["item_id"].encode(),
            other["record_digest"].hex().encode(),
            other["input_sha256"].encode(),
            other["leaf_salt"],
            base64.b64encode(other["leaf_salt"]),
        ):
            assert secret not in everything
    assert b"Jane" not in everything


def test_the_runs_bundle_verifies_with_the_file_inside_it(
    genuine: Workspace,
) -> None:
    """The verifier in a bundle is the one that is handed out, and it does its work."""
    members = _members(genuine.folder / "run.zip")
    assert members["verify.pyz"] == (genuine.folder / "verify.pyz").read_bytes()
    assert _verified(genuine, genuine.folder / "run.zip").returncode == 0


def test_a_leaf_is_salted_and_the_result_is_not(
    genuine: Workspace, tmp_path: Path
) -> None:
    """Another run of the same gives other leaves and the same result digest."""
    copy = Workspace(folder=tmp_path / "copy")
    shutil.copytree(genuine.folder, copy.folder)
    copy.run(copy.folder / "audit.yaml")
    first, second = copy.rows("runs")
    assert first["result_digest"] == second["result_digest"]
    leaves = {row["item_leaves"] for row in copy.rows("shards")}
    assert len(leaves) == len(copy.rows("shards"))
    salts = [row["leaf_salt"] for row in copy.rows("items")]
    assert len(set(salts)) == len(salts) == 12
    assert {len(salt) for salt in salts} == {16}


def test_a_leaf_is_what_the_design_says(genuine: Workspace) -> None:
    """A leaf is SHA-256(0x00, salt, record), as anyone can compute from the bundle."""
    members = _members(genuine.folder / "item.zip")
    info = json.loads(members["bundle.json"])
    salt = base64.b64decode(info["salt"])
    leaf = hashlib.sha256(b"\x00" + salt + members["item.json"]).digest()
    shard = genuine.rows("shards")[0]
    assert shard["item_leaves"][32 * info["leaf"] :][:32] == leaf
    named = json.loads(members["item.json"])["map_sha256"]
    assert hashlib.sha256(members["map.bin"]).hexdigest() == named


def test_an_erased_neighbour_leaves_the_proof_alone(
    genuine: Workspace, tmp_path: Path
) -> None:
    """Item 3 is still proven after the salt of item 2 is gone; item 2 is not."""
    copy = Workspace(folder=tmp_path / "copy")
    shutil.copytree(genuine.folder, copy.folder)
    with behind_our_back(copy) as connection:
        connection.execute("UPDATE items SET leaf_salt = NULL WHERE item_index = 2")
    assert copy.call("evidence", "latest", "--item", "3", "-o", "again.zip").code == 0
    assert _verified(copy, copy.folder / "again.zip").returncode == 0
    refused = copy.call("evidence", "latest", "--item", "2", "-o", "gone.zip")
    assert refused.code == 2
    assert "no salted leaf" in refused.err
    assert not (copy.folder / "gone.zip").exists()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE items SET leaf_salt = randomblob(16) WHERE item_index = 3",
        "UPDATE items SET leaf_index = 2 WHERE item_index = 3",
        "UPDATE shards SET item_leaves = randomblob(128) WHERE shard_index = 0",
        "UPDATE shards SET item_leaves = NULL WHERE shard_index = 0",
    ],
)
def test_a_changed_leaf_is_named_and_never_handed_out(
    genuine: Workspace, tmp_path: Path, change: str
) -> None:
    """Salts, places and leaves that are not those of the entry fail `verify`."""
    copy = Workspace(folder=tmp_path / "copy")
    shutil.copytree(genuine.folder, copy.folder)
    with behind_our_back(copy) as connection:
        assert connection.execute(change).rowcount == 1
    answer = copy.call("verify", "latest", "--json")
    assert answer.code == 3
    assert {f["kind"] for f in answer.document["failures"]} == {"row_mismatch"}
    handed = copy.call("evidence", "latest", "--item", "3", "-o", "x.zip")
    if handed.code == 0:
        assert _verified(copy, copy.folder / "x.zip").returncode == 14


def _with(_field: str, change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    return changed


def _relabel(fields: Any) -> None:
    fields["predicted"] = 1


def _another_leaf(fields: Any) -> None:
    fields["leaf"] = 2


def _another_salt(fields: Any) -> None:
    fields["salt"] = base64.b64encode(bytes(16)).decode()


def _newer(fields: Any) -> None:
    fields["schema"] = "affidavit.item-bundle/9"


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("item.json", _with("predicted", _relabel), 14),
        ("bundle.json", _with("leaf", _another_leaf), 14),
        ("bundle.json", _with("salt", _another_salt), 14),
        ("bundle.json", _with("schema", _newer), 15),
        ("map.bin", lambda data: bytes(len(data)), 14),
        ("map.bin", None, 0),
        ("item.json", None, 14),
        ("entries.jsonl", lambda data: data[data.index(b"\n") + 1 :], 13),
        ("checkpoint.txt", lambda data: data.replace(b"\n", b"\n", 1)[:-9], 10),
    ],
)
def test_each_altered_part_has_its_exit_code(
    genuine: Workspace,
    tmp_path: Path,
    name: str,
    change: Callable[[bytes], bytes] | None,
    code: int,
) -> None:
    """Whoever alters an item's bundle is told apart by the exit code."""
    members = _members(genuine.folder / "item.zip")
    if change is None:
        del members[name]
    elif name == "entries.jsonl":
        # The shard's entry is the one in the middle.
        lines = members[name].splitlines(keepends=True)
        members[name] = b"".join(
            line
            for line in lines
            if b"shard:finished" not in base64.b64decode(json.loads(line)["body"])
        )
    else:
        members[name] = change(members[name])
    path = tmp_path / "altered.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    done = _verified(genuine, path)
    assert done.returncode == code, done.stdout + done.stderr
