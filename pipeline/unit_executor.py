# SPDX-License-Identifier: Apache-2.0
"""One network on one device, working through batches of items that are no images.

The same face as `pipeline.executor.Executor`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from explain.frozen import frozen
from explain.gates import Content
from explain.maps import StoredMaps
from pipeline.batch_rows import RowWriter
from pipeline.domain import ItemResult
from pipeline.executor import BatchOutput
from pipeline.kinds.kind import DataKind
from pipeline.preparing import PreparedItem
from pipeline.run_plan import RunPlan
from pipeline.staging import StagedBatch
from pipeline.unit_engine import UnitBatch, UnitEngine


def _do_nothing() -> None:
    """Stand in for a listener."""


class UnitExecutor:
    """Explains the batches of one run on one device."""

    def __init__(
        self, plan: RunPlan, model: nn.Module, device: torch.device, kind: DataKind
    ) -> None:
        """Take the parts."""
        self._plan = plan
        self._device = device
        self._model = model.to(device)
        self._engine = UnitEngine(plan, self._model, device, kind)
        self._writer = RowWriter(plan)

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self._device

    @property
    def model(self) -> nn.Module:
        """The network, on its device; other runs' executors may share it."""
        return self._model

    @contextmanager
    def session(self, on_step: Callable[[], None] = _do_nothing) -> Iterator[None]:
        """Hold the network frozen and the thread count fixed over many batches.

        Args:
            on_step: Told after each forward pass.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self._plan.threads)
        beat = self._model.register_forward_hook(lambda *_: on_step())
        try:
            with frozen(self._model):
                yield
        finally:
            beat.remove()
            torch.set_num_threads(before)

    def stage(self, prepared: Sequence[PreparedItem]) -> StagedBatch:
        """Return the batch; contents go to the device when they are explained."""
        items = list(prepared)
        valid = [item.content is not None for item in items]
        valid += [False] * (self._plan.batch_size - len(valid))
        return StagedBatch(items=items, valid=tuple(valid), inputs=None)

    def explain_batch(self, prepared: Sequence[PreparedItem]) -> BatchOutput:
        """Return one result for each item, failed ones included, in order."""
        return self.explain_staged(self.stage(prepared))

    def explain_staged(self, batch: StagedBatch) -> BatchOutput:
        """Return one result for each item of a batch that was staged."""
        places: list[PreparedItem | None] = list(batch.items)
        places += [None] * (self._plan.batch_size - len(places))
        return self._explained(places)

    def try_alone(self, prepared: PreparedItem, place: int) -> None:
        """Nothing happens if a batch of this item alone can be computed."""
        places: list[PreparedItem | None] = [None] * self._plan.batch_size
        places[place] = prepared
        self._explained(places)

    def _explained(self, places: Sequence[PreparedItem | None]) -> BatchOutput:
        contents = [None if one is None else one.content for one in places]
        there = [content for content in contents if content is not None]
        if not there:
            rows = self._writer.rows(list(places), None)
            return BatchOutput(results=rows, halved=False)
        found = self._engine.measure(self._batch(places, contents, there[0]))
        results: list[ItemResult] = []
        halved = False
        for part in found:
            slots = [places[place] for place in part.places]
            results += self._writer.rows(slots, part.measured)
            halved |= part.measured is not None and part.measured.halved
        return BatchOutput(results=results, halved=halved)

    def batch_of(self, prepared: Sequence[PreparedItem]) -> UnitBatch:
        """Return a batch of items that all have contents, for who looks closer."""
        contents = [one.content for one in prepared if one.content is not None]
        return self._batch(prepared, contents, contents[0])

    def stored_map(self, batch: UnitBatch, place: int) -> StoredMaps:
        """Return an item's map as written, explained with its batch."""
        for part in self._engine.measure(batch):
            if place in part.places and part.measured is not None:
                row = part.places.index(place)
                stored = part.measured.stored
                return StoredMaps(
                    values=stored.values[row : row + 1],
                    scale=stored.scale[row : row + 1],
                )
        raise ValueError(f"Expected an item at place {place} of the batch.")

    def _batch(
        self,
        places: Sequence[PreparedItem | None],
        contents: Sequence[Content | None],
        stand_in: Content,
    ) -> UnitBatch:
        return UnitBatch(
            contents=[stand_in if one is None else one for one in contents],
            valid=[one is not None for one in contents],
            targets=self._targets(places),
            truths=[
                None
                if one is None or one.truth is None
                else torch.from_numpy(one.truth)
                for one in places
            ],
            indices=tuple(0 if one is None else one.item.item_index for one in places),
        )

    def _targets(self, places: Sequence[PreparedItem | None]) -> Tensor | None:
        rule = self._plan.target
        if rule == "predicted":
            return None
        if rule == "label":
            labels = [
                0 if one is None or one.label is None else one.label for one in places
            ]
            return torch.tensor(labels)
        return torch.full((len(places),), int(rule))
