# SPDX-License-Identifier: Apache-2.0
"""What each level of a multi-level policy keeps, over all items of a run.

Levels are in the artifacts alone, so these are read once more, one column of them; only
runs whose policy makes levels pay for it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

from explain.statistics import Moments, moment_interval
from pipeline.judging import interval_document
from pipeline.services import Services
from pipeline.shard_reading import open_artifact
from storage.tables import ShardTable

#: Policies that make several masks at once.
MULTI_LEVEL = frozenset({"multi_level"})


def level_curve(
    services: Services,
    shards: Sequence[ShardTable],
    *,
    alive: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Return one row a level, the smallest first: what is kept, and of which energy."""
    kept: dict[float, Moments] = {}
    energy: dict[float, Moments] = {}
    for shard in sorted(shards, key=lambda one: one.shard_index):
        if shard.object_key is None:
            continue
        alive()
        columns: dict[float, tuple[list[float], list[float]]] = {}
        for level in _levels(services, shard.object_key):
            achieved, retained = columns.setdefault(level["keep_requested"], ([], []))
            achieved.append(level["keep_achieved"])
            retained.append(level["energy_retained"])
        for wanted, (achieved, retained) in columns.items():
            kept[wanted] = kept.get(wanted, Moments()).merged(Moments.of(achieved))
            energy[wanted] = energy.get(wanted, Moments()).merged(Moments.of(retained))
    return [
        {
            "keep_requested": wanted,
            "n": kept[wanted].n,
            "keep_achieved": kept[wanted].mean,
            "energy_retained": energy[wanted].mean,
            "interval": interval_document(moment_interval(energy[wanted])),
        }
        for wanted in sorted(kept)
    ]


def _levels(services: Services, key: str) -> Iterator[dict[str, float]]:
    with open_artifact(services.store, key) as stream:
        table = pq.read_table(stream, columns=["levels"])
    for levels in table.column("levels").to_pylist():
        yield from levels or ()
