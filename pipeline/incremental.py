# SPDX-License-Identifier: Apache-2.0
"""Which items of a source are new or changed since the runs before.

What a run computes of an item depends on its bytes, its label and its mask, on the spec
and on the weights. So an item may be left out if an earlier run of the same audit, with
the same spec digest and the same model digest, explained an item of that URI, label and
mask, and the content is the same: by size and version where the source gives both
alike, else by SHA-256, for which the file is read. Masks carry no version and are read
each time. Items that failed are always taken again.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from pipeline.domain import SourceItem
from pipeline.earlier_items import EarlierItem, EarlierItems, open_earlier_items
from pipeline.errors import AuditError, ItemError
from pipeline.planning import PreparedAudit
from pipeline.reading import ItemReader
from pipeline.services import Services
from pipeline.sources.source import Source
from storage.earlier_runs import iterate_outcomes, reported_runs
from storage.states import ItemStatus

#: Items that are looked up at a time.
CHUNK = 500

#: Files that are read at a time to compare their digests.
READERS = 8

#: Base runs that a run names; of more, the newest and their number.
NAMED_BASES = 10


class Standing(StrEnum):
    """How an item stands to the runs before."""

    UNCHANGED = "unchanged"
    NEW = "new"
    CHANGED = "changed"
    #: It failed before, or was in a shard that died.
    AGAIN = "again"


class NothingNewError(AuditError):
    """No item is new or changed, so that there is nothing to run.

    Attributes:
        counts: What was found, as a run would note it.
    """

    def __init__(self, counts: dict[str, Any]) -> None:
        super().__init__(
            f"None of the {counts['unchanged']:,} items is new or changed since run "
            f"{counts['bases'][0]}, so there is no run."
        )
        self.counts = counts


@dataclass(slots=True)
class Tally:
    """How many items stand how, and of how many the file was read to find out."""

    unchanged: int = 0
    new: int = 0
    changed: int = 0
    again: int = 0
    hashed: int = 0
    removed: int = 0

    def count(self, standing: Standing) -> None:
        """One more item stands so."""
        setattr(self, standing.value, getattr(self, standing.value) + 1)


@dataclass(slots=True)
class IncrementalSource:
    """A source without the items that are as they were.

    Listing ends with NothingNewError where no item is left, so that whoever lists in
    a transaction writes nothing.

    Attributes:
        source: All items.
        earlier: What the runs before know.
        bases: These runs, the newest first.
        reader: Reads what must be compared by its digest.
    """

    source: Source
    earlier: EarlierItems
    bases: list[str]
    reader: ItemReader
    tally: Tally = field(default_factory=Tally)

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return self.source.kind

    def items(self) -> Iterator[SourceItem]:
        """Yield the items that are new, changed or failed before.

        Raises:
            NothingNewError: there was none.
            InfrastructureError: a file that must be compared cannot be reached.
        """
        tally = self.tally = Tally()
        listing = iter(self.source.items())
        with ThreadPoolExecutor(READERS, thread_name_prefix="compare") as pool:
            while chunk := list(islice(listing, CHUNK)):
                known = self.earlier.listed(list({item.uri for item in chunk}))
                answers = pool.map(
                    lambda item: self._standing(item, known.get(item.uri)),  # noqa: B023
                    chunk,
                )
                for item, (standing, was_read) in zip(chunk, answers, strict=True):
                    tally.count(standing)
                    tally.hashed += was_read
                    if standing is not Standing.UNCHANGED:
                        yield item
        tally.removed = self.earlier.unlisted()
        if tally.unchanged and not tally.new + tally.changed + tally.again:
            raise NothingNewError(self.to_json())

    def _standing(
        self, item: SourceItem, known: EarlierItem | None
    ) -> tuple[Standing, bool]:
        """Return how the item stands, and whether a file was read for it."""
        if known is None:
            return Standing.NEW, False
        if not known.is_done:
            return Standing.AGAIN, False
        is_other = (item.label, item.mask_uri) != (known.label, known.mask_uri)
        if is_other or len({item.size_bytes, known.size_bytes} - {None}) > 1:
            return Standing.CHANGED, False
        return self._compared(item, known)

    def _compared(self, item: SourceItem, known: EarlierItem) -> tuple[Standing, bool]:
        """Return how the content stands, and whether a file was read for it."""
        pairs = []
        here, there = (item.size_bytes, item.version), (known.size_bytes, known.version)
        if item.version is None or here != there:
            pairs.append((item.uri, known.input_sha256))
        if item.mask_uri:
            pairs.append((item.mask_uri, known.truth_sha256))
        is_same = all(self._digest(uri) == digest for uri, digest in pairs)
        return Standing.UNCHANGED if is_same else Standing.CHANGED, bool(pairs)

    def _digest(self, uri: str) -> str:
        """Return the SHA-256 of a file, or nothing that any file has."""
        try:
            return hashlib.sha256(self.reader.read(uri)).hexdigest()
        except ItemError as exc:
            # The run will say of it what is wrong.
            return exc.reason.value

    def to_json(self) -> dict[str, Any]:
        """Return what a run notes of its base, once the listing is through."""
        return {
            "bases": self.bases[:NAMED_BASES],
            "base_count": len(self.bases),
            **asdict(self.tally),
        }


@contextmanager
def wanted_items(
    services: Services, audit: PreparedAudit, *, incremental: bool
) -> Iterator[tuple[PreparedAudit, IncrementalSource | None]]:
    """The audit, and if incremental the source that leaves out what is unchanged.

    Without an earlier run of the same audit, spec digest and model digest nothing is
    left out.
    """
    if not incremental:
        yield audit, None
        return
    bases = reported_runs(
        services.engine,
        audit.written.audit,
        spec_digest=audit.spec_sha256,
        model_digest=audit.model_sha256,
    )
    with open_earlier_items() as earlier:
        for run_id in bases:
            earlier.take(
                EarlierItem(
                    uri=row.uri,
                    size_bytes=row.size_bytes,
                    version=row.version,
                    label=row.label,
                    mask_uri=row.mask_uri,
                    is_done=row.status == ItemStatus.DONE,
                    input_sha256=row.input_sha256,
                    truth_sha256=row.truth_sha256,
                )
                for row in iterate_outcomes(services.engine, run_id)
            )
        source = IncrementalSource(
            source=audit.source,
            earlier=earlier,
            bases=bases[::-1],
            reader=services.reader(services.roots_noted(audit.plan.roots)),
        )
        yield replace(audit, source=source), source
