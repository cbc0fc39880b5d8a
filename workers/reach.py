# SPDX-License-Identifier: Apache-2.0
"""Which items of a listing lie where the workers may not read.

A manifest inside a shared folder may name files outside of it. Each of those becomes an
item that failed, which is cheaper to hear of before the run than after it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pipeline.domain import SourceItem
from pipeline.paths import AllowedRoots, is_remote
from pipeline.sources.source import Source
from storage.tables import WorkerTable


@dataclass(slots=True)
class _Reach:
    """What of a listing one worker may not read.

    Attributes:
        name: The worker's.
        reads_folder: Whether the worker may read what lies in a folder.
        inputs: Items that it may not read.
        masks: Items of which it may not read the mask alone.
        first: Index of the first of them.
    """

    name: str
    reads_folder: Callable[[str], bool]
    inputs: int = 0
    masks: int = 0
    first: int | None = None

    def look_at(self, index: int, item: SourceItem) -> None:
        """The item is counted if the worker may not read it."""
        if not self._reads(item.uri):
            self.inputs += 1
        elif item.mask_uri and not self._reads(item.mask_uri):
            self.masks += 1
        else:
            return
        if self.first is None:
            self.first = index

    def _reads(self, uri: str) -> bool:
        return is_remote(uri) or self.reads_folder(os.path.split(uri)[0])


def _folder_check(roots: AllowedRoots) -> Callable[[str], bool]:
    # Listings name few folders and many files.
    @lru_cache(maxsize=4096)
    def reads_folder(folder: str) -> bool:
        return roots.contain(Path(os.path.realpath(folder)))

    return reads_folder


@dataclass
class WatchedSource:
    """A source that counts, while it is listed, what each worker could not read.

    Linked folders are followed as they are on this machine, and linked files are not;
    only the worker itself can know what they are on its own.

    Attributes:
        source: What is listed.
        workers: Those that may get the items.
    """

    source: Source
    workers: Sequence[WorkerTable]
    _reaches: list[_Reach] = field(default_factory=list, init=False)
    _listed: int = field(default=0, init=False)

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return self.source.kind

    def items(self) -> Iterator[SourceItem]:
        """Yield every item of the source; see there for what it raises."""
        # Workers with the same folders fail at the same items.
        names = {tuple(worker.roots): worker.name for worker in self.workers}
        self._reaches = [
            _Reach(name, _folder_check(AllowedRoots(tuple(Path(r) for r in roots))))
            for roots, name in names.items()
        ]
        self._listed = 0
        for item in self.source.items():
            for reach in self._reaches:
                reach.look_at(self._listed, item)
            self._listed += 1
            yield item

    def warnings(self) -> list[str]:
        """Return one sentence for each worker that could not read everything."""
        return [
            f"{reach.inputs + reach.masks:,} of {self._listed:,} items lie outside "
            f"what the worker '{reach.name}' reads ({reach.masks:,} of them with their "
            f"mask alone), the first is item {reach.first}; there they will fail with "
            "'outside_allowed_roots', start workers with AFFIDAVIT_ALLOWED_ROOTS for "
            "them or move them."
            for reach in self._reaches
            if reach.first is not None
        ]
