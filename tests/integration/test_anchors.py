# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are copied where nobody takes them back, and what lies there counts."""

import json
import secrets
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.errors import BrokenLedgerError
from ledger.merkle import leaf_hash, root_of
from storage.anchoring.git_repository import GitRepository
from storage.anchoring.places import AnchorPlace, open_place
from storage.objects.errors import StoreRefusedError, StoreUnavailableError
from storage.objects.s3 import s3_client
from tests.integration.test_evidence_tampering import behind_our_back
from tests.support.servers import S3Server
from tests.support.workspace import Workspace

KEY = SigningKey.generate("example.com/log")


@pytest.fixture
def locked_bucket(moto_s3: S3Server) -> str:
    """The URL of a prefix in an empty bucket with Object Lock."""
    name = f"t-{secrets.token_hex(8)}"
    s3_client(moto_s3.config).create_bucket(
        Bucket=name, ObjectLockEnabledForBucket=True
    )
    return f"s3://{name}/anchors"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty git repository of somebody who keeps what he is given."""
    folder = tmp_path / "anchors.git"
    for arguments in (
        ("init", "-q", "--bare", str(folder)),
        ("-C", str(folder), "config", "receive.denyNonFastForwards", "true"),
        ("-C", str(folder), "config", "receive.denyDeletes", "true"),
    ):
        subprocess.run(["git", *arguments], check=True, capture_output=True)
    return folder


@pytest.fixture(params=["bucket", "file", "git"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, moto_s3: S3Server
) -> AnchorPlace:
    """An empty place for anchors, once for each kind."""
    if request.param == "bucket":
        url = str(request.getfixturevalue("locked_bucket"))
    elif request.param == "git":
        url = f"git+file://{request.getfixturevalue('bare')}"
    else:
        url = f"file://{tmp_path / 'anchors.jsonl'}"
    return open_place(url, moto_s3.config, retention_days=30)


def _note(size: int, seed: bytes = b"") -> str:
    root = root_of(leaf_hash(seed + bytes([n % 256])) for n in range(size))
    return KEY.sign(Checkpoint(KEY.name, size, root))


def test_a_place_keeps_what_it_is_given(place: AnchorPlace) -> None:
    """Notes come back in the order of their sizes, each once, however often given."""
    for size in (3, 12, 12, 300):
        place.keep(_note(size))
    assert list(place.notes()) == [_note(3), _note(12), _note(300)]


def test_a_place_refuses_a_second_history(place: AnchorPlace) -> None:
    """Another root of the same size is a broken ledger, and the first note stays."""
    place.keep(_note(12))
    with pytest.raises(BrokenLedgerError, match="rewritten"):
        place.keep(_note(12, seed=b"other"))
    assert list(place.notes()) == [_note(12)]


def _log(bare: Path) -> list[str]:
    done = subprocess.run(
        ["git", "-C", str(bare), "log", "--format=%s|%an|%ae", "anchors"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_each_anchor_in_git_is_a_commit_that_names_nobody(
    bare: Path, moto_s3: S3Server
) -> None:
    """History grows by a commit a checkpoint, whoever's name git knows here."""
    place = open_place(f"git+file://{bare}", moto_s3.config, retention_days=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", str(bare.parent))  # as within a hook
        place.keep(_note(5))
        place.keep(_note(9))
        place.keep(_note(9))
    assert _log(bare) == [
        f"checkpoint of {size} entries|affidavit|anchor@affidavit.invalid"
        for size in (9, 5)
    ]


def test_two_who_push_at_once_both_get_their_anchor(bare: Path) -> None:
    """A push that comes second takes the first one's and tries again."""
    place = GitRepository(f"file://{bare}")
    original = GitRepository._fetch
    late = [_note(7)]

    def overtaken(self: GitRepository, folder: Path) -> list[str]:
        kept = original(self, folder)
        if late:
            GitRepository(f"file://{bare}").keep(late.pop())
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GitRepository, "_fetch", overtaken)
        place.keep(_note(5))
    assert list(place.notes()) == [_note(7), _note(5)]


@pytest.mark.parametrize(
    "url",
    [
        "git+file:///nowhere/at/all.git",
        "git+https://127.0.0.1:9/anchors.git",
    ],
)
def test_a_repository_that_is_not_there_is_unavailable(
    url: str, moto_s3: S3Server
) -> None:
    """It is tried again later, and asks nobody for a password."""
    with pytest.raises(StoreUnavailableError, match="git cannot use the anchor"):
        open_place(url, moto_s3.config, retention_days=30).keep(_note(5))


@pytest.mark.parametrize(
    "url", ["git+https://me:secret@host/a.git", "git+ext://sh", "git://host/a"]
)
def test_addresses_that_are_not_to_be_used_are_refused(
    url: str, moto_s3: S3Server
) -> None:
    """No password in a setting, no command as an address, and it is not quoted."""
    with pytest.raises(StoreRefusedError, match="AFFIDAVIT_ANCHORS") as refused:
        open_place(url, moto_s3.config, retention_days=30)
    assert "secret" not in str(refused.value)


def test_a_run_is_anchored_in_git_and_verified_by_its_file(
    bare: Path, tmp_path: Path
) -> None:
    """What lies in the branch is what the standalone verifier takes."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(4)
    workspace.variables = {"AFFIDAVIT_ANCHORS": f"git+file://{bare}"}
    workspace.run(workspace.write_spec())
    document = workspace.call("verify", "latest", "--json").document
    assert [anchor["place"] for anchor in document["anchors"]] == [f"git+file://{bare}"]
    assert document["anchors"][0]["entries"] > 0
    assert workspace.call("evidence", "latest", "-o", "bundle.zip").code == 0
    kept = workspace.folder / "kept.jsonl"
    shown = subprocess.run(
        ["git", "-C", str(bare), "show", "anchors:anchors.jsonl"],
        check=True,
        capture_output=True,
    )
    kept.write_bytes(shown.stdout)
    assert _offline(workspace, "--anchor", kept) == 0


def test_an_anchor_in_a_bucket_is_locked(locked_bucket: str, moto_s3: S3Server) -> None:
    """It is there in COMPLIANCE mode for as long as asked, and nobody deletes it."""
    open_place(locked_bucket, moto_s3.config, retention_days=30).keep(_note(5))
    client: Any = s3_client(moto_s3.config)
    bucket = locked_bucket.split("/")[2]
    (found,) = client.list_object_versions(Bucket=bucket)["Versions"]
    where = {"Bucket": bucket, "Key": found["Key"], "VersionId": found["VersionId"]}
    head = client.head_object(**where)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    left = head["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    with pytest.raises(ClientError) as refused:
        client.delete_object(**where, BypassGovernanceRetention=True)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_a_bucket_that_locks_nothing_is_no_anchor(
    s3_server: S3Server, moto_s3: S3Server
) -> None:
    """A bucket without Object Lock, or a server that knows none, is refused."""
    for server in (s3_server, moto_s3):
        url = f"s3://{server.create_bucket()}"
        with pytest.raises(StoreRefusedError):
            open_place(url, server.config, retention_days=30).keep(_note(5))


@pytest.fixture
def anchored(tmp_path: Path, locked_bucket: str, moto_s3: S3Server) -> Workspace:
    """A finished run, anchored in a locked bucket and in a file."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(4)
    config = moto_s3.config
    workspace.variables = {
        "AFFIDAVIT_ANCHORS": f"{locked_bucket} file://{tmp_path / 'kept.jsonl'}",
        "AFFIDAVIT_ANCHOR_S3_ENDPOINT_URL": str(config.endpoint_url),
        "AFFIDAVIT_ANCHOR_S3_ACCESS_KEY_ID": str(config.access_key_id),
        "AFFIDAVIT_ANCHOR_S3_SECRET_ACCESS_KEY": str(config.secret_access_key),
    }
    workspace.run(workspace.write_spec())
    return workspace


def _kept(workspace: Workspace) -> list[str]:
    path = workspace.folder.parent / "kept.jsonl"
    return [json.loads(line)["note"] for line in path.read_text().splitlines()]


def _kinds(workspace: Workspace, *more: object) -> set[str]:
    answer = workspace.call("verify", "latest", "--json", *more)
    assert answer.code == 3, answer.out
    return {failure["kind"] for failure in answer.document["failures"]}


def test_the_end_of_a_run_is_anchored_at_once(anchored: Workspace) -> None:
    """Both places cover the run; `verify` and the report say how far."""
    end = max(row["tree_size"] for row in anchored.rows("checkpoints"))
    document = anchored.call("verify", "latest", "--json").document
    assert [anchor["entries"] for anchor in document["anchors"]] == [end, end]
    assert document["exposure_window_s"] == 3600
    assert "Exposure window" in anchored.call("verify", "latest").out
    anchored.call("report", "latest", "--out", anchored.folder)
    report = json.loads((anchored.folder / "report.json").read_text())
    assert report["evidence"]["anchors"] == ["s3", "file"]
    assert report["evidence"]["exposure_window_s"] == 3600
    assert "unseen" in (anchored.folder / "report.html").read_text()


def test_a_cut_tail_is_found_by_the_anchor_alone(anchored: Workspace) -> None:
    """Who takes tail, checkpoints and the signer's memory is still found out."""
    with behind_our_back(anchored) as connection:
        connection.execute("DELETE FROM checkpoints WHERE tree_size > 3")
        connection.execute("DELETE FROM ledger_entries WHERE idx >= 6")
        connection.execute("DELETE FROM ledger_head")
    (anchored.home / "ledger.key.head").unlink()
    assert "missing_entries" in _kinds(anchored)


def test_a_place_that_is_down_stops_no_run(anchored: Workspace, tmp_path: Path) -> None:
    """A run ends well without its anchor; the next signature makes it good."""
    good = dict(anchored.variables)
    gone = tmp_path / "gone" / "kept.jsonl"
    anchored.variables = {"AFFIDAVIT_ANCHORS": f"file://{gone}"}
    anchored.run(anchored.folder / "audit.yaml")
    assert anchored.call("doctor", "--json").document["checks"]
    gone.parent.mkdir()
    answer = anchored.call("verify", "latest", "--json")
    assert answer.code == 0
    assert gone.read_text().count("\n") == 1
    anchored.variables = good


def test_an_overdue_run_is_not_anchored(anchored: Workspace) -> None:
    """A run that ended long ago and lies in no anchor is named by `verify`."""
    anchored.variables = {"AFFIDAVIT_ANCHORS": f"file://{anchored.folder}/none/kept"}
    spec = anchored.folder / "audit.yaml"
    anchored.run(spec)
    assert anchored.call("verify", "latest").code == 0  # it may still come
    anchored.variables["AFFIDAVIT_ANCHOR_INTERVAL_S"] = "0.001"
    assert _kinds(anchored) == {"not_anchored"}


def _offline(workspace: Workspace, *arguments: object) -> int:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ledger", "bundle.zip"),
            *("--key", str(workspace.home / "ledger.key.pub"), *map(str, arguments)),
        ],
        cwd=workspace.folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def test_the_standalone_verifier_goes_by_anchors(anchored: Workspace) -> None:
    """Exit 0 where an anchor covers the run, 16 where none does, 12 where one forks."""
    answer = anchored.call("evidence", "latest", "-o", "bundle.zip")
    assert answer.code == 0, answer.err
    kept = _kept(anchored)
    assert _offline(anchored, "--anchor", anchored.folder.parent / "kept.jsonl") == 0
    first = anchored.folder / "first.txt"
    first.write_text(kept[0])
    size = int(kept[0].splitlines()[1])
    assert _offline(anchored, "--anchor", first) == 16
    key = SigningKey.from_pem((anchored.home / "ledger.key").read_bytes())
    forked = anchored.folder / "forked.txt"
    forked.write_text(key.sign(Checkpoint(key.name, size, bytes(32))))
    assert _offline(anchored, "--anchor", forked) == 12
    assert _offline(anchored, "--checkpoint", first) == 0


def test_an_auditor_may_ask_for_more_since_a_checkpoint(anchored: Workspace) -> None:
    """A kept checkpoint that is no anchor is proven with --since, and not without."""
    rows = anchored.rows("checkpoints")
    kept_sizes = {int(note.splitlines()[1]) for note in _kept(anchored)}
    note = next(r["note"] for r in rows if r["tree_size"] not in kept_sizes)
    mine = anchored.folder / "mine.txt"
    mine.write_text(note)
    anchored.call("evidence", "latest", "-o", "bundle.zip")
    assert _offline(anchored, "--checkpoint", mine) == 12
    answer = anchored.call("evidence", "latest", "--since", mine, "-o", "bundle.zip")
    assert answer.code == 0, answer.err
    assert _offline(anchored, "--checkpoint", mine) == 0
