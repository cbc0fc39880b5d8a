# SPDX-License-Identifier: Apache-2.0
"""What an entry point of the group `affidavit.models` provides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.models.weights import WeightsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network's code, and the weights that come with it, if any.

    Attributes:
        build: Returns the `torch.nn.Module`, with weights of any kind.
        default_weights: Returns the path of a state dict that is installed with the
            architecture, used when the spec names none.
        read: Returns the `torch.nn.Module` that a file holds as a whole, for models
            that are no tensors in a frame, such as trees; `build` is not asked then.
            It must run no code of the file.
    """

    build: Callable[..., Any]
    default_weights: Callable[[], Path] | None = None
    read: "Callable[[WeightsFile], Any] | None" = None
