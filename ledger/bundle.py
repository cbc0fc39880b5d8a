# SPDX-License-Identifier: Apache-2.0
"""The evidence bundle: one zip file from which a stranger checks one run.

    bundle.json     what is inside: run, origin, key hint, result digest, artifacts
    checkpoint.txt  the signed head that all proofs lead to
    entries.jsonl   one line an entry: index, stored bytes, inclusion proof
    consistency.jsonl  that earlier checkpoints begin the same tree
    artifacts/...   the artifacts under their object keys
    report.json, report.html
    verify.pyz      the verifier: `python verify.pyz bundle.zip --key KEY`

bundle.json is not signed. Everything it says is checked against entries, and its
`vkey` is a hint: whoever made up the bundle made up the hint as well.
"""

import base64
import hashlib
import json
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from ledger.canonical import canonical_bytes
from ledger.checkpoint import VerifierKey, read_unverified
from ledger.entries import MAX_ENTRY_BYTES
from ledger.errors import DamagedBundleError, FormatError, UnknownSchemaError
from ledger.merkle import HASH_SIZE
from ledger.note import MAX_NOTE_BYTES, decode_base64
from ledger.safe_zip import SafeZip, check_member_name

SCHEMA: Final = "affidavit.bundle/1"

INFO: Final = "bundle.json"
CHECKPOINT: Final = "checkpoint.txt"
ENTRIES: Final = "entries.jsonl"
REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"
ARTIFACTS: Final = "artifacts/"
CONSISTENCY: Final = "consistency.jsonl"
#: Worth no more than the bundle that it comes with; take it from elsewhere if you can.
VERIFIER: Final = "verify.pyz"

_MAX_INFO_BYTES: Final = 64 << 20
# Base64 of the largest entry, 64 proof hashes, and the JSON around them.
_MAX_LINE_BYTES: Final = MAX_ENTRY_BYTES * 4 // 3 + 64 * 50 + 200
_CHUNK: Final = 1 << 20

#: Opens a file for reading; the writer closes it.
Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """A ledger entry as stored, with the path that leads to the checkpoint's root."""

    index: int
    body: bytes
    proof: tuple[bytes, ...]

    def to_line(self) -> bytes:
        """Return the canonical line, without its newline."""
        return canonical_bytes(
            {
                "index": self.index,
                "body": base64.b64encode(self.body).decode("ascii"),
                "proof": [
                    base64.b64encode(step).decode("ascii") for step in self.proof
                ],
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> "BundleEntry":
        """Return the entry of one line.

        Raises:
            FormatError: not the canonical line of an entry.
        """
        try:
            fields = json.loads(line)
            entry = cls(
                fields["index"],
                decode_base64(fields["body"], "entry body"),
                tuple(decode_base64(step, "proof hash") for step in fields["proof"]),
            )
            if entry.to_line() != line:
                raise FormatError("entry line is not canonical")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise FormatError("entry line is not JSON of index, body, proof") from exc
        if any(len(step) != HASH_SIZE for step in entry.proof):
            raise FormatError(f"proof hash is not {HASH_SIZE} bytes long")
        return entry


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """An artifact to be put into a bundle: its object key and how to open it."""

    name: str
    open: Opener


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """An artifact in a bundle, as bundle.json lists it."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What bundle.json says."""

    run: str
    origin: str
    vkey: str | None
    result_digest: str | None
    entries: int
    artifacts: tuple[ArtifactInfo, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of bundle.json."""
        return canonical_bytes(
            {
                "schema": SCHEMA,
                "run": self.run,
                "origin": self.origin,
                "vkey": self.vkey,
                "result_digest": self.result_digest,
                "entries": self.entries,
                "artifacts": [
                    {"name": item.name, "sha256": item.sha256, "size": item.size}
                    for item in self.artifacts
                ],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "BundleInfo":
        """Return what the bytes of bundle.json say.

        Raises:
            UnknownSchemaError: another schema.
            FormatError: not canonical, or a field is missing or of another type.
        """
        try:
            fields = json.loads(data)
            if fields["schema"] != SCHEMA:
                raise UnknownSchemaError(
                    f"bundle has schema {fields['schema']!r}, expected {SCHEMA}"
                )
            info = cls(
                run=fields["run"],
                origin=fields["origin"],
                vkey=fields["vkey"],
                result_digest=fields["result_digest"],
                entries=fields["entries"],
                artifacts=tuple(
                    ArtifactInfo(item["name"], item["sha256"], item["size"])
                    for item in fields["artifacts"]
                ),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise FormatError(f"{INFO} is not JSON with the expected fields") from exc
        if not info.has_good_types() or info.to_bytes() != data:
            raise FormatError(f"{INFO} has fields of another type or is not canonical")
        return info

    def has_good_types(self) -> bool:
        """Whether a stranger's JSON gave each field the type it should have."""
        texts = (self.run, self.origin, *(item.name for item in self.artifacts))
        optional = (self.vkey, self.result_digest)
        numbers = (self.entries, *(item.size for item in self.artifacts))
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(text, str | None) for text in optional)
            and all(type(number) is int for number in numbers)
            and all(isinstance(item.sha256, str) for item in self.artifacts)
        )


def write_bundle(  # noqa: PLR0913 - each part of a bundle is named
    path: Path,
    *,
    run: str,
    checkpoint_note: str,
    entries: Iterable[BundleEntry],
    artifacts: Iterable[ArtifactSource] = (),
    report_json: Opener | None = None,
    report_html: Opener | None = None,
    result_digest: str | None = None,
    vkey: VerifierKey | None = None,
    consistency: Mapping[int, tuple[bytes, ...]] | None = None,
    verifier: bytes | None = None,
) -> BundleInfo:
    """Write a bundle that appears complete or not at all, and return what it says.

    Files are streamed. Their digests are taken from the bytes that go in, not from a
    promise, so exporting a damaged artifact gives a bundle that says so.

    Raises:
        FormatError: the checkpoint is not one, or a name may not be a member's.
    """
    origin = read_unverified(checkpoint_note).origin
    with BundleWriter(path) as writer:
        writer.put(CHECKPOINT, checkpoint_note.encode("utf-8"))
        count = writer.put_entries(entries)
        if consistency is not None:
            writer.put_consistency(consistency)
        if verifier is not None:
            writer.put(VERIFIER, verifier)
        for name, opener in ((REPORT_JSON, report_json), (REPORT_HTML, report_html)):
            if opener is not None:
                writer.put_stream(name, opener, zipfile.ZIP_DEFLATED)
        listed = []
        for source in artifacts:
            member = ARTIFACTS + source.name
            check_member_name(member)
            # Parquet is compressed already.
            digest, size = writer.put_stream(member, source.open, zipfile.ZIP_STORED)
            listed.append(ArtifactInfo(source.name, digest, size))
        info = BundleInfo(
            run=run,
            origin=origin,
            vkey=None if vkey is None else str(vkey),
            result_digest=result_digest,
            entries=count,
            artifacts=tuple(listed),
        )
        writer.put(INFO, info.to_bytes())
    return info


class BundleWriter:
    """A zip file that appears under its name when it is complete, or never."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet."""
        self._path = path
        self._draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")

    def __enter__(self) -> Self:
        self._file = self._draft.open("xb")
        self._archive = zipfile.ZipFile(self._file, "w")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._archive.close()
            self._file.close()
            if kind is None:
                self._draft.replace(self._path)
        finally:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """The archive has this member."""
        self._archive.writestr(_member(name, zipfile.ZIP_DEFLATED), data)

    def put_entries(self, entries: Iterable[BundleEntry]) -> int:
        """Return how many entries the archive has now."""
        count = 0
        member = _member(ENTRIES, zipfile.ZIP_DEFLATED)
        with self._archive.open(member, "w", force_zip64=True) as out:
            for entry in entries:
                out.write(entry.to_line() + b"\n")
                count += 1
        return count

    def put_consistency(self, proofs: Mapping[int, tuple[bytes, ...]]) -> None:
        """The archive proves that trees of these sizes begin the bundle's tree."""
        lines = [
            canonical_bytes(
                {
                    "size": size,
                    "proof": [base64.b64encode(step).decode() for step in proof],
                }
            )
            + b"\n"
            for size, proof in sorted(proofs.items())
        ]
        self.put(CONSISTENCY, b"".join(lines))

    def put_stream(
        self, name: str, opener: Opener, compression: int
    ) -> tuple[str, int]:
        """Return the digest and the size of what the archive has under this name."""
        digest = hashlib.sha256()
        size = 0
        member = _member(name, compression)
        with (
            opener() as source,
            self._archive.open(member, "w", force_zip64=True) as out,
        ):
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
        return digest.hexdigest(), size


class Bundle:
    """A bundle opened for reading; nothing in it has been verified."""

    def __init__(self, path: Path) -> None:
        """Open the archive.

        Raises:
            BundleError: not a zip file.
            DamagedBundleError: unsafe to read.
        """
        self.archive = SafeZip(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.archive.__exit__(kind, error, trace)

    def schema(self) -> object:
        """Return what bundle.json says of its own form.

        Raises:
            FormatError: missing, damaged or no JSON object.
        """
        try:
            fields = json.loads(self.info_bytes())
        except (ValueError, RecursionError) as exc:
            raise FormatError(f"{INFO} is not JSON") from exc
        return fields.get("schema") if isinstance(fields, dict) else None

    def info_bytes(self) -> bytes:
        """Return the bytes of bundle.json.

        Raises:
            FormatError: missing or damaged.
        """
        return self.archive.read(INFO, _MAX_INFO_BYTES)

    def info(self) -> BundleInfo:
        """Return what bundle.json says.

        Raises:
            UnknownSchemaError: another schema.
            FormatError: missing, damaged or malformed.
        """
        return BundleInfo.parse(self.info_bytes())

    def checkpoint_note(self) -> str:
        """Return the text of checkpoint.txt.

        Raises:
            FormatError: missing, damaged or not UTF-8.
        """
        try:
            return self.archive.read(CHECKPOINT, MAX_NOTE_BYTES).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise DamagedBundleError(f"{CHECKPOINT} is not UTF-8") from exc

    def entry_lines(self) -> Iterator[bytes]:
        """Yield the lines of entries.jsonl.

        Raises:
            DamagedBundleError: missing or damaged.
        """
        return self.archive.lines(ENTRIES, _MAX_LINE_BYTES)

    def consistency(self) -> dict[int, tuple[bytes, ...]]:
        """Return the proofs that smaller trees begin this one, by their sizes.

        Raises:
            FormatError: the member is damaged.
        """
        if CONSISTENCY not in self.archive:
            return {}
        proofs: dict[int, tuple[bytes, ...]] = {}
        for line in self.archive.lines(CONSISTENCY, _MAX_LINE_BYTES):
            try:
                fields = json.loads(line)
                steps = [decode_base64(step, "hash") for step in fields["proof"]]
                proofs[int(fields["size"])] = tuple(steps)
            except (ValueError, KeyError, TypeError, RecursionError) as exc:
                raise FormatError(f"{CONSISTENCY} holds a line that is none") from exc
        return proofs

    def unlisted(self, names: Iterable[str]) -> list[str]:
        """Return the members that no part of the bundle accounts for."""
        known = {INFO, CHECKPOINT, ENTRIES, CONSISTENCY, *names}
        return sorted(self.archive.names - known)


def _member(name: str, compression: int) -> zipfile.ZipInfo:
    # A fixed time, so that the same evidence gives the same file.
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = compression
    member.external_attr = 0o100644 << 16
    return member
