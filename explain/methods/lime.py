# SPDX-License-Identifier: Apache-2.0
"""LIME on superpixels: a linear model of what switching parts off does.

    min over b, c of  sum_z pi(z) (f(x_z) - c - b . z)^2 + |b|^2
    pi(z) = sqrt(exp(-d(z)^2 / width^2)),  d = cosine distance of z from all ones

z says which superpixels are on; the map gives each pixel its superpixel's b. Kernel,
width, ridge penalty and the unpenalised intercept are the LIME package's defaults.

Source: Ribeiro et al. 2016, "Why Should I Trust You? Explaining the Predictions of
Any Classifier", equations 1 and 2, algorithm 1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import per_pass
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.methods.input_forward import as_columns, plain_forward
from explain.methods.method import Attribution
from explain.methods.perturbed_scores import (
    perturbation_attribution,
    perturbed_scores,
    probability,
    unmoved,
)
from explain.methods.superpixels import (
    Superpixels,
    own_draws,
    part_baseline,
    superpixels,
)

#: Penalty on the squared coefficients.
_RIDGE = 1.0


class Lime:
    """LIME of one model on superpixels."""

    name = "lime"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer | None = None,  # noqa: ARG002 - every method is built alike
        *,
        samples: int = 1000,
        segments: int = 50,
        segmentation: str = "slic",
        baseline: str = "segment_mean",
        kernel_width: float = 0.25,
    ) -> None:
        self._model = model
        self._samples = samples
        self._segments = segments
        self._segmentation = segmentation
        self._baseline = baseline
        self._kernel_width = kernel_width

    @property
    def passes(self) -> float:
        """One forward pass a sample, and one for the whole input."""
        return 1.0 + self._samples

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return each pixel's superpixel's coefficient in the local linear model.

        The model is fitted to the target's softmax probability; all targets of an
        item share the samples and their forward passes. Superpixels are found on
        the context's images, or else on the inputs scaled to [0, 1].

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64 -> maps (N, H, W).

        Raises:
            InvalidInputError: the context's images do not fit the inputs.
            InvalidTargetError: a target class the model does not have.
        """
        given = ItemContext.of(inputs, context)
        with frozen(self._model), torch.no_grad():
            logits, classes = plain_forward(self._model, inputs, targets)
            parts = superpixels(
                inputs, given.images, self._segmentation, self._segments
            )
            baseline = part_baseline(inputs, parts, self._baseline)
            switches = _switches(parts, self._samples, given.draws).to(inputs.device)

            scores, halved = perturbed_scores(
                self._model,
                classes,
                self._samples,
                per_pass(len(inputs), given.chunk),
                parts.switched(inputs, baseline, switches),
                probability,
            )
            values = scores.new_zeros(len(inputs), scores.shape[2], max(parts.counts))
            # One system an item: padded to a common size, its last bits would
            # depend on the superpixels of its neighbours.
            for item, count in enumerate(parts.counts):
                rows = switches[item, :, :count].double()
                weights = closeness(rows, self._kernel_width)
                fitted = ridge(rows, scores[item], weights, _RIDGE)
                values[item, :, :count] = fitted.T
            whole = probability(logits[:, None], as_columns(classes))[:, 0]
            blank = unmoved(scores, whole, inputs, baseline)
            maps = parts.spread(values)
        return perturbation_attribution(logits, classes, maps, blank, halved=halved)


def closeness(switches: Tensor, width: float) -> Tensor:
    """Return the weight of each sample: how near it is to the whole input.

    Nothing at all counts as distance 1, like what is orthogonal.

    Shape: (P, S) float64 of zeros and ones -> (P,) float64.
    """
    distance = 1 - switches.mean(dim=1).sqrt()
    return torch.exp(-distance.square() / width**2).sqrt()


def ridge(rows: Tensor, values: Tensor, weights: Tensor, penalty: float) -> Tensor:
    """Return the coefficients of weighted ridge regression with a free intercept.

    Shape: rows (P, S), values (P, T), weights (P,) -> (S, T), all float64.
    """
    share = (weights / weights.sum())[:, None]
    centred = rows - (share * rows).sum(dim=0)
    target = values - (share * values).sum(dim=0)
    weighted = centred.T * weights
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    normal = weighted @ centred + penalty * eye
    solution: Tensor = torch.linalg.solve(normal, weighted @ target)
    return solution


def _switches(parts: Superpixels, samples: int, draws: ItemDraws) -> Tensor:
    """Return which parts are on in each sample; in the first all are.

    Shape: (N, P, S) bool, on the CPU; on beyond an item's own parts.
    """
    switches = torch.ones(
        len(parts.counts), samples, max(parts.counts), dtype=torch.bool
    )
    for item, count in enumerate(parts.counts):
        own = own_draws(draws, item)
        switches[item, 1:, :count] = own.uniform(0, (samples - 1, count))[0] >= 0
    return switches
