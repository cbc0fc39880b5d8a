# SPDX-License-Identifier: Apache-2.0
"""A copy of the network whose layers are drawn anew, from the output on.

The network itself is never touched: nothing has to be restored, whatever fails. The
copy is made when it is first asked for, and kept, as are its random weights, so that a
stage costs no more than copying weights of the layers in which it differs from the
stage before.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3 (cascading
randomisation).
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from explain.draws import ItemDraws
from explain.frozen import frozen

#: Stream of random draws of weights; the others are metrics, methods and policies.
WEIGHTS_STREAM = 3
#: Deviation of parameters that have none, such as biases that are all zero.
_LEAST_SPREAD = 0.01

Built = TypeVar("Built")
#: An input, or what runs a network once on an input of its own.
Example = Tensor | Callable[[nn.Module], object]


class RandomNetworks(Generic[Built]):
    """The stages of one network's cascade.

    Args:
        model: The network, held by ``frozen`` when it is first copied.
        build: Makes what is wanted of a copy, such as an explainer.
        example: An input of one item, (1, C, H, W), for the order of the layers; or
            what runs a network of other inputs once.
        seed: Decides the weights, which are the same on every device.
    """

    def __init__(
        self,
        model: nn.Module,
        build: Callable[[nn.Module], Built],
        example: Example,
        seed: int,
    ) -> None:
        self._model = model
        self._build = build
        self._example = example
        self._seed = seed
        self._made: tuple[nn.Module, Built] | None = None
        self._layers: list[list[str]] = []
        self._drawn: dict[str, Tensor] = {}
        #: Layers that are random now; None where that is not sure.
        self._random: int | None = None

    @contextmanager
    def randomised(self, stage: int, stages: int) -> Iterator[Built]:
        """Give what was built of the copy, with the last layers drawn anew.

        Args:
            stage: From 1; at ``stages`` every layer is random.
            stages: How many stages there are.
        """
        network, built = self._copy()
        # At least one layer, and every layer at the last stage.
        wanted = max(1, round(len(self._layers) * stage / stages))
        with frozen(network):
            self._set(network, wanted)
            yield built

    def _copy(self) -> tuple[nn.Module, Built]:
        if self._made is None:
            network = copy.deepcopy(self._model)
            # Whoever listens to the network must not hear its copy.
            network._forward_hooks.clear()  # noqa: SLF001 - no public way
            with frozen(network):
                self._layers = parameter_order(network, self._example)
                self._drawn = drawn_weights(network, self._seed)
                self._made = (network, self._build(network))
        return self._made

    def _set(self, network: nn.Module, wanted: int) -> None:
        """So many layers from the output on are random, the others trained."""
        parameters = dict(network.named_parameters())
        trained = dict(self._model.named_parameters())
        # What is interrupted halfway leaves nothing to go on from: all is set anew.
        done = range(0) if self._random is None else range(self._random)
        doubtful = self._random is None
        self._random = None
        with torch.no_grad():
            for place, names in enumerate(self._layers):
                if not doubtful and (place in done) == (place < wanted):
                    continue
                for name in names:
                    source = self._drawn[name] if place < wanted else trained[name]
                    parameters[name].copy_(source)
        self._random = wanted


def parameter_order(model: nn.Module, example: Example) -> list[list[str]]:
    """Return the parameters' names layer by layer, the output's layer first.

    Layers come in the order in which a forward pass first calls them; those that it
    does not call are taken with the last. A parameter that layers share is listed
    once.
    """
    called: dict[str, None] = {}
    hooks = [
        module.register_forward_hook(
            lambda *_, name=name: called.setdefault(name, None)
        )
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            run_once(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[str, list[str]] = {}
    for parameter, _ in model.named_parameters():
        groups.setdefault(parameter.rpartition(".")[0], []).append(parameter)
    order = [groups.pop(name) for name in reversed(called) if name in groups]
    left = [name for names in groups.values() for name in names]
    if left and order:
        order[-1] = [*order[-1], *left]
    return order or [left]


def run_once(model: nn.Module, example: Example) -> None:
    """The network has made a forward pass."""
    if isinstance(example, Tensor):
        model(example)
    else:
        example(model)


def drawn_weights(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return random values for every parameter, on its device.

    Normal, with the mean and the deviation that the parameter has, so that activations
    keep their size. Buffers, such as statistics of normalisation, are not drawn.
    """
    drawn = {}
    for number, (name, parameter) in enumerate(model.named_parameters()):
        values = parameter.detach().double()
        spread = float(values.std(correction=0)) or _LEAST_SPREAD
        draws = ItemDraws(seed, (number,), WEIGHTS_STREAM)
        shape = tuple(parameter.shape)
        fresh = draws.normal(0, shape)[0].double() * spread + float(values.mean())
        drawn[name] = fresh.to(parameter.device, parameter.dtype)
    return drawn
