# SPDX-License-Identifier: Apache-2.0
"""Forgetting a person: from every place, provably, and again after a restore."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest

from ledger.checkpoint import VerifierKey
from ledger.errors import SignatureError
from ledger.key_file import load_verifier
from pipeline.privacy import erasing
from pipeline.privacy.certificate import open_certificate
from storage.objects import open_store
from storage.objects.errors import ObjectNotFoundError
from tests.support.persons import (
    PERSONS,
    call_with,
    lay_out_persons,
    spec_of_persons,
    token_of,
)
from tests.support.servers import S3Server
from tests.support.workspace import Workspace

ANNA = PERSONS[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run over three persons; tests copy it."""
    workspace = lay_out_persons(tmp_path_factory.mktemp("finished") / "work")
    workspace.run(spec_of_persons(workspace, metrics=["deletion"]))
    answer = workspace.call("report", "latest", "--bundle", "before.zip")
    assert answer.code == 0, answer.err
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished run."""
    shutil.copytree(finished.folder, tmp_path / "work")
    return Workspace(folder=tmp_path / "work")


def _erase(workspace: Workspace, token: str) -> dict[str, Any]:
    answer = workspace.call("subject", "erase", token, "--identity-verified", "--json")
    assert answer.code == 0, answer.err
    document: dict[str, Any] = answer.document
    return document


def _verified(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    answer = workspace.call("verify", *(arguments or ("latest",)), "--json")
    document: dict[str, Any] = answer.document
    assert document["failures"] == []
    assert answer.code == 0
    return document


def _entries(workspace: Workspace) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]


def _artifacts(workspace: Workspace) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted(workspace.objects.rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def test_an_erasure_reaches_everything_and_the_evidence_holds(
    workspace: Workspace,
) -> None:
    """Rows, artifacts, report and identity are gone; the result still verifies."""
    before = _verified(workspace)
    token = token_of(workspace, ANNA)
    old_objects = {p.name for p in workspace.objects.rglob("*") if p.is_file()}
    old_rows = {row["item_index"]: row for row in workspace.rows("items")}
    done = _erase(workspace, token)
    assert done["state"] == "certified"
    assert done["counts"]["items"] == 2
    assert done["counts"]["runs"] == 1
    assert done["counts"]["identities"] == 2
    # Evidence first: the same result, and no failure.
    after = _verified(workspace)
    assert after["result_digest"] == before["result_digest"]
    # SQL.
    rows = {row["item_index"]: row for row in workspace.rows("items")}
    for index in (0, 3):
        assert rows[index]["reason"] == "subject_erased"
        assert rows[index]["subject_token"] is rows[index]["score"] is None
        assert rows[index]["input_sha256"] is None
    for index in (1, 2, 4, 5):
        assert rows[index] == old_rows[index]
    for row in workspace.rows("locations"):
        assert (row["erased_place"] is not None) == (row["item_index"] in {0, 3})
        if row["erased_place"]:
            assert row["salt"] is row["size_bytes"] is row["version"] is None
    # Objects.
    cells = [row for row in _artifacts(workspace) if row["reason"] == "subject_erased"]
    assert [row["item_index"] for row in cells] == [0, 3]
    assert all(not row["map"] and row["subject"] is None for row in cells)
    assert token.encode() not in b"".join(
        path.read_bytes() for path in workspace.objects.rglob("*") if path.is_file()
    )
    left = {p.name for p in workspace.objects.rglob("*") if p.is_file()}
    assert {n for n in old_objects & left if n.endswith(".a1.parquet")} <= {
        "000001.a1.parquet"
    }
    # The report's lists, and the identity.
    report = next(workspace.objects.rglob("report*.json")).read_text()
    shown = json.loads(report)["gallery"]["entries"]
    assert json.loads(report)["privacy"]["erased_since"] > 0
    assert shown
    assert not {0, 3} & {entry["item_index"] for entry in shown}
    assert call_with(workspace, f"{ANNA}\n", "subject", "find").code == 2
    # The database's own bytes.
    for name in ("0000.png", "0003.png"):
        for path in workspace.home.glob("*.db*"):
            assert f"photos/{name}".encode() not in path.read_bytes()


def test_each_step_is_told_of_and_the_digests_of_old_and_new(
    workspace: Workspace,
) -> None:
    """The ledger has the states in order, and what each shard was and is."""
    token = token_of(workspace, ANNA)
    old = {row["shard_index"]: row["sha256"] for row in workspace.rows("shards")}
    before = len(_entries(workspace))
    _erase(workspace, token)
    new = {row["shard_index"]: row["sha256"] for row in workspace.rows("shards")}
    told = _entries(workspace)[before:]
    assert [e["action"] for e in told if e["action"].startswith("erasure:")] == [
        "erasure:requested",
        "erasure:verified",
        "erasure:planned",
        "erasure:executed",
        "erasure:checked",
        "erasure:certified",
    ]
    rewritten = {
        int(e["object"].rpartition("/")[2]): (e["details"]["old_sha256"], e["digest"])
        for e in told
        if e["action"] == "shard:rewritten"
    }
    assert rewritten == {
        index: (old[index], new[index]) for index in old if old[index] != new[index]
    }
    assert rewritten


def test_old_and_new_bundles_verify(workspace: Workspace) -> None:
    """What was handed out before holds; a new one holds without the person."""
    token = token_of(workspace, ANNA)
    _erase(workspace, token)
    key = str(load_verifier(workspace.home / "ledger.key.pub"))
    _verified(workspace, "before.zip", "--key", key)
    assert workspace.call("report", "latest", "--bundle", "after.zip").code == 0
    _verified(workspace, "after.zip", "--key", key)
    assert token.encode() not in (workspace.folder / "after.zip").read_bytes()


def test_the_certificate_is_signed_and_names_nobody(workspace: Workspace) -> None:
    """The ledger's key signs counts and digests; another key does not verify."""
    token = token_of(workspace, ANNA)
    note = _erase(workspace, token)["certificate"]
    lines = open_certificate(note, load_verifier(workspace.home / "ledger.key.pub"))
    assert "items 2" in lines
    assert "found afterwards 0" in lines
    assert token not in note
    assert "Anna" not in note
    stranger = VerifierKey.parse(str(load_verifier(workspace.home / "ledger.key.pub")))
    changed = note.replace("items 2", "items 3")
    with pytest.raises(SignatureError):
        open_certificate(changed, stranger)


def test_nothing_is_erased_before_somebody_vouches(workspace: Workspace) -> None:
    """Without --identity-verified the request is noted, and all is still there."""
    token = token_of(workspace, ANNA)
    answer = workspace.call("subject", "erase", token, "--json")
    assert (answer.code, answer.document["state"]) == (0, "requested")
    assert {row["erased_place"] for row in workspace.rows("locations")} == {None}
    assert _erase(workspace, token)["erasure"] == answer.document["erasure"]


@pytest.mark.parametrize("held", ["subject", "run"])
def test_a_legal_hold_outranks(workspace: Workspace, held: str) -> None:
    """Held, nothing changes; released, the same erasure goes on."""
    token = token_of(workspace, ANNA)
    run = workspace.rows("runs")[0]["id"]
    obj = token if held == "subject" else f"run/{run}"
    hold = workspace.call("subject", "hold", obj, "--reason", "litigation")
    assert hold.code == 0, hold.err
    assert _erase(workspace, token)["state"] == "held"
    assert {row["erased_place"] for row in workspace.rows("locations")} == {None}
    assert token_of(workspace, ANNA) == token
    assert workspace.call("subject", "hold", obj, "--reason", "litigation").code == 2
    assert workspace.call("subject", "release", obj).code == 0
    assert _erase(workspace, token)["state"] == "certified"


class _Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("place", ["rewrite_shard", "rewrite_report", "scrub"])
def test_an_erasure_that_was_cut_off_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Whatever was done stays done, and the second call does the rest."""
    token = token_of(workspace, ANNA)
    whole = getattr(erasing, place)
    calls = []

    def crash_second(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise _Crash
        return whole(*arguments, **named)

    monkeypatch.setattr(erasing, place, crash_second)
    with contextlib.suppress(_Crash):
        workspace.call("subject", "erase", token, "--identity-verified")
    monkeypatch.undo()
    done = _erase(workspace, token)
    assert done["state"] == "certified"
    _verified(workspace)
    assert sum(r["erased_place"] is not None for r in workspace.rows("locations")) == 2


def test_a_restored_backup_is_erased_again(workspace: Workspace) -> None:
    """Database, keys and objects of before come back; `replay` forgets once more."""
    token = token_of(workspace, ANNA)
    second = token_of(workspace, PERSONS[1])
    shutil.copytree(workspace.home, workspace.folder / "backup")
    _erase(workspace, token)
    _erase(workspace, second)
    for name in ("affidavit.db", "keys.db", "objects"):
        for path in workspace.home.glob(f"{name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (workspace.folder / "backup").glob(f"{name}*"):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, workspace.home / path.name)
    # The signer remembers more than the old database has; that is another check's.
    (workspace.home / "ledger.key.head").unlink()
    assert token_of(workspace, ANNA) == token
    answer = workspace.call("subject", "replay", "--json")
    assert answer.code == 0, answer.err
    assert {row["subject"] for row in answer.document["repeated"]} == {token, second}
    assert {row["state"] for row in answer.document["repeated"]} == {"certified"}
    assert sum(r["erased_place"] is not None for r in workspace.rows("locations")) == 4
    assert call_with(workspace, f"{ANNA}\n", "subject", "find").code == 2
    _verified(workspace)
    again = workspace.call("subject", "replay", "--json")
    assert again.document["repeated"] == []


def test_a_restored_database_alone_is_erased_again(workspace: Workspace) -> None:
    """It names objects that are gone; what replaced them is taken."""
    tokens = [token_of(workspace, person) for person in PERSONS[:2]]
    shutil.copy(workspace.database, workspace.folder / "old.db")
    for token in tokens:
        _erase(workspace, token)
    for path in workspace.home.glob("affidavit.db*"):
        path.unlink()
    shutil.copy(workspace.folder / "old.db", workspace.database)
    (workspace.home / "ledger.key.head").unlink()
    answer = workspace.call("subject", "replay", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.document["repeated"]) == 2
    _verified(workspace)


def test_four_eyes_erase(workspace: Workspace) -> None:
    """One officer asks, another agrees, and only then is anything erased."""
    token = token_of(workspace, ANNA)
    people: dict[str, Workspace] = {}
    for name, role in (("boss", "admin"), ("una", "dpo"), ("duo", "dpo")):
        caller = people.get("boss", workspace)
        made = caller.call("principal", "add", name, "--role", role, "--json")
        people[name] = Workspace(
            folder=workspace.folder,
            variables={
                "AFFIDAVIT_TOKEN": made.document["token"],
                "AFFIDAVIT_PURPOSE": "subject_request",
            },
        )
    ask = ("subject", "erase", token, "--identity-verified", "--json")
    first = people["una"].call(*ask)
    assert (first.code, first.document["error"]["kind"]) == (2, "access_refused")
    (request,) = people["duo"].call("request", "list", "--json").document["requests"]
    assert request["kind"] == "erasure"
    assert people["una"].call("request", "approve", request["request"]).code == 2
    assert people["duo"].call("request", "approve", request["request"]).code == 0
    assert people["una"].call(*ask).document["state"] == "certified"


def test_failed_items_are_not_tried_again_after_an_erasure(
    workspace: Workspace,
) -> None:
    """An erased item is no failed one that a retry could bring back."""
    _erase(workspace, token_of(workspace, ANNA))
    answer = workspace.call("retry", "latest", "--failed-items")
    assert answer.code == 2
    assert len(workspace.rows("runs")) == 1


@pytest.mark.parametrize("command", ["report", "erase", "hold"])
def test_an_unknown_token_is_one_sentence(workspace: Workspace, command: str) -> None:
    """Whoever mistypes a token learns where to get it, and nothing is made."""
    extra = ("--reason", "litigation") if command == "hold" else ()
    answer = workspace.call("subject", command, "0" * 32, *extra)
    assert answer.code == 2
    assert "subject find" in answer.err
    assert workspace.rows("erasures") == workspace.rows("legal_holds") == []


@pytest.fixture
def versioned(moto_s3: S3Server) -> tuple[S3Server, str]:
    """A bucket that keeps every version."""
    moto_s3.ensure_running()
    bucket = moto_s3.create_bucket()
    _client(moto_s3).put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return moto_s3, bucket


def _client(server: S3Server) -> Any:
    config = server.config
    return boto3.client(
        "s3",
        endpoint_url=config.endpoint_url,
        aws_access_key_id=config.access_key_id,
        aws_secret_access_key=config.secret_access_key,
        region_name=config.region,
    )


def test_every_version_of_an_object_goes(versioned: tuple[S3Server, str]) -> None:
    """Where a bucket keeps versions, no version and no delete marker is left."""
    import hashlib
    import io

    server, bucket = versioned
    store = open_store(f"s3://{bucket}/p", server.config)
    data = b"about a person"
    digest = hashlib.sha256(data).hexdigest()
    for _ in range(2):
        store.put("runs/1/a", io.BytesIO(data), sha256=digest)
        store.delete("runs/1/a")
    store.put("runs/1/ab", io.BytesIO(data), sha256=digest)
    assert store.erase("runs/1/a") == 2
    found = _client(server).list_object_versions(Bucket=bucket)
    assert [row["Key"] for row in found.get("Versions", ())] == ["p/runs/1/ab"]
    assert "DeleteMarkers" not in found
    assert store.erase("runs/1/a") == 0


def test_a_store_without_versions_erases_too(object_store: Any) -> None:
    """A folder, and a server that knows no versions, have one copy to delete."""
    import hashlib
    import io

    data = b"about a person"
    digest = hashlib.sha256(data).hexdigest()
    object_store.put("runs/1/a", io.BytesIO(data), sha256=digest)
    assert object_store.erase("runs/1/a") == 1
    assert object_store.erase("runs/1/a") == 0
    with pytest.raises(ObjectNotFoundError):
        object_store.stat("runs/1/a")
