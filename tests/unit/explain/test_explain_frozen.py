# SPDX-License-Identifier: Apache-2.0
"""A frozen model is given back exactly as it was, on every path."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from explain.frozen import frozen


def state(model: nn.Module) -> list[tuple[bool, list[bool]]]:
    """Return each module's mode and its own parameters' requires_grad."""
    return [
        (
            module.training,
            [p.requires_grad for p in module.parameters(recurse=False)],
        )
        for module in model.modules()
    ]


def mixed(build: Callable[..., nn.Module]) -> nn.Module:
    """Return a model with mixed modes and partly frozen parameters."""
    model = build().train()
    model.body.eval()
    model.stem.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    return model


def test_inside_everything_is_frozen_and_in_eval_mode(
    tiny_net: Callable[..., nn.Module],
) -> None:
    """While held, no module trains and no parameter needs a gradient."""
    model = mixed(tiny_net)
    with frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_gradients_come_back(
    tiny_net: Callable[..., nn.Module], fails: bool
) -> None:
    """Mixed modes, mixed requires_grad and a stored gradient all survive."""
    model = mixed(tiny_net)
    before, gradient = state(model), model.head.weight.grad
    if fails:
        with pytest.raises(KeyError), frozen(model):
            {}["missing"]
    else:
        with frozen(model):
            pass
    assert state(model) == before
    assert model.head.weight.grad is gradient
    assert model.stem.weight.grad is None


def test_an_inner_hold_does_not_release_the_outer(
    tiny_net: Callable[..., nn.Module],
) -> None:
    """Only the outermost hold gives the model back."""
    model = mixed(tiny_net)
    before = state(model)
    with frozen(model):
        with frozen(model):
            pass
        assert not any(p.requires_grad for p in model.parameters())
    assert state(model) == before
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())


def test_a_failing_eval_still_gives_the_model_back(
    tiny_net: Callable[..., nn.Module],
) -> None:
    """A model whose own eval() raises is left as it was, and can be held later."""
    model = mixed(tiny_net)
    before = state(model)
    model.eval = lambda: (_ for _ in ()).throw(OSError("no"))
    with pytest.raises(OSError, match="no"), frozen(model):
        pass
    assert state(model) == before
    del model.eval
    with frozen(model):
        assert not model.training
