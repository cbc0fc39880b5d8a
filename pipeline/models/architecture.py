# SPDX-License-Identifier: Apache-2.0
"""What an entry point of the group `affidavit.models` provides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network's code, and the weights that come with it, if any.

    Attributes:
        build: Returns the `torch.nn.Module`, with weights of any kind.
        default_weights: Returns the path of a state dict that is installed with the
            architecture, used when the spec names none.
    """

    build: Callable[..., Any]
    default_weights: Callable[[], Path] | None = None
