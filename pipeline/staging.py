# SPDX-License-Identifier: Apache-2.0
"""One batch on its way to the device: stacked, padded and copied beside the work.

On CUDA the stack lies in pinned memory and is copied on a stream of its own while the
batch before it is computed. Elsewhere it is plain memory, stacked in a thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.preparing import PreparedItem


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBatch:
    """One batch, stacked.

    Attributes:
        items: What was prepared; the pixels are in `inputs` alone.
        valid: Whether each place of the batch has pixels, padding included.
        inputs: (N, C, H, W), zero where a place has none; None where no place has any.
        copied: Set on CUDA: when the copy is done on its stream.
    """

    items: list[PreparedItem]
    valid: tuple[bool, ...]
    inputs: Tensor | None
    copied: torch.cuda.Event | None = None

    def on_device(self, device: torch.device) -> Tensor | None:
        """Return the inputs on the device, safe to use on its current stream."""
        if self.inputs is None:
            return None
        if self.copied is not None:
            stream = torch.cuda.current_stream(device)
            stream.wait_event(self.copied)
            # The allocator must not reuse the memory before this stream is through.
            self.inputs.record_stream(stream)
        return self.inputs.to(device)


class Stager:
    """Stacks the batches of one run; called in a thread beside the computation."""

    def __init__(
        self, *, batch_size: int, input_shape: Sequence[int], device: torch.device
    ) -> None:
        self._shape = (batch_size, *input_shape)
        self._device = device
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]

    def stage(self, prepared: Sequence[PreparedItem], *, first: int = 0) -> StagedBatch:
        """Return the batch stacked at its places, and on its way to the device.

        Args:
            prepared: At most a batch of items.
            first: The place of the first one; what is before and behind is zero.
        """
        places: list[PreparedItem | None] = [*[None] * first, *prepared]
        places += [None] * (self._shape[0] - len(places))
        valid = tuple(
            place is not None and place.pixels is not None for place in places
        )
        items = [replace(item, pixels=None) for item in prepared]
        if not any(valid):
            return StagedBatch(items=items, valid=valid, inputs=None)
        stacked = torch.empty(self._shape, pin_memory=self._stream is not None)
        # NumPy copies in this thread alone; torch would start threads of its own.
        array = stacked.numpy()
        for number, place in enumerate(places):
            pixels = None if place is None else place.pixels
            array[number] = 0 if pixels is None else pixels
        return self._sent(items, valid, stacked)

    def _sent(
        self, items: list[PreparedItem], valid: tuple[bool, ...], stacked: Tensor
    ) -> StagedBatch:
        if self._stream is None:
            return StagedBatch(items=items, valid=valid, inputs=stacked)
        try:
            with torch.cuda.stream(self._stream):
                inputs = stacked.to(self._device, non_blocking=True)
                copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                copied.record(self._stream)
        except torch.OutOfMemoryError:
            # It waits on the host; the computation halves its batches if it must.
            return StagedBatch(items=items, valid=valid, inputs=stacked)
        return StagedBatch(items=items, valid=valid, inputs=inputs, copied=copied)
