# SPDX-License-Identifier: Apache-2.0
"""One network on one device, working through the batches of a run.

Every batch has the run's batch size: positions without an input are zero, because
convolutions give other last bits at other batch shapes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer
from explain.frozen import frozen
from pipeline.batch_rows import MeasuredBatch, RowWriter
from pipeline.domain import ItemResult
from pipeline.engine import BatchInputs, Engine, stacked_truths
from pipeline.preparing import PreparedItem
from pipeline.run_plan import RunPlan
from pipeline.staging import StagedBatch, Stager


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutput:
    """The results of one batch, and whether it had to be halved."""

    results: list[ItemResult]
    halved: bool


def _do_nothing() -> None:
    """Stand in for a listener."""


class Executor:
    """Explains the batches of one run on one device."""

    def __init__(
        self,
        plan: RunPlan,
        model: nn.Module,
        device: torch.device,
        *,
        layer: TappedLayer | None = None,
    ) -> None:
        """Take the parts; see `Engine` for the layer."""
        self._plan = plan
        self._device = device
        self._model = model.to(device)
        self._engine = Engine(plan, self._model, device, layer=layer)
        self._writer = RowWriter(plan)
        self._stager = Stager(
            batch_size=plan.batch_size, input_shape=plan.input_shape, device=device
        )

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
            on_step: Told after each forward pass, since a batch with many metrics can
                take minutes and silence means a hang.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self._plan.threads)
        beat = self._model.register_forward_hook(lambda *_: on_step())
        self._engine.on_step = on_step
        try:
            with frozen(self._model):
                yield
        finally:
            beat.remove()
            self._engine.on_step = _do_nothing
            torch.set_num_threads(before)

    def stage(self, prepared: Sequence[PreparedItem]) -> StagedBatch:
        """Return the batch on its way to the device; may be called in a thread."""
        return self._stager.stage(prepared)

    def explain_batch(self, prepared: Sequence[PreparedItem]) -> BatchOutput:
        """Return one result for each item, failed ones included, in order."""
        return self.explain_staged(self.stage(prepared))

    def explain_staged(self, batch: StagedBatch) -> BatchOutput:
        """Return one result for each item of a batch that was staged.

        A batch for which the device has too little memory is halved until it fits.
        """
        slots: list[PreparedItem | None] = list(batch.items)
        slots += [None] * (self._plan.batch_size - len(slots))
        results, halved = self._explain_slots(slots, batch.valid, self._inputs(batch))
        return BatchOutput(results=results, halved=halved)

    def try_alone(self, prepared: PreparedItem, place: int) -> None:
        """Nothing happens if a batch of this item alone can be computed."""
        batch = self._stager.stage([prepared], first=place)
        slots: list[PreparedItem | None] = [None] * self._plan.batch_size
        slots[place] = prepared
        self._explain_slots(slots, batch.valid, self._inputs(batch))

    def _inputs(self, batch: StagedBatch) -> Tensor | None:
        """Return the inputs on the device, or on the host where they do not fit."""
        try:
            return batch.on_device(self._device)
        except torch.OutOfMemoryError:
            return batch.inputs

    def _explain_slots(
        self,
        slots: list[PreparedItem | None],
        valid: tuple[bool, ...],
        inputs: Tensor | None,
    ) -> tuple[list[ItemResult], bool]:
        try:
            measured = self._compute(slots, valid, inputs)
        except torch.OutOfMemoryError:
            if len(slots) == 1:
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            middle = len(slots) // 2
            results: list[ItemResult] = []
            for half in (slice(None, middle), slice(middle, None)):
                part = None if inputs is None else inputs[half]
                found, _ = self._explain_slots(slots[half], valid[half], part)
                results += found
            return results, True
        halved = measured is not None and measured.halved
        return self._writer.rows(slots, measured), halved

    def _compute(
        self,
        slots: list[PreparedItem | None],
        valid: tuple[bool, ...],
        inputs: Tensor | None,
    ) -> MeasuredBatch | None:
        """Explain, cut and measure; None when no slot has an input."""
        if inputs is None or not any(valid):
            return None
        inputs = inputs.to(self._device)
        ground_truth, has_truth = stacked_truths(
            [None if slot is None else slot.truth for slot in slots],
            (inputs.shape[2], inputs.shape[3]),
            self._device,
        )
        return self._engine.measure(
            BatchInputs(
                inputs=inputs,
                targets=self._targets(slots),
                ground_truth=ground_truth,
                has_truth=has_truth,
                valid=torch.tensor(valid),
                indices=tuple(
                    0 if slot is None else slot.item.item_index for slot in slots
                ),
            )
        )

    def _targets(self, slots: list[PreparedItem | None]) -> Tensor | None:
        """Return the target classes, on the CPU, where checking them stops nothing."""
        rule = self._plan.target
        if rule == "predicted":
            return None
        if rule == "label":
            labels = [
                0 if slot is None or slot.label is None else slot.label
                for slot in slots
            ]
            return torch.tensor(labels)
        return torch.full((len(slots),), int(rule))
