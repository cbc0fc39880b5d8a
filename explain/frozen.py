# SPDX-License-Identifier: Apache-2.0
"""A model held in eval mode with frozen parameters, and given back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

#: Models that some caller already holds; nested holds cost nothing.
_held: WeakSet[nn.Module] = WeakSet()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Hold the model in eval mode with parameters that need no gradient.

    On leaving, by whatever path, every module's train/eval mode and every
    parameter's ``requires_grad`` are what they were. Hold it around many batches:
    the walks over modules and parameters then happen once, and inner holds are
    free. While held, do not change the modes, and use the model in one thread.
    """
    if model in _held:
        yield
        return
    training = [module for module in model.modules() if module.training]
    trainable = [p for p in model.parameters() if p.requires_grad]
    _held.add(model)
    try:
        model.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        _held.discard(model)
        for parameter in trainable:
            parameter.requires_grad_(True)
        # ``train()`` would set the children's modes too, so each gets its own.
        for module in training:
            module.training = True
