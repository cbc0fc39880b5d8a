# SPDX-License-Identifier: Apache-2.0
"""Evidence bundles: written whole, read with distrust, and every change named."""

import base64
import io
import json
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.__main__ import main
from ledger.bundle import (
    ArtifactSource,
    Bundle,
    BundleEntry,
    BundleInfo,
    Opener,
    write_bundle,
)
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.errors import BundleError, DamagedBundleError, FormatError
from ledger.failures import FailureKind, Verdict
from ledger.key_file import save_verifier
from ledger.merkle import HashTree, leaf_hash
from ledger.safe_zip import SafeZip, ZipLimits, check_members
from ledger.verifier import verify_bundle

F = FailureKind
KEY = SigningKey.generate("example.com/log")
STRANGER = SigningKey.generate("example.com/log")
RESULT = sha256_hex(b"result")
ARTIFACTS = {f"runs/r1/{n}.parquet": bytes([n]) * 5000 for n in range(3)}
REPORT = canonical_bytes({"result_digest": RESULT, "run": "r1"})
HTML = b"<!doctype html><title>report</title>"


def entry(
    action: Action, name: str, digest: str | None = None, **details: Any
) -> bytes:
    """Return the stored bytes of an entry."""
    return Entry(
        at="2026-11-23T08:00:00Z",
        actor="worker:w1",
        action=action,
        object=name,
        digest=digest,
        details=details,
    ).to_bytes()


def finished(key: str, shard: int, data: bytes) -> bytes:
    """Return the entry of a finished shard."""
    digest = sha256_hex(data)
    return entry(
        Action.SHARD_FINISHED,
        f"run/r1/shard/{shard}",
        digest,
        key=key,
        sha256=digest,
        size=len(data),
    )


def story() -> list[bytes]:
    """Return the entries of a ledger in which run r1 and another one took place."""
    return [
        entry(Action.RUN_PLANNED, "run/r1", shards=4),
        entry(Action.RUN_PLANNED, "run/other"),
        *(finished(key, n, data) for n, (key, data) in enumerate(ARTIFACTS.items())),
        entry(Action.SHARD_DEAD, "run/r1/shard/3"),
        entry(Action.RUN_FINALISED, "run/r1", RESULT),
        entry(
            Action.REPORT_WRITTEN,
            "run/r1/report",
            json_sha256=sha256_hex(REPORT),
            html_sha256=sha256_hex(HTML),
        ),
        entry(Action.RUN_FINALISED, "run/other", sha256_hex(b"other")),
    ]


def opener(data: bytes) -> Opener:
    """Return what opens these bytes as a file."""
    return lambda: io.BytesIO(data)


class Maker:
    """Writes bundles of the story, with parts exchanged."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "evidence.zip"
        self.bodies = story()
        self.chosen: list[int] | None = None
        self.artifacts = dict(ARTIFACTS)
        self.report: bytes | None = REPORT
        self.html: bytes | None = HTML
        self.result: str | None = RESULT
        self.run = "r1"
        self.signer = KEY
        self.size: int | None = None

    def write(self) -> Path:
        """The bundle now lies at the path."""
        tree = HashTree(leaf_hash(body) for body in self.bodies)
        size = len(tree) if self.size is None else self.size
        head = Checkpoint("example.com/log", size, tree.root(size))
        chosen = range(len(tree)) if self.chosen is None else self.chosen
        write_bundle(
            self.path,
            run=self.run,
            checkpoint_note=self.signer.sign(head),
            entries=(
                BundleEntry(
                    index,
                    self.bodies[index],
                    tuple(tree.inclusion_proof(index, size)) if index < size else (),
                )
                for index in chosen
            ),
            artifacts=[
                ArtifactSource(name, opener(data))
                for name, data in self.artifacts.items()
            ],
            report_json=None if self.report is None else opener(self.report),
            report_html=None if self.html is None else opener(self.html),
            result_digest=self.result,
            vkey=self.signer.verifier,
        )
        return self.path

    def verdict(self, key: SigningKey | None = KEY) -> Verdict:
        """Return the verdict over the bundle as it would be written now."""
        return verify_bundle(self.write(), None if key is None else key.verifier)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """A maker of honest bundles."""
    return Maker(tmp_path)


def kinds(verdict: Verdict) -> set[FailureKind]:
    """Return the kinds of failure of a verdict."""
    return {failure.kind for failure in verdict.failures}


def repack(
    path: Path,
    change: Callable[[dict[str, bytes]], None],
    *,
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Rewrite the archive with its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_an_honest_bundle_passes(maker: Maker) -> None:
    """Entries, artifacts and reports hold, and the verdict says what it looked at."""
    verdict = maker.verdict()
    assert verdict.ok, verdict.to_text()
    assert (verdict.entries, verdict.covered, verdict.artifacts) == (9, 9, 3)
    assert verdict.key_pinned
    assert verdict.result_digest == RESULT


def test_a_bundle_may_leave_out_the_entries_of_others(maker: Maker) -> None:
    """Proofs stand alone: the entries of one run suffice."""
    maker.chosen = [0, 2, 3, 4, 5, 6, 7]
    assert maker.verdict().ok


def test_without_a_key_everything_else_is_checked(maker: Maker) -> None:
    """The hint is used, the verdict says `key not pinned`, and edits are still seen."""
    verdict = maker.verdict(None)
    assert verdict.ok
    assert not verdict.key_pinned
    assert "key not pinned" in verdict.to_text()
    maker.html = b"other"
    assert kinds(maker.verdict(None)) == {F.REPORT_MISMATCH}


def test_a_forged_bundle_passes_only_without_a_key(maker: Maker) -> None:
    """Who forges the whole bundle with a key of his own is caught by the pinned key."""
    maker.signer = STRANGER
    assert maker.verdict(None).ok
    verdict = maker.verdict(KEY)
    assert kinds(verdict) == {F.BAD_SIGNATURE}
    assert verdict.covered == 0


def test_the_same_evidence_gives_the_same_file(maker: Maker) -> None:
    """Writing twice gives equal bytes, whatever the clock says."""
    assert maker.write().read_bytes() == maker.write().read_bytes()


def lose_artifact(maker: Maker) -> None:
    """Leave out an artifact."""
    del maker.artifacts["runs/r1/1.parquet"]


def edit_artifact(maker: Maker) -> None:
    """Flip one bit of an artifact."""
    data = maker.artifacts["runs/r1/1.parquet"]
    maker.artifacts["runs/r1/1.parquet"] = data[:-1] + bytes([data[-1] ^ 1])


def add_artifact(maker: Maker) -> None:
    """Add an artifact that no entry knows."""
    maker.artifacts["runs/r1/9.parquet"] = b"new"


def edit_report(maker: Maker) -> None:
    """Change the report."""
    maker.report = REPORT.replace(b"r1", b"r2")


def lose_report(maker: Maker) -> None:
    """Leave out the page."""
    maker.html = None


def other_result(maker: Maker) -> None:
    """State another result."""
    maker.result = sha256_hex(b"better")


def no_result(maker: Maker) -> None:
    """Conceal the result."""
    maker.result = None


def lose_shard_entry(maker: Maker) -> None:
    """Conceal that a shard died."""
    maker.chosen = [0, 1, 2, 3, 4, 6, 7, 8]


def lose_finished_entry(maker: Maker) -> None:
    """Leave out the entry of an artifact that is there."""
    maker.chosen = [0, 1, 3, 4, 5, 6, 7, 8]


def lose_finalised(maker: Maker) -> None:
    """Leave out the entry of the result."""
    maker.chosen = [0, 2, 3, 4, 5, 7]


def lose_planned(maker: Maker) -> None:
    """Leave out the entry that tells how many shards there were."""
    maker.chosen = [1, 2, 3, 4, 5, 6, 7]


def other_run(maker: Maker) -> None:
    """Pass the bundle off as that of a run nobody heard of."""
    maker.run = "r9"
    maker.result = None
    maker.artifacts = {}
    maker.report = maker.html = None


def double_entry(maker: Maker) -> None:
    """List an entry twice."""
    maker.chosen = [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]


def old_checkpoint(maker: Maker) -> None:
    """Give a checkpoint from before the last entry."""
    maker.size = 8


def contradicting_report(maker: Maker) -> None:
    """Let the recorded report state another result than the ledger."""
    maker.report = canonical_bytes({"result_digest": sha256_hex(b"x")})
    maker.bodies[7] = entry(
        Action.REPORT_WRITTEN,
        "run/r1/report",
        json_sha256=sha256_hex(maker.report),
        html_sha256=sha256_hex(HTML),
    )


def contradicting_entry(maker: Maker) -> None:
    """Let a shard's entry state two digests."""
    body = maker.bodies[2].replace(
        sha256_hex(ARTIFACTS["runs/r1/0.parquet"]).encode(), b"0" * 64, 1
    )
    maker.bodies[2] = body


def unknown_action(maker: Maker) -> None:
    """Let an entry carry a tag from the future."""
    maker.bodies[1] = maker.bodies[1].replace(b"run:planned", b"run:dreamt1")


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (lose_artifact, {F.ARTIFACT_MISSING}),
        (edit_artifact, {F.ARTIFACT_MISMATCH}),
        (add_artifact, {F.ARTIFACT_MISMATCH}),
        (edit_report, {F.REPORT_MISMATCH}),
        (lose_report, {F.REPORT_MISMATCH}),
        (other_result, {F.RESULT_DIGEST_MISMATCH}),
        (no_result, {F.RESULT_DIGEST_MISMATCH}),
        (lose_shard_entry, {F.MISSING_ENTRIES}),
        (lose_finished_entry, {F.MISSING_ENTRIES, F.ARTIFACT_MISMATCH}),
        (lose_finalised, {F.MISSING_ENTRIES, F.RESULT_DIGEST_MISMATCH}),
        (lose_planned, {F.MISSING_ENTRIES}),
        (other_run, {F.MISSING_ENTRIES}),
        (double_entry, {F.INCONSISTENT}),
        (old_checkpoint, {F.NOT_COVERED}),
        (contradicting_report, {F.RESULT_DIGEST_MISMATCH}),
        (
            contradicting_entry,
            {F.ENTRY_MISMATCH, F.ARTIFACT_MISMATCH, F.MISSING_ENTRIES},
        ),
        (unknown_action, {F.UNKNOWN_SCHEMA}),
    ],
)
def test_each_dishonest_bundle_is_named(
    maker: Maker, tamper: Callable[[Maker], None], expected: set[FailureKind]
) -> None:
    """Each thing a dishonest exporter may do gives the kinds that describe it."""
    tamper(maker)
    verdict = maker.verdict()
    assert kinds(verdict) == expected, verdict.to_text()


def test_a_retried_shard_counts_by_its_last_artifact(maker: Maker) -> None:
    """The artifact of an earlier attempt need not be there, the last one must."""
    key, data = "runs/r1/0-a2.parquet", b"second attempt"
    maker.bodies.insert(5, finished(key, 0, data))
    del maker.artifacts["runs/r1/0.parquet"]
    assert kinds(maker.verdict()) == {F.ARTIFACT_MISSING}
    maker.artifacts[key] = data
    assert maker.verdict().ok


def edit_line(members: dict[str, bytes], number: int, body: bytes) -> None:
    """Exchange the body of an entry and keep its proof."""
    lines = members["entries.jsonl"].splitlines()
    fields = json.loads(lines[number])
    fields["body"] = base64.b64encode(body).decode()
    lines[number] = canonical_bytes(fields)
    members["entries.jsonl"] = b"\n".join(lines) + b"\n"


def set_info(members: dict[str, bytes], **changes: object) -> None:
    """Change fields of bundle.json."""
    info = {**json.loads(members["bundle.json"]), **changes}
    members["bundle.json"] = canonical_bytes(info)


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        (
            lambda m: edit_line(m, 3, story()[2]),
            F.ENTRY_MISMATCH,
            "entry 3",
        ),
        (
            lambda m: m.update({"entries.jsonl": m["entries.jsonl"] + b"{}\n"}),
            F.ENTRY_MISMATCH,
            "entries.jsonl line 10",
        ),
        (
            lambda m: m.update({"entries.jsonl": m["entries.jsonl"][:-5]}),
            F.ENTRY_MISMATCH,
            "entries.jsonl",
        ),
        (lambda m: m.pop("entries.jsonl"), F.ENTRY_MISMATCH, "entries.jsonl"),
        (
            lambda m: m.update({"entries.jsonl": b""}),
            F.MISSING_ENTRIES,
            "entries.jsonl",
        ),
        (lambda m: m.pop("checkpoint.txt"), F.BAD_SIGNATURE, "checkpoint.txt"),
        (
            lambda m: m.update({"checkpoint.txt": b"\xff"}),
            F.BAD_SIGNATURE,
            "checkpoint.txt",
        ),
        (
            lambda m: m.update(
                {"checkpoint.txt": m["checkpoint.txt"].replace(b"\n9\n", b"\n10\n")}
            ),
            F.BAD_SIGNATURE,
            "checkpoint.txt",
        ),
        (lambda m: m.pop("bundle.json"), F.BAD_BUNDLE, "bundle.json"),
        (lambda m: m.update({"bundle.json": b"{}"}), F.BAD_BUNDLE, "bundle.json"),
        (
            lambda m: set_info(m, schema="affidavit.bundle/2"),
            F.UNKNOWN_SCHEMA,
            "bundle.json",
        ),
        (lambda m: set_info(m, entries="9"), F.BAD_BUNDLE, "bundle.json"),
        (lambda m: set_info(m, artifacts=[1]), F.BAD_BUNDLE, "bundle.json"),
        (lambda m: set_info(m, extra=1), F.BAD_BUNDLE, "bundle.json"),
        (lambda m: set_info(m, origin="other"), F.INCONSISTENT, "bundle.json"),
        (
            lambda m: m.pop("artifacts/runs/r1/0.parquet"),
            F.ARTIFACT_MISSING,
            "runs/r1/0.parquet",
        ),
        (lambda m: m.update({"virus.exe": b""}), F.BAD_BUNDLE, "virus.exe"),
        (lambda m: m.update({"../up": b""}), F.BAD_BUNDLE, "evidence.zip"),
    ],
)
def test_each_changed_part_is_named(
    maker: Maker,
    change: Callable[[dict[str, bytes]], None],
    kind: FailureKind,
    where: str,
) -> None:
    """Whoever changes a part of a finished bundle is named by kind and place."""
    path = maker.write()
    repack(path, change)
    verdict = verify_bundle(path, KEY.verifier)
    assert (kind, where) in {(f.kind, f.where) for f in verdict.failures}


def test_a_listed_digest_must_be_the_artifacts(maker: Maker) -> None:
    """bundle.json may not state another size than artifact and entry agree on."""
    path = maker.write()

    def change(members: dict[str, bytes]) -> None:
        artifacts = json.loads(members["bundle.json"])["artifacts"]
        artifacts[0]["size"] += 1
        set_info(members, artifacts=artifacts)

    repack(path, change)
    assert kinds(verify_bundle(path, KEY.verifier)) == {F.ARTIFACT_MISMATCH}


def content_of(path: Path, name: str) -> bytes | None:
    """Return a member's content, or None where it cannot be read."""
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return None


def test_one_flipped_byte_is_never_overlooked(maker: Maker) -> None:
    """A byte of any member flipped on disk fails by kind, if it changes the content."""
    path = maker.write()
    honest = path.read_bytes()
    expected = {
        "bundle.json": F.BAD_BUNDLE,
        "checkpoint.txt": F.BAD_SIGNATURE,
        "entries.jsonl": F.ENTRY_MISMATCH,
        "report.json": F.REPORT_MISMATCH,
        "report.html": F.REPORT_MISMATCH,
    }
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        content = {name: archive.read(name) for name in archive.namelist()}
    for member in members:
        name_end = member.header_offset + 30
        header = honest[member.header_offset : name_end]
        start = name_end + sum(
            int.from_bytes(header[place : place + 2], "little") for place in (26, 28)
        )
        step = max(1, member.compress_size // 12)
        for place in range(start, start + member.compress_size, step):
            data = bytearray(honest)
            data[place] ^= 0x10
            path.write_bytes(data)
            if content_of(path, member.filename) == content[member.filename]:
                continue  # the last byte of a deflate stream has bits nobody reads
            verdict = verify_bundle(path, KEY.verifier)
            kind = expected.get(member.filename, F.ARTIFACT_MISMATCH)
            assert kind in kinds(verdict), (member.filename, place)


def test_a_failed_write_leaves_nothing(maker: Maker, tmp_path: Path) -> None:
    """When an artifact cannot be read no bundle and no draft remains."""

    def broken() -> io.BytesIO:
        raise OSError("the store is gone")

    with pytest.raises(OSError, match="gone"):
        write_bundle(
            maker.path,
            run="r1",
            checkpoint_note=KEY.sign(Checkpoint("a", 1, b"x" * 32)),
            entries=[],
            artifacts=[ArtifactSource("a.parquet", broken)],
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "/a", "a\\b", "a//b", "", "C:a", "a\0b"])
def test_an_artifact_that_would_climb_is_not_written(maker: Maker, name: str) -> None:
    """A key that no reader would accept is refused when writing."""
    maker.artifacts = {name: b""}
    with pytest.raises(FormatError):
        maker.write()


def member(name: str = "a", **changes: int) -> zipfile.ZipInfo:
    """Return a member as a directory may list it."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.file_size = info.compress_size = 10
    for field, value in changes.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../a")],
        [member("/a")],
        [member("a/../../b")],
        [member("a\\b")],
        [member("a/")],
        [member("./a")],
        [member("a/./b")],
        [member("...")],
        [member("c:a")],
        [member("a\x1bb")],
        [member("a\0b")],
        [member("a"), member("a")],
        [member("a"), member("A")],
        [member(external_attr=(stat.S_IFLNK | 0o777) << 16)],
        [member(external_attr=(stat.S_IFCHR | 0o600) << 16)],
        [member(external_attr=(stat.S_IFDIR | 0o700) << 16)],
        [member(flag_bits=1)],
        [member(compress_type=zipfile.ZIP_BZIP2)],
        [member(file_size=1 << 40)],
        [member(file_size=100 << 20, compress_size=1000)],
        [member("a", compress_size=600), member("b", compress_size=600)],
        [member(f"m{n}") for n in range(11)],
        [member("a", file_size=600), member("b", file_size=600)],
    ],
)
def test_unsafe_archives_are_refused(members: list[zipfile.ZipInfo]) -> None:
    """Slips, doubles, links, ciphers, bombs and overlaps are refused unread."""
    limits = ZipLimits(members=10, total_bytes=1000)
    if members[0].file_size > 1000:
        limits = ZipLimits()
    with pytest.raises(DamagedBundleError):
        check_members(members, 1000, limits)
    check_members([member("a"), member("b/c.parquet")], 1000, limits)


def test_a_decompression_bomb_is_a_failed_bundle(maker: Maker) -> None:
    """A bomb inside a bundle is named and never decompressed."""
    path = maker.write()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("artifacts/bomb", bytes(20 << 20))
    verdict = verify_bundle(path, KEY.verifier)
    assert kinds(verdict) == {F.BAD_BUNDLE}
    assert "times its size" in verdict.failures[0].message


def test_a_member_is_read_up_to_its_limit(tmp_path: Path) -> None:
    """Whole reads and lines stop at the limit that the reader sets."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x" * 100 + b"\nyy\n")
    with SafeZip(path) as archive_:
        assert list(archive_.lines("a", 101)) == [b"x" * 100, b"yy"]
        with pytest.raises(DamagedBundleError):
            list(archive_.lines("a", 99))
        with pytest.raises(DamagedBundleError):
            archive_.read("a", 10)
        with pytest.raises(DamagedBundleError):
            archive_.read("b", 10)


def test_bundle_json_reads_back(maker: Maker) -> None:
    """What the writer says about a bundle is what a reader gets."""
    path = maker.write()
    with Bundle(path) as bundle:
        info = bundle.info()
    assert info == BundleInfo.parse(info.to_bytes())
    assert [item.name for item in info.artifacts] == list(ARTIFACTS)


def test_the_command_verifies(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 for an honest bundle with the key as text or file, 14 for a bad one."""
    path = str(maker.write())
    vkey_file = tmp_path / "log.vkey"
    save_verifier(vkey_file, KEY.verifier)
    for key in (str(KEY.verifier), str(vkey_file)):
        assert main([path, "--key", key, "--json"]) == 0
        verdict = json.loads(capsys.readouterr().out)
        assert verdict["ok"]
        assert verdict["key_pinned"]
        assert verdict["window"]["first"] == "2026-11-23T08:00:00.000000Z"
    assert main([path]) == 0
    assert "key not pinned" in capsys.readouterr().out
    edit_artifact(maker)
    maker.write()
    assert main([path, "--json"]) == 14
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["kind"] == "artifact_mismatch"
    assert failure["where"] == "runs/r1/1.parquet"


def test_the_command_refuses_what_it_cannot_read(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, rubbish and a bad key give exit 2 and one sentence on stderr."""
    rubbish = tmp_path / "rubbish.zip"
    rubbish.write_bytes(b"PK rubbish")
    path = str(maker.write())
    for arguments in (
        [str(tmp_path / "none.zip")],
        [str(tmp_path)],
        [str(rubbish)],
        [path, "--key", "no-such-file"],
        [path, "--key", str(KEY.verifier)[:-1]],
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
    with pytest.raises(BundleError):
        verify_bundle(rubbish)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


def test_an_auditor_needs_cryptography_alone(maker: Maker) -> None:
    """The command loads nothing heavy, and cryptography only to check a signature."""
    code = (
        "import sys, ledger.__main__ as m\n"
        "early = 'cryptography' in sys.modules\n"
        "code = m.main(sys.argv[1:])\n"
        "heavy = {'numpy', 'torch', 'sqlalchemy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(9 if early or heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(maker.write())],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
