# SPDX-License-Identifier: Apache-2.0
"""Collecting what attempts left behind that were not their shard's last.

An object is stored before the row that names it, so a worker that dies or is fenced
out in between leaves one that nobody names; one that dies while it writes into a folder
leaves a file that is no object yet. Only shards' artifacts of known runs are
looked at, each is held against its row again right before it is deleted, and each
deletion is one ledger entry, made first. Two collectors at once do the same twice.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.entries import Action
from pipeline.services import Services
from storage.artifact_keys import is_wanted, known_runs
from storage.engine import transaction
from storage.events import record
from storage.objects import ObjectNotFoundError

#: A half-written file that was not touched for so long has no writer, whatever age is
#: asked for: nobody may take it from one that is at work.
LEFTOVER_AGE_S = 3600.0

_ARTIFACT = re.compile(r"runs/([0-9a-z]+)/shards/(\d+)\.a(\d+)\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An object that no shard names.

    Attributes:
        key: Where it lies.
        size_bytes: How large it is.
        age_s: Seconds since it was stored.
    """

    key: str
    size_bytes: int
    age_s: float


def find_orphans(services: Services, *, older_than_s: float) -> Iterator[Orphan]:
    """Yield the artifacts of known runs that no shard names and that are old enough.

    The age keeps an attempt's object that is stored and not yet named, which looks the
    same; so does the attempt: the newest one may still be at work.

    Raises:
        ObjectStoreError: the store fails.
    """
    for run_id in known_runs(services.engine):
        for key in services.store.keys(f"runs/{run_id}/shards/"):
            if not _is_named(services, key):
                found = _orphan(services, key, older_than_s)
                if found is not None:
                    yield found


def collect_orphans(
    services: Services, *, older_than_s: float, dry_run: bool = False
) -> list[Orphan]:
    """Return the orphans, which are gone unless this is a dry run.

    Raises:
        ObjectStoreError: the store fails; what was deleted stays deleted.
    """
    collected = []
    for orphan in find_orphans(services, older_than_s=older_than_s):
        if not dry_run:
            if _is_named(services, orphan.key):
                continue
            _record(services, orphan.key.removesuffix(".parquet"), orphan)
            services.store.delete(orphan.key)
        collected.append(orphan)
    for leftover in find_leftovers(services, older_than_s=older_than_s):
        if not dry_run:
            _record(services, f"incoming/{leftover.key}", leftover)
            services.store.delete_leftover(leftover.key)
        collected.append(leftover)
    return collected


def find_leftovers(services: Services, *, older_than_s: float) -> Iterator[Orphan]:
    """Yield the half-written files of a folder store whose writers are gone.

    Raises:
        ObjectStoreError: the store fails.
    """
    now = time.time()
    for info in services.store.leftovers():
        age_s = now - info.modified_at
        if age_s >= max(older_than_s, LEFTOVER_AGE_S):
            yield Orphan(key=info.key, size_bytes=info.size_bytes, age_s=age_s)


def _record(services: Services, obj: str, orphan: Orphan) -> None:
    with transaction(services.engine) as session:
        record(
            session,
            Action.OBJECT_COLLECTED,
            obj,
            actor=services.actor,
            details={"size": orphan.size_bytes},
        )


def _is_named(services: Services, key: str) -> bool:
    """Whether a shard names the object, or its attempt may still come to that."""
    parts = _ARTIFACT.fullmatch(key)
    if parts is None:
        # Nothing of ours: left alone.
        return True
    return is_wanted(
        services.engine, parts[1], int(parts[2]), attempt=int(parts[3]), key=key
    )


def _orphan(services: Services, key: str, older_than_s: float) -> Orphan | None:
    try:
        info = services.store.stat(key)
    except ObjectNotFoundError:
        # Another collector was faster.
        return None
    age_s = time.time() - info.modified_at
    if age_s < older_than_s:
        return None
    return Orphan(key=key, size_bytes=info.size_bytes, age_s=age_s)
