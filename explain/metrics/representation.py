# SPDX-License-Identifier: Apache-2.0
"""What a network's last linear layer is given: its representation of an input."""

from typing import Any

from torch import Tensor, nn


class Representation:
    """Hears the input of the linear layer that is called last."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and what the last linear layer was given, if any.

        No hook is left behind, whatever the forward pass does.

        Shape: (N, C, H, W) -> (N, K), (N, F).
        """
        heard: list[Tensor] = []

        def listen(_module: nn.Module, given: tuple[Any, ...]) -> None:
            heard[:] = [given[0].detach()]

        hooks = [
            module.register_forward_pre_hook(listen)
            for module in self._model.modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            logits: Tensor = self._model(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, heard[0].reshape(len(inputs), -1) if heard else None
