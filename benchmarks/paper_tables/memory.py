# SPDX-License-Identifier: Apache-2.0
"""The most bytes of tensors that are alive at once while something runs.

Counted from the storages that each operator returns, not sampled from the process, so
the figure is the same in every run. Weights and whatever was there before are not in
it, nor is what an operator takes and gives back within itself.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Living(TorchDispatchMode):
    """Adds up the storages that operators make until they die."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {
            leaf.untyped_storage()._cdata  # noqa: SLF001 - the storage's identity
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage(), given)
        return result

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        name = storage._cdata  # noqa: SLF001
        if name in given or name in self._seen:  # a view, or changed in place
            return
        size = storage.nbytes()
        self._seen.add(name)
        self.now += size
        self.peak = max(self.peak, self.now)

        def died() -> None:
            self._seen.discard(name)
            self.now -= size

        weakref.finalize(storage, died)


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most bytes that lived at once while the call ran."""
    with _Living() as living:
        result = call()
    del result
    return living.peak
