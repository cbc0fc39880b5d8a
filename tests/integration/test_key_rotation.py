# SPDX-License-Identifier: Apache-2.0
"""The old key signs the new one, and a verifier who holds either follows."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.rotation
from ledger.checkpoint import SigningKey, VerifierKey
from ledger.entries import Action, Entry
from ledger.succession import KeyRing, link_details, read_link
from ledger.verifier import examine_entries
from tests.integration.test_evidence_tampering import behind_our_back
from tests.support.workspace import Workspace

ORIGIN = "example.com/log"


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run, two rotations, another run; the public keys are in key.0 to key.2."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("rotated")).lay_out(4)
    spec = workspace.write_spec()
    workspace.run(spec)
    public = workspace.home / "ledger.key.pub"
    shutil.copyfile(public, workspace.folder / "key.0")
    for number in (1, 2):
        answer = workspace.call("keys", "rotate", "--json")
        assert answer.code == 0, answer.err
        assert answer.document["new"] == public.read_text().strip()
        shutil.copyfile(public, workspace.folder / f"key.{number}")
    workspace.run(spec)
    return workspace


@pytest.mark.parametrize("number", [0, 1, 2])
def test_whoever_holds_any_key_can_verify(rotated: Workspace, number: int) -> None:
    """Runs and bundles of before and after hold with the first, second or last key."""
    key = rotated.folder / f"key.{number}"
    for run in rotated.rows("runs"):
        answer = rotated.call("verify", run["id"], "--key", key, "--json")
        assert answer.code == 0, answer.document["failures"]
        assert answer.document["key_pinned"]
        bundle = rotated.folder / f"{run['id']}-{number}.zip"
        assert rotated.call("evidence", run["id"], "-o", bundle).code == 0
        done = subprocess.run(
            [sys.executable, "-m", "ledger", str(bundle), "--key", str(key)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_another_key_follows_nobody(rotated: Workspace, tmp_path: Path) -> None:
    """A key that the ledger never had verifies nothing."""
    other = tmp_path / "other"
    other.write_text(str(SigningKey.generate("affidavit.local/ledger").verifier))
    run = rotated.rows("runs")[0]["id"]
    assert rotated.call("verify", run, "--key", other).code == 3


def test_the_old_secret_is_gone_and_its_public_half_is_kept(rotated: Workspace) -> None:
    """After a rotation one secret key is there, and every public one."""
    assert not (rotated.home / "ledger.key.next").exists()
    secrets = [p for p in rotated.home.glob("ledger.key*") if b"PRIVATE" in _bytes(p)]
    assert [path.name for path in secrets] == ["ledger.key"]
    public = {p.read_text().strip() for p in rotated.home.glob("*.pub")}
    wanted = {(rotated.folder / f"key.{n}").read_text().strip() for n in range(3)}
    assert public == wanted


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def test_the_old_key_signs_no_more(rotated: Workspace, tmp_path: Path) -> None:
    """A checkpoint that the old key signs after it handed over is a bad signature."""
    copy = Workspace(folder=tmp_path / "copy")
    shutil.copytree(rotated.folder, copy.folder)
    assert copy.call("verify", "latest", "--key", copy.folder / "key.0").code == 0
    ring_end = max(row["tree_size"] for row in copy.rows("checkpoints"))
    thief = SigningKey.generate("affidavit.local/ledger")
    note = next(r for r in copy.rows("checkpoints") if r["tree_size"] == ring_end)
    text = note["note"].partition("\n\n")[0] + "\n"
    with behind_our_back(copy) as connection:
        connection.execute(
            "UPDATE checkpoints SET note = ? WHERE tree_size = ?",
            (thief.sign_text(text), ring_end),
        )
    answer = copy.call("verify", "latest", "--key", copy.folder / "key.2", "--json")
    assert "bad_signature" in {f["kind"] for f in answer.document["failures"]}


@pytest.mark.parametrize("broken_at", ["record", "write_checkpoint", "finish_rotation"])
def test_a_broken_off_rotation_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: str
) -> None:
    """Wherever the command is killed, the next one ends it, and everything verifies."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(4)
    spec = workspace.write_spec()
    workspace.run(spec)
    first = workspace.folder / "key.0"
    shutil.copyfile(workspace.home / "ledger.key.pub", first)

    class Killed(BaseException):
        """The process ended here."""

    def kill(*_arguments: object, **_options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.rotation, broken_at, kill)
        with pytest.raises(Killed):
            workspace.call("keys", "rotate")
    assert workspace.call("keys", "rotate", "--json").code == 0
    workspace.run(spec)
    assert workspace.call("verify", "latest", "--key", first).code == 0
    assert not (workspace.home / "ledger.key.next").exists()


def _link_body(old: SigningKey, new: SigningKey) -> bytes:
    return Entry(
        at="2026-11-23T08:00:00Z",
        actor="user/t",
        action=Action.KEY_ROTATED,
        object="ledger",
        details=link_details(old, new),
    ).to_bytes()


def test_a_link_counts_only_if_both_keys_signed_it() -> None:
    """Another's signature in place of either makes the link nobody's."""
    old, new, thief = (SigningKey.generate(ORIGIN) for _ in range(3))
    body = _link_body(old, new)
    link = read_link(7, body)
    assert link is not None
    assert (link.old, link.new) == (old.verifier, new.verifier)
    for name in ("signed_by_old", "signed_by_new"):
        details = link_details(old, new)
        details[name] = link_details(thief, thief)[name]
        forged = Entry(
            at="2026-11-23T08:00:00Z",
            actor="user/t",
            action=Action.KEY_ROTATED,
            object="ledger",
            details=details,
        ).to_bytes()
        assert read_link(7, forged) is None


def test_each_size_has_its_key() -> None:
    """A checkpoint up to the link is the old key's, a larger one the new key's."""
    keys = [SigningKey.generate(ORIGIN) for _ in range(3)]
    links = [
        read_link(index, _link_body(keys[n], keys[n + 1]))
        for n, index in enumerate((4, 9))
    ]
    found = [link for link in links if link is not None]
    for number, known in enumerate(keys):
        ring = KeyRing.of(known.verifier, found)
        signers = [ring.key_for(size) for size in (1, 4, 5, 9, 10, 99)]
        wanted = [keys[n].verifier for n in (0, 0, 1, 1, 2, 2)]
        assert signers == wanted
        assert ring.vouched_from == (-1, 4, 9)[number]


def test_nobody_can_put_a_key_before_the_one_that_is_known() -> None:
    """A forged predecessor vouches for nothing until the known key has signed it."""
    from ledger.checkpoint import Checkpoint
    from ledger.merkle import leaf_hash, root_of

    thief, honest = SigningKey.generate(ORIGIN), SigningKey.generate(ORIGIN)
    body = Entry(
        at="2026-11-23T08:00:00Z",
        actor="user/t",
        action=Action.RUN_READ,
        object="run/x",
    ).to_bytes()
    # Nobody but the thief signs; the link names the honest key as the thief's heir, as
    # if its owner had agreed.
    link_body = _link_body(thief, honest)
    link = read_link(1, link_body)
    assert link is not None
    entries = [(n, b, leaf_hash(b)) for n, b in enumerate((body, link_body))]
    note = thief.sign(Checkpoint(ORIGIN, 1, root_of([leaf_hash(body)])))
    verdict = examine_entries(
        entries, [note], honest.verifier, cover_until=1, links=[link]
    )
    assert "bad_signature" in {failure.kind for failure in verdict.failures}
    assert isinstance(honest.verifier, VerifierKey)
