# SPDX-License-Identifier: Apache-2.0
"""The evidence bundle: one zip file from which a stranger checks one run.

    bundle.json     what is inside: run, origin, key hint, result digest, artifacts
    checkpoint.txt  the signed head that all proofs lead to
    entries.jsonl   one line an entry: index, stored bytes, inclusion proof
    artifacts/...   the artifacts under their object keys
    report.json, report.html

bundle.json is not signed. Everything it says is checked against entries, and its
`vkey` is a hint: whoever made up the bundle made up the hint as well.
"""

import base64
import hashlib
import json
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator
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
) -> BundleInfo:
    """Write a bundle that appears complete or not at all, and return what it says.

    Files are streamed. Their digests are taken from the bytes that go in, not from a
    promise, so exporting a damaged artifact gives a bundle that says so.

    Raises:
        FormatError: the checkpoint is not one, or a name may not be a member's.
    """
    origin = read_unverified(checkpoint_note).origin
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with draft.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
            _put_bytes(archive, CHECKPOINT, checkpoint_note.encode("utf-8"))
            count = _put_entries(archive, entries)
            for name, opener in (
                (REPORT_JSON, report_json),
                (REPORT_HTML, report_html),
            ):
                if opener is not None:
                    _put_stream(archive, name, opener, zipfile.ZIP_DEFLATED)
            listed = []
            for source in artifacts:
                member = ARTIFACTS + source.name
                check_member_name(member)
                # Parquet is compressed already.
                digest, size = _put_stream(
                    archive, member, source.open, zipfile.ZIP_STORED
                )
                listed.append(ArtifactInfo(source.name, digest, size))
            info = BundleInfo(
                run=run,
                origin=origin,
                vkey=None if vkey is None else str(vkey),
                result_digest=result_digest,
                entries=count,
                artifacts=tuple(listed),
            )
            _put_bytes(archive, INFO, info.to_bytes())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return info


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

    def info(self) -> BundleInfo:
        """Return what bundle.json says.

        Raises:
            UnknownSchemaError: another schema.
            FormatError: missing, damaged or malformed.
        """
        return BundleInfo.parse(self.archive.read(INFO, _MAX_INFO_BYTES))

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

    def unlisted(self, info: BundleInfo) -> list[str]:
        """Return the members that no part of the bundle accounts for."""
        known = {INFO, CHECKPOINT, ENTRIES, REPORT_JSON, REPORT_HTML}
        known.update(ARTIFACTS + item.name for item in info.artifacts)
        return sorted(self.archive.names - known)


def _put_entries(archive: zipfile.ZipFile, entries: Iterable[BundleEntry]) -> int:
    count = 0
    with archive.open(
        _member(ENTRIES, zipfile.ZIP_DEFLATED), "w", force_zip64=True
    ) as out:
        for entry in entries:
            out.write(entry.to_line() + b"\n")
            count += 1
    return count


def _put_bytes(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(_member(name, zipfile.ZIP_DEFLATED), data)


def _put_stream(
    archive: zipfile.ZipFile, name: str, opener: Opener, compression: int
) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    member = _member(name, compression)
    with opener() as source, archive.open(member, "w", force_zip64=True) as out:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
    return digest.hexdigest(), size


def _member(name: str, compression: int) -> zipfile.ZipInfo:
    # A fixed time, so that the same evidence gives the same file.
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = compression
    member.external_attr = 0o100644 << 16
    return member
