# SPDX-License-Identifier: Apache-2.0
"""The items that the sanity gate looks at: drawn by place, read as a worker reads."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain import ManifestItem, SourceItem
from pipeline.paths import AllowedRoots
from pipeline.planning import PreparedAudit
from pipeline.preparing import PreparedItem, Preparer
from pipeline.run_context import preparer_of
from pipeline.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitySample:
    """Items of the gate.

    Attributes:
        listed: Items that the source listed.
        drawn: Manifest positions of those drawn.
        prepared: Those of them that could be read, in manifest order.
    """

    listed: int
    drawn: tuple[int, ...]
    prepared: Sequence[PreparedItem]


def draw_sample(services: Services, audit: PreparedAudit, count: int) -> SanitySample:
    """Return the items whose places have the smallest hashes under the run's seed.

    The draw depends on seed and place alone, so that the same source gives the same
    sample; nothing but the sample is held in memory.
    """
    seed = audit.plan.seed
    listed = 0
    kept: list[tuple[int, int, SourceItem]] = []
    for index, item in enumerate(audit.source.items()):
        listed += 1
        entry = (-_hash(seed, index), index, item)
        if len(kept) < count:
            heapq.heappush(kept, entry)
        elif entry[0] > kept[0][0]:
            heapq.heapreplace(kept, entry)
    chosen = sorted(((i, item) for _, i, item in kept), key=lambda pair: pair[0])
    preparer = _preparer(services, audit)
    prepared = [preparer.prepare(_as_item(index, item)) for index, item in chosen]
    return SanitySample(
        listed=listed,
        drawn=tuple(index for index, _ in chosen),
        prepared=[one for one in prepared if one.has_input],
    )


def _hash(seed: int, index: int) -> int:
    text = f"affidavit.sanity/{seed}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _preparer(services: Services, audit: PreparedAudit) -> Preparer:
    plan = audit.plan
    roots: AllowedRoots = services.roots_noted(plan.roots)
    return preparer_of(services, audit.resolved, plan, roots=roots)


def _as_item(index: int, item: SourceItem) -> ManifestItem:
    return ManifestItem(
        item_index=index,
        item_id="",
        uri=item.uri,
        size_bytes=item.size_bytes,
        version=item.version,
        label=item.label,
        mask_uri=None,
        subject_token=None,
        groups={},
        salt=None,
        duplicate_of=None,
    )
