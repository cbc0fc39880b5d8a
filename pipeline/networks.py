# SPDX-License-Identifier: Apache-2.0
"""Networks that a process keeps loaded between runs, within a memory budget."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

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
    """

    sha256: str
    source: str
    arguments: tuple[tuple[str, str | int | float | bool], ...]
    device: str
    dtype: str = "float32"
    compiled_for: str | None = None


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
        self._networks: OrderedDict[NetworkKey, nn.Module] = OrderedDict()

    def get(self, key: NetworkKey, load: Callable[[], nn.Module]) -> nn.Module:
        """Return the network, loaded if it is not there; older ones may go for it."""
        found = self._networks.get(key)
        if found is None:
            found = self._networks[key] = load()
        self._networks.move_to_end(key)
        self._shrink()
        return found

    def touch(self, network: nn.Module) -> None:
        """The network is the one used last."""
        for key, found in self._networks.items():
            if found is network:
                self._networks.move_to_end(key)
                return

    def holds(self, network: nn.Module) -> bool:
        """Whether the network is kept."""
        return any(found is network for found in self._networks.values())

    def _shrink(self) -> None:
        sizes = {key: network_bytes(each) for key, each in self._networks.items()}
        while len(sizes) > 1 and sum(sizes.values()) > self._budget:
            key, _network = self._networks.popitem(last=False)
            del sizes[key]
