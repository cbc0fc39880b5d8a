# SPDX-License-Identifier: Apache-2.0
"""What metrics are given about one batch, and what several of them share."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from explain.chunking import in_pieces, per_pass
from explain.context import DEFAULT_CHUNK
from explain.draws import ItemDraws
from explain.errors import MissingContextError
from explain.maps import StoredMaps
from explain.methods.method import Attribution
from explain.metrics.absence import AbsenceReason
from explain.ranking import descending

Made = TypeVar("Made")


class Draw(IntEnum):
    """Where each use of randomness counts its draws from, so that none is shared."""

    SENSITIVITY = 0
    FILL = 1 << 20
    SUBSETS = 2 << 20
    PERTURBATIONS = 3 << 20
    IMPUTATION = 4 << 20
    SMOOTHING = 5 << 20
    OTHER_CLASS = 6 << 20


def target_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit of each item's target class.

    Shape: logits (N, K), targets (N,) int64 -> (N,) float64.
    """
    places = targets[:, None].to(logits.device)
    return logits.double().gather(1, places).squeeze(1)


def target_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the softmax probability of each item's target class.

    Computed in float64, so that small probabilities and their ratios survive.

    Shape: logits (N, K), targets (N,) int64 -> (N,) float64.
    """
    return target_logit(logits.double().softmax(dim=1), targets)


def target_predicted(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where the target has the highest logit, else 0; NaN stays NaN.

    Shape: logits (N, K), targets (N,) int64 -> (N,) float64.
    """
    hit = logits.argmax(dim=1) == targets.to(logits.device)
    return torch.where(logits.isnan().any(dim=1), torch.nan, hit.double())


#: What of the logits counts, by the name that parameters use.
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "probability": target_probability,
    "logit": target_logit,
    "accuracy": target_predicted,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricBatch:
    """One batch of explanations as stored, with the means to ask the model again.

    Forward passes hold a fixed number of copies of the batch, given by ``chunk``: their
    shape depends on the batch size alone, since convolutions give other last bits at
    other shapes. Items that are not ``valid`` (failed, or zero padding) go along and
    come out absent.

    Attributes:
        inputs: (N, C, H, W), normalised as the model takes them.
        targets: (N,) int64.
        logits: (N, K), from the main forward pass.
        stored: the native maps as written.
        maps: (N, H, W) float32, upsampled from the stored ones.
        mask: (N, H, W) bool, what the threshold policy kept.
        ground_truth: (N, H, W) bool, or None if no item has one.
        has_truth: (N,) bool.
        valid: (N,) bool.
        output_change: what the raw map should sum to, (N,) float64, for methods with
            a completeness axiom; None for others.
        forward: inputs to logits, without a graph.
        explain: inputs and targets to an attribution.
        draws: the items' random numbers.
        input_range: (C,), the width of the valid input range per channel (1 / std).
        chunk: most images in one forward pass.
        represent: inputs to logits and what the last linear layer was given, (N, F);
            None where the model has none.
        randomised: inputs, targets, stage and stages to an attribution of a copy of
            the model whose last stage / stages of the layers are drawn anew; None
            where that cannot be had.
    """

    inputs: Tensor
    targets: Tensor
    logits: Tensor
    stored: StoredMaps
    maps: Tensor
    mask: Tensor
    ground_truth: Tensor | None
    has_truth: Tensor
    valid: Tensor
    forward: Callable[[Tensor], Tensor]
    explain: Callable[[Tensor, Tensor], Attribution]
    draws: ItemDraws
    input_range: Tensor
    output_change: Tensor | None = None
    chunk: int = DEFAULT_CHUNK
    represent: Callable[[Tensor], tuple[Tensor, Tensor | None]] | None = None
    randomised: Callable[[Tensor, Tensor, int, int], Attribution] | None = None

    def scores(
        self, total: int, make: Callable[[int, int], Tensor], kind: str = "probability"
    ) -> Tensor:
        """Return the target's score on changed copies of the batch.

        Args:
            total: How many copies there are.
            make: Gives the copies of a range, (k, N, C, H, W).
            kind: Of ``SCORES``.

        Shape: (total, N) float64.
        """
        items = len(self.inputs)
        found = torch.empty(
            total, items, dtype=torch.float64, device=self.inputs.device
        )

        def work(start: int, stop: int) -> None:
            logits = self.forward(make(start, stop).flatten(0, 1))
            targets = self.targets.repeat(stop - start)
            found[start:stop] = SCORES[kind](logits, targets).view(-1, items)

        with torch.no_grad():
            self._note(in_pieces(total, per_pass(items, self.chunk), work))
        return found

    def score(self, inputs: Tensor, kind: str = "probability") -> Tensor:
        """Return the target's score on other inputs of the same shape.

        Shape: (N, C, H, W) -> (N,) float64.
        """
        return self.scores(1, lambda _start, _stop: inputs[None], kind)[0]

    def full_scores(self, kind: str = "probability") -> Tensor:
        """Return the target's score on the whole input, (N,) float64."""
        return SCORES[kind](self.logits, self.targets)

    def explained(self, inputs: Tensor, targets: Tensor | None = None) -> Attribution:
        """Return the attribution of other inputs, or of other targets."""
        found = self.explain(inputs, self.targets if targets is None else targets)
        self._note(found.halved)
        return found

    def explained_at_random(
        self, inputs: Tensor, stage: int, stages: int
    ) -> Attribution:
        """Return the attribution that a copy with random weights gives.

        Raises:
            MissingContextError: nothing makes such copies here.
        """
        if self.randomised is None:
            raise MissingContextError(
                "Expected a way to explain randomised copies of the network, got none;"
                " give the batch one, or leave the randomisation metrics out."
            )
        found = self.randomised(inputs, self.targets, stage, stages)
        self._note(found.halved)
        return found

    def noise(self, draw: int) -> Tensor:
        """Return uniform numbers in [-1, 1) that belong to the items.

        Shape: the inputs', (N, C, H, W) float32.
        """
        shape = tuple(self.inputs.shape[1:])
        return self.draws.uniform(draw, shape).to(self.inputs)

    def once(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what the key stands for, made when it is first asked for."""
        if key not in self._shared:
            self._shared[key] = make()
        value: Made = self._shared[key]  # type: ignore[assignment]
        return value

    @property
    def halved(self) -> bool:
        """Whether some pass had to be halved for lack of memory."""
        return "halved" in self._shared

    @cached_property
    def _shared(self) -> dict[str, object]:
        return {}

    def _note(self, halved: bool) -> None:
        if halved:
            self._shared["halved"] = True

    @cached_property
    def ranks(self) -> Tensor:
        """Each pixel's place when sorted by attribution, highest first, (N, H, W).

        Equal values rank by lowest index. As int32, which comparisons read in half
        the time; compare with the same type.
        """
        order = descending(self.maps.flatten(1))[1]
        places = torch.arange(order.shape[1], device=order.device, dtype=torch.int32)
        ranks = torch.empty_like(order, dtype=torch.int32)
        ranks.scatter_(1, order, places.expand_as(order))
        return ranks.view_as(self.maps)

    @cached_property
    def invalid(self) -> Tensor:
        """Items that failed or are padding, (N,) bool."""
        return ~self.valid.cpu()

    @cached_property
    def non_finite_map(self) -> Tensor:
        """Items whose map holds NaN or infinity, (N,) bool."""
        return ~torch.isfinite(self.maps.flatten(1)).all(dim=1).cpu()

    @cached_property
    def constant_map(self) -> Tensor:
        """Items whose map is the same everywhere, (N,) bool."""
        flat = self.maps.flatten(1)
        return (flat.amin(dim=1) == flat.amax(dim=1)).cpu()

    @property
    def unusable(self) -> list[tuple[AbsenceReason, Tensor]]:
        """Why an item's map says nothing, where that is so; (N,) bool each."""
        return [
            (AbsenceReason.INVALID_ITEM, self.invalid),
            (AbsenceReason.NON_FINITE, self.non_finite_map),
            (AbsenceReason.CONSTANT_MAP, self.constant_map),
        ]
