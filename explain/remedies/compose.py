# SPDX-License-Identifier: Apache-2.0
"""Remedies put around a method, in one order."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from explain.errors import InvalidParameterError
from explain.methods.method import Method
from explain.parameters import resolved
from explain.remedies.cards import REMEDIES
from explain.remedies.contrast import ContrastEnhanced
from explain.remedies.fusion import MultiScale
from explain.remedies.smoothing import Smoothed


def with_remedies(
    method: Method,
    *,
    fusion: Mapping[str, Any] | None = None,
    smoothing: Mapping[str, Any] | None = None,
    contrast: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    model: nn.Module | None = None,
) -> Method:
    """Return the method with the remedies that are asked for around it.

    From the inside out, as the name tells: the maps of several sizes are fused, the
    fused map is smoothed, and all of that sees the input after contrast enhancement.
    Without any, the method itself is returned.

    Args:
        method: What gives the maps.
        fusion: Parameters of ``REMEDIES["fusion"]``; empty for the defaults, None to
            leave it out.
        smoothing: The same for ``REMEDIES["smoothing"]``.
        contrast: The same for ``REMEDIES["contrast"]``.
        mean: Of the inputs' normalisation, a channel each; contrast needs it.
        std: As the mean.
        model: Saves contrast an explanation: the plain logits then cost one forward.

    Raises:
        InvalidParameterError: a parameter is unknown or out of range, or the
            normalisation is missing.
    """
    if fusion is not None:
        method = MultiScale(method, **_checked("fusion", fusion))
    if smoothing is not None:
        method = Smoothed(method, **_checked("smoothing", smoothing))
    if contrast is not None:
        if mean is None or std is None:
            raise InvalidParameterError(
                "Contrast enhancement needs the mean and the standard deviation of"
                " the inputs' normalisation; pass both."
            )
        method = ContrastEnhanced(
            method, mean=mean, std=std, model=model, **_checked("contrast", contrast)
        )
    return method


def _checked(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a remedy, checked against its card."""
    return dict(resolved(f"remedy {name!r}", REMEDIES[name].parameters, given))
