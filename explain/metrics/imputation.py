# SPDX-License-Identifier: Apache-2.0
"""Noisy linear imputation: removed pixels as weighted means of their neighbours.

    v_i = sum_j w_ij v_j / sum_j w_ij,   w = 1/6 beside, 1/12 at the corners,

over the neighbours j inside the image; kept pixels stay. That is one sparse symmetric
positive definite system an image, (D - W) v = W x on the removed pixels. All images
and channels are solved together, by conjugate gradients with one multigrid V-cycle
(Jacobi smoothing, factor 1/3 on this stencil) as preconditioner. A system that has
converged stands still, so that an image's solution does not depend on the others.

Sources: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for
Attribution Methods", section 4.2 and appendix (the imputation); Tatebe 1993, "The
multigrid preconditioned conjugate gradient method".
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from explain.errors import InvalidInputError

#: Energy norm of the error, relative to that of the first guess, at which a system
#: counts as solved: a pixel is then off by about 1e-4 of the image's range at worst.
TOLERANCE = 3e-6
#: A system that needs more does not occur; it ends here all the same.
MOST_ITERATIONS = 60
#: Grids of at most this many cells a side are smoothed, not made coarser.
_COARSEST = 4
#: Images that are solved together: what a CPU's cache holds, or a GPU keeps busy.
_TOGETHER_CPU, _TOGETHER_GPU = 4, 128


def imputed(inputs: Tensor, kept: Tensor) -> Tensor:
    """Return the inputs with what is not kept drawn from its surroundings.

    An image of which nothing is kept becomes its own mean colour.

    Shape: inputs (N, C, H, W) float32, kept (N, H, W) bool -> (N, C, H, W) float32.
    """
    if inputs.ndim != 4 or kept.shape != (len(inputs), *inputs.shape[2:]):
        raise InvalidInputError(
            f"Expected a mask (N, H, W) for inputs {tuple(inputs.shape)}, got"
            f" {tuple(kept.shape)}."
        )
    together = _TOGETHER_CPU if inputs.device.type == "cpu" else _TOGETHER_GPU
    filled = torch.empty_like(inputs)
    for start in range(0, len(inputs), together):
        rows = slice(start, start + together)
        filled[rows] = _solved(inputs[rows], kept[rows])
    return filled


def _solved(inputs: Tensor, kept: Tensor) -> Tensor:
    known = kept[:, None]
    count = known.sum(dim=(2, 3), keepdim=True)
    # Choosing, not multiplying: an unknown NaN must not reach the others.
    seen = torch.where(known, inputs, 0.0)
    mean = seen.double().sum(dim=(2, 3), keepdim=True) / count
    whole = inputs.double().mean(dim=(2, 3), keepdim=True)
    guess = torch.where(count > 0, mean, whole).to(inputs.dtype)
    first = torch.where(known, inputs, guess)
    grids = _grids(~known & (count > 0))
    solution = _conjugate_gradients(first, grids)
    return torch.where(known, inputs, solution)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """One level: which cells are unknown, as 0 and 1, and the weights' sums D.

    Shape: unknown (N, 1, h, w), centre (1, 1, h, w).
    """

    unknown: Tensor
    centre: Tensor

    def residual(self, right: Tensor, cells: Tensor) -> Tensor:
        """Return right - A cells on the unknown cells, 0 elsewhere."""
        found = _neighbours(cells).addcmul_(cells, self.centre, value=-1)
        return found.add_(right).mul_(self.unknown)


def _grids(unknown: Tensor) -> list[_Grid]:
    """Return the levels, finest first; coarse cells are unknown if all below are."""
    grids = []
    while True:
        ones = torch.ones((1, 1, *unknown.shape[2:]), device=unknown.device)
        grids.append(_Grid(unknown.float(), _neighbours(ones)))
        height, width = unknown.shape[2:]
        if min(height, width) <= _COARSEST:
            return grids
        framed = pad(unknown, (0, width % 2, 0, height % 2), value=True)
        unknown = (
            framed[:, :, ::2, ::2]
            & framed[:, :, 1::2, ::2]
            & framed[:, :, ::2, 1::2]
            & framed[:, :, 1::2, 1::2]
        )


def _neighbours(cells: Tensor) -> Tensor:
    """Return the weighted sum of each cell's eight neighbours, nothing outside.

    The weights are a product of two [1, 2, 1] less the centre, over 12.
    """
    rows = cells * 2
    rows[:, :, 1:] += cells[:, :, :-1]
    rows[:, :, :-1] += cells[:, :, 1:]
    both = rows * 2
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both.sub_(cells, alpha=4).mul_(1 / 12)


def _cycle(grids: list[_Grid], level: int, right: Tensor) -> Tensor:
    """Return about A^-1 right: one V-cycle from zero, symmetric in its steps."""
    grid = grids[level]
    step = grid.unknown / grid.centre
    cells = right * step
    if level == len(grids) - 1:
        for _ in range(8):
            cells += step * grid.residual(right, cells)
        return cells
    coarse = _cycle(grids, level + 1, _restricted(grid.residual(right, cells)))
    cells += _prolonged(coarse, right.shape[2:]) * grid.unknown
    cells += step * grid.residual(right, cells)
    return cells


def _restricted(fine: Tensor) -> Tensor:
    """Return the transpose of the prolongation, applied.

    Along each axis a cell gets 3/4 of its pair and 1/4 of the neighbours on both
    sides; at the border, which the prolongation repeats, the outermost once more.
    """
    height, width = fine.shape[2:]
    fine = pad(fine, (0, width % 2, 0, height % 2))
    rows = _halved(fine[:, :, 0::2], fine[:, :, 1::2], 2)
    return _halved(rows[..., 0::2], rows[..., 1::2], 3)


def _halved(first: Tensor, second: Tensor, dim: int) -> Tensor:
    pairs = (first + second).mul_(0.75)
    cells = pairs.shape[dim]
    for side, beside, edge in ((second, 0, 0), (first, 1, cells - 1)):
        # What precedes a pair is the second of the pair before; and the reverse.
        to, of = pairs.narrow(dim, 1 - beside, cells - 1), beside
        to.add_(side.narrow(dim, of, cells - 1), alpha=0.25)
        own = first if edge == 0 else second
        pairs.narrow(dim, edge, 1).add_(own.narrow(dim, edge, 1), alpha=0.25)
    return pairs


def _prolonged(coarse: Tensor, size: torch.Size) -> Tensor:
    """Return the coarse cells enlarged bilinearly, cut to the size."""
    wide = _doubled(_doubled(coarse, 3), 2)
    return wide[:, :, : size[0], : size[1]]


def _doubled(cells: Tensor, dim: int) -> Tensor:
    """Return the cells at twice the places along an axis, blended 3 to 1."""
    many = cells.shape[dim]
    shape = list(cells.shape)
    shape.insert(dim + 1, 2)
    wide = torch.empty(shape, dtype=cells.dtype, device=cells.device)
    most = cells * 0.75
    least = cells * 0.25
    first, second = wide.select(dim + 1, 0), wide.select(dim + 1, 1)
    inner = many - 1
    torch.add(
        most.narrow(dim, 1, inner),
        least.narrow(dim, 0, inner),
        out=first.narrow(dim, 1, inner),
    )
    torch.add(
        most.narrow(dim, 0, inner),
        least.narrow(dim, 1, inner),
        out=second.narrow(dim, 0, inner),
    )
    first.narrow(dim, 0, 1).copy_(cells.narrow(dim, 0, 1))
    second.narrow(dim, inner, 1).copy_(cells.narrow(dim, inner, 1))
    return wide.flatten(dim, dim + 1)


def _conjugate_gradients(first: Tensor, grids: list[_Grid]) -> Tensor:
    """Return the solution from the first guess on; what is known stays."""
    grid, cells = grids[0], first.clone()
    zero = torch.zeros_like(cells)
    residual = grid.residual(zero, cells)
    better = _cycle(grids, 0, residual)
    along = better.clone()
    energy = _dots(residual, better)
    goal = energy * TOLERANCE**2
    for _ in range(MOST_ITERATIONS):
        # A NaN is never above its goal: broken images stop at once.
        active = energy > goal
        if not bool(active.any()):
            break
        against = -grid.residual(zero, along)
        length = torch.where(active, energy / _dots(along, against), 0.0)
        cells += along * length.float()
        residual -= against * length.float()
        better = _cycle(grids, 0, residual)
        fresh = _dots(residual, better)
        turn = torch.where(active, fresh / energy, 0.0)
        energy = torch.where(active, fresh, energy)
        along = better + along * turn.float()
    return cells


def _dots(one: Tensor, two: Tensor) -> Tensor:
    """Return each image's and channel's inner product, (N, C, 1, 1) float64."""
    return (one * two).sum(dim=(2, 3), keepdim=True, dtype=torch.float64)
