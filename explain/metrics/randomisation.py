# SPDX-License-Identifier: Apache-2.0
"""Does the map depend on the network's weights, and on the class?

    MPRT         similarity of a(x) and of the map of a network whose layers are drawn
                 anew from the output on, averaged over the stages of that cascade
    smooth MPRT  the same of maps averaged over noisy inputs
    efficient    relative rise of the map's entropy under wholly random weights
    random logit similarity of a(x) and of the map of another class

The network that is measured is not in any average: a map is always like itself.

Sources: Adebayo et al. 2018, "Sanity Checks for Saliency Maps"; Hedstroem et al. 2024,
"A Fresh Look at Sanity Checks for Saliency Maps", sections 4.1 and 4.2; Sixt, Granz and
Landgraf 2020, "When Explanations Lie: Why Many Modified BP Attributions Fail".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from explain.maps import dequantise, quantise, upsample
from explain.metrics.absence import AbsenceReason
from explain.metrics.batch import Draw, MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.correlation import spearman
from explain.metrics.randomisation_cards import random_key


@dataclass(frozen=True, slots=True)
class Mprt:
    """Similarity to maps of ever more random networks."""

    stages: int = 5

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "mprt"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``mprt`` and ``mprt_full``; a shared explanation a stage."""
        original = dequantise(batch.stored)
        alike = torch.stack(
            [
                spearman(original, random_maps(batch, stage, self.stages))
                for stage in range(1, self.stages + 1)
            ]
        )
        return {
            "mprt": column(alike.nanmean(dim=0), _absent(batch, alike)),
            "mprt_full": column(alike[-1], _absent(batch, alike[-1:])),
        }


@dataclass(frozen=True, slots=True)
class SmoothMprt:
    """The same of maps averaged over noisy inputs."""

    stages: int = 3
    samples: int = 5
    noise: float = 0.05

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "smprt"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``smprt``; an explanation a sample and stage, and one more each."""
        own = self._averaged(batch, 0)
        alike = torch.stack(
            [
                spearman(own, self._averaged(batch, stage))
                for stage in range(1, self.stages + 1)
            ]
        )
        return {"smprt": column(alike.nanmean(dim=0), _absent(batch, alike))}

    def _averaged(self, batch: MetricBatch, stage: int) -> Tensor:
        """Return the mean map over noisy inputs; stage 0 is the network itself."""
        reach = self.noise * batch.input_range.to(batch.inputs)[:, None, None]
        shape = tuple(batch.inputs.shape[1:])
        total = torch.zeros_like(dequantise(batch.stored), dtype=torch.float64)
        for sample in range(self.samples):
            grain = batch.draws.normal(Draw.SMOOTHING + sample, shape)
            inputs = batch.inputs + grain.to(batch.inputs) * reach
            found = (
                batch.explained_at_random(inputs, stage, self.stages)
                if stage
                else batch.explained(inputs)
            )
            total += dequantise(quantise(found.maps)).to(total)
        return total / self.samples


@dataclass(frozen=True, slots=True)
class EfficientMprt:
    """How much more complex the map of a random network is."""

    bins: int = 100

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "emprt"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``emprt``; one shared explanation."""
        size = (batch.maps.shape[1], batch.maps.shape[2])
        random = upsample(random_maps(batch, 1, 1), size)
        own, other = (histogram_entropy(m, self.bins) for m in (batch.maps, random))
        blank = (AbsenceReason.BLANK_RANDOMISED, other.isnan())
        return {"emprt": column((other - own) / own, [*batch.unusable, blank])}


class RandomLogit:
    """Similarity to the map of another class."""

    name = "random_logit"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``random_logit``; one explanation."""
        classes = batch.logits.shape[1]
        items = len(batch.targets)
        alone = (AbsenceReason.NO_OTHER_CLASS, torch.full((items,), classes < 2))
        draws = (batch.draws.uniform(Draw.OTHER_CLASS, (1,))[:, 0].double() + 1) / 2
        steps = 1 + (draws * (classes - 1)).long().clamp(max=max(0, classes - 2))
        others = (batch.targets.cpu() + steps) % classes
        maps = _as_stored(batch, batch.explained(batch.inputs, others).maps)
        alike = spearman(dequantise(batch.stored), maps)
        blank = (AbsenceReason.BLANK_RANDOMISED, _says_nothing(maps))
        return {"random_logit": column(alike, [*batch.unusable, alone, blank])}


def random_maps(batch: MetricBatch, stage: int, stages: int) -> Tensor:
    """Return the maps, as stored, of the network randomised that far; made once.

    Shape: (N, h, w) float32.
    """

    def made() -> Tensor:
        found = batch.explained_at_random(batch.inputs, stage, stages)
        return _as_stored(batch, found.maps)

    return batch.once(random_key(stage, stages), made)


def histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """Return the entropy of the magnitudes' histogram, in nats; NaN for no map.

    Shape: (N, H, W) -> (N,) float64.
    """
    sizes = maps.flatten(1).abs().double()
    low, high = sizes.amin(dim=1, keepdim=True), sizes.amax(dim=1, keepdim=True)
    scaled = (sizes - low) / (high - low)
    places = (scaled.nan_to_num(0.0) * bins).long().clamp(0, bins - 1)
    counts = sizes.new_zeros(len(sizes), bins)
    counts.scatter_add_(1, places, torch.ones_like(sizes))
    entropy: Tensor = torch.special.entr(counts / sizes.shape[1]).sum(dim=1)
    return entropy.masked_fill(scaled.isnan().any(dim=1), torch.nan)


def _as_stored(batch: MetricBatch, maps: Tensor) -> Tensor:
    return dequantise(quantise(maps)).to(batch.inputs.device)


def _says_nothing(maps: Tensor) -> Tensor:
    """Say which maps are the same everywhere or not finite, (N,) bool."""
    flat = maps.flatten(1)
    broken = ~torch.isfinite(flat).all(dim=1)
    return broken | (flat.amin(dim=1) == flat.amax(dim=1))


def _absent(batch: MetricBatch, alike: Tensor) -> list[tuple[AbsenceReason, Tensor]]:
    """Return the reasons; a stage whose map shows nothing is left out of the mean.

    Shape: alike (stages, N).
    """
    blank = (AbsenceReason.BLANK_RANDOMISED, alike.isnan().all(dim=0))
    return [*batch.unusable, blank]
