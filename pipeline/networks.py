# SPDX-License-Identifier: Apache-2.0
"""Networks that a process keeps loaded between runs, within a memory budget."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Never

import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer
from pipeline.errors import ModelError
from pipeline.run_plan import RunPlan

MB = 1_000_000
#: Without a setting: what networks may take on the CPU, and on a GPU the share.
CPU_BUDGET_MB = 2048
GPU_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkKey:
    """What makes two runs need the same network in memory.

    Attributes:
        sha256: Digest of the weights.
        source: The architecture.
        arguments: What shapes it, sorted.
        device: Where it lies.
        dtype: The type in which it computes.
        compiled_for: Layer around which it is compiled; None where it is not.
        batch_size: For which it was checked; 0 where it needs no check.
    """

    sha256: str
    source: str
    arguments: tuple[tuple[str, str | int | float | bool], ...]
    device: str
    dtype: str = "float32"
    compiled_for: str | None = None
    batch_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network in memory.

    Attributes:
        module: The network, as it is used.
        layer: The tapped layer where the network is not plain; it was found before.
    """

    module: nn.Module
    layer: TappedLayer | None = None


def network_bytes(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(each.numel() * each.element_size() for each in tensors)


class NetworkCache:
    """The networks used last, as many as the budget holds, and one at least."""

    def __init__(self, budget_mb: int | None, device: torch.device) -> None:
        if budget_mb is None:
            budget_mb = CPU_BUDGET_MB
            if device.type == "cuda":
                total = torch.cuda.get_device_properties(device).total_memory
                budget_mb = int(GPU_SHARE * total / MB)
        self._budget = budget_mb * MB
        self._networks: OrderedDict[NetworkKey, Network] = OrderedDict()
        #: How many were loaded so far.
        self.loads = 0

    def get(self, key: NetworkKey, load: Callable[[], Network]) -> Network:
        """Return the network, loaded if it is not there; older ones may go for it."""
        found = self._networks.get(key)
        if found is None:
            found = self._networks[key] = load()
            self.loads += 1
        self._networks.move_to_end(key)
        self._shrink()
        return found

    def touch(self, network: nn.Module) -> None:
        """The network is the one used last."""
        for key, found in self._networks.items():
            if found.module is network:
                self._networks.move_to_end(key)
                return

    def holds(self, network: nn.Module) -> bool:
        """Whether the network is kept."""
        return any(found.module is network for found in self._networks.values())

    def _shrink(self) -> None:
        sizes = {
            key: network_bytes(each.module) for key, each in self._networks.items()
        }
        while len(sizes) > 1 and sum(sizes.values()) > self._budget:
            key, _network = self._networks.popitem(last=False)
            del sizes[key]


def as_planned(plan: RunPlan, network: nn.Module, device: torch.device) -> None:
    """The network computes in the plan's type, compiled if the plan says so.

    It is changed in place and for good; nobody else may use it in another way.
    """
    if plan.compiled:
        compile_around(network, plan.layer)
    if plan.dtype == "bfloat16":
        compute_in_bfloat16(network, device.type, compiled=plan.compiled)


def compute_in_bfloat16(network: nn.Module, device: str, *, compiled: bool) -> None:
    """The network's heavy operations compute in bfloat16; its logits are float32."""
    network.forward = _InBfloat16(network, device, compiled=compiled)


class _InBfloat16:
    """A network's forward under autocast.

    No closure, so that a copy of the network computes with the copy's weights.
    """

    def __init__(self, network: nn.Module, device: str, *, compiled: bool) -> None:
        self._network = network
        self._device = device
        # What compiling left on the network; else its class has the forward.
        self._forward = network.forward if compiled else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = self._forward or partial(type(self._network).forward, self._network)
        with torch.autocast(self._device, dtype=torch.bfloat16):
            found = forward(*args, **kwargs)
        return found.float() if isinstance(found, Tensor) else found


def compile_around(
    network: nn.Module, layer: str, *, backend: str = "inductor"
) -> None:
    """The network's parts are compiled, but for the way down to the tapped layer.

    Hooks of the split forward sit on that layer. Compiled code does not see hooks that
    come and go, so modules on the way call their children as they are, and each child
    beside it is compiled whole. Without a layer the network is compiled as one.

    Args:
        network: Changed in place.
        layer: Dotted name of the tapped layer, empty for none.
        backend: Of torch.compile.
    """
    config: Any = torch._dynamo.config  # noqa: SLF001 - torch.compiler.config lacks it
    # Falling back to plain code in mid-run would change last bits without a word.
    config.fail_on_recompile_limit_hit = True
    config.recompile_limit = max(config.recompile_limit, 512)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 8192)
    if not layer:
        _compile(network, backend)
        return
    done: set[int] = set()
    node = network
    for name in layer.split("."):
        for child_name, child in node.named_children():
            if child_name != name and id(child) not in done:
                done.add(id(child))
                _compile(child, backend)
        node = node.get_submodule(name)
    _compile(node, backend)


def _compile(module: nn.Module, backend: str) -> None:
    # The forward alone: hooks on the module itself are run by plain code.
    module.forward = _Compiled(
        torch.compile(module.forward, dynamic=False, backend=backend)
    )


class _Compiled:
    """A compiled forward. It is bound to its module, so it cannot be copied along."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    def __deepcopy__(self, _memo: object) -> Never:
        raise ModelError("A compiled network cannot be copied.")
