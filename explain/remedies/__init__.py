# SPDX-License-Identifier: Apache-2.0
"""Remedies for maps that mislead: each wraps a method, and can be left out.

Here lives what changes the input or the map of any method: fusion of scales,
smoothing of the map, contrast of the input. Nothing here explains, thresholds or
judges by itself. The cards load without torch.
"""

from typing import TYPE_CHECKING, Any

from explain.remedies.cards import REMEDIES, RemedyCard

if TYPE_CHECKING:
    from explain.remedies.compose import with_remedies

__all__ = ["REMEDIES", "RemedyCard", "with_remedies"]


def __getattr__(name: str) -> Any:
    """Return an export that needs torch, importing it now."""
    if name != "with_remedies":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from explain.remedies.compose import with_remedies  # noqa: PLC0415 - needs torch

    return with_remedies
