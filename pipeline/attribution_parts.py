# SPDX-License-Identifier: Apache-2.0
"""Attributions of some items of a batch, taken apart and put together."""

from collections.abc import Iterable

import torch

from explain.methods import Attribution


def own_part(found: Attribution, place: int, units: tuple[int, int]) -> Attribution:
    """Return one item's part of a batch's attribution, at the item's own size."""
    row, (height, width) = slice(place, place + 1), units
    change = found.output_change
    return Attribution(
        logits=found.logits[row],
        targets=found.targets[row],
        maps=found.maps[row, :height, :width],
        zero_gradient=found.zero_gradient[row],
        output_change=None if change is None else change[row],
        halved=found.halved,
    )


def joined(parts: Iterable[Attribution]) -> Attribution:
    """Return the attributions of items of one size as those of one batch."""
    found = list(parts)
    changes = [part.output_change for part in found if part.output_change is not None]
    return Attribution(
        logits=torch.cat([part.logits for part in found]),
        targets=torch.cat([part.targets for part in found]),
        maps=torch.cat([part.maps for part in found]),
        zero_gradient=torch.cat([part.zero_gradient for part in found]),
        output_change=torch.cat(changes) if len(changes) == len(found) else None,
        halved=any(part.halved for part in found),
    )
