# SPDX-License-Identifier: Apache-2.0
"""Parsers of what strangers hand us: each answers, or raises what it documents.

Any other exception is a fault of ours, and a fuzzer that meets one has found it.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger.anchors import parse_lines
from ledger.checkpoint import VerifierKey, open_note, read_unverified
from ledger.entries import Entry
from ledger.errors import BundleError, FormatError, SignatureError
from ledger.tiles import entry_bundle, read_bundle, read_tile
from ledger.verifier import verify_bundle
from pipeline.errors import SourceError, SpecError
from pipeline.paths import AllowedRoots
from pipeline.sources.table import TableSource
from pipeline.spec import ColumnsSpec
from pipeline.spec_file import load_spec
from tests.fuzz.seeds import KEY, unflattened, zipped

#: Items that are taken of a manifest; what matters is how it is read.
_MOST_ITEMS = 1_000


class WrongAnswerError(Exception):
    """A parser took something that it does not write the same way again."""


def checkpoint(data: bytes) -> None:
    """A signed note, a key line or a file of anchors: read, or a `FormatError`."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(FormatError):
        read_unverified(text)
    with suppress(FormatError, SignatureError):
        open_note(text, KEY.verifier)
    with suppress(FormatError):
        VerifierKey.parse(text.strip())
    with suppress(FormatError):
        parse_lines(text)


def entry(data: bytes) -> None:
    """A ledger entry: read and written the same way again, or a `FormatError`."""
    with suppress(FormatError):
        if Entry.parse(data).to_bytes() != data:
            raise WrongAnswerError("an entry has two spellings")


def tiles(data: bytes) -> None:
    """A tile or a bundle of entries: read, or a `FormatError`."""
    with suppress(FormatError):
        read_tile(data)
    with suppress(FormatError):
        if entry_bundle(read_bundle(data)) != data:
            raise WrongAnswerError("a bundle of entries has two spellings")


def archive(data: bytes) -> None:
    """A file that is said to be a bundle: a verdict, or a `BundleError`."""
    with _file("bundle.zip", data) as path, suppress(BundleError):
        verify_bundle(path, KEY.verifier)


def bundle(data: bytes) -> None:
    """A well-formed archive with other members: a verdict, or a `BundleError`."""
    archive(zipped(unflattened(data)))


def spec(data: bytes) -> None:
    """The file of a spec: a spec, or a `SpecError`."""
    with _file("audit.yaml", data) as path, suppress(SpecError):
        load_spec(path)


def csv(data: bytes) -> None:
    """A manifest as CSV: its items, or a `SourceError`."""
    _manifest("items.csv", data)


def parquet(data: bytes) -> None:
    """A manifest as Parquet: its items, or a `SourceError`."""
    _manifest("items.parquet", data)


def _manifest(name: str, data: bytes) -> None:
    with _file(name, data) as path, suppress(SourceError):
        source = TableSource(
            path, ColumnsSpec(subject="who"), AllowedRoots((path.parent,))
        )
        for number, _item in enumerate(source.items()):
            if number == _MOST_ITEMS:
                break


class _file:  # noqa: N801 - reads as the file that it is
    """A file with these bytes, in a folder of its own that goes again."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name, self._data = name, data
        self._folder = TemporaryDirectory(prefix="fuzz-")

    def __enter__(self) -> Path:
        path = Path(self._folder.name) / self._name
        path.write_bytes(self._data)
        return path

    def __exit__(self, *_error: object) -> None:
        self._folder.cleanup()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "checkpoint": checkpoint,
    "entry": entry,
    "tiles": tiles,
    "zip": archive,
    "bundle": bundle,
    "spec": spec,
    "csv": csv,
    "parquet": parquet,
}
