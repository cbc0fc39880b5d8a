# SPDX-License-Identifier: Apache-2.0
"""What a network raises at its first batch, as a sentence for the spec's author."""

from collections.abc import Iterator
from contextlib import contextmanager

from explain.kinds import IMAGE, KINDS
from pipeline.errors import ModelError, SpecError
from pipeline.spec import AuditSpec

#: What torch's allocators say on the CPU; on a GPU it has an error of its own.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_cpu",
)


#: What in the spec is to be looked at first.
_BLAMED = dict.fromkeys(KINDS, "data.columns") | {IMAGE: "model.preprocess"}


@contextmanager
def told_as_sentences(spec: AuditSpec) -> Iterator[None]:
    """Errors of torch within the block come out as this package's errors.

    Raises:
        SpecError: one batch does not fit into memory.
        ModelError: the network fails in another way.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        size = spec.run.batch_size
        count = "" if size == "auto" else f"{size} "
        if spec.data.kind == IMAGE:
            height, width = spec.model.preprocess.size
            batch = f"a batch of {count}inputs of {height} x {width} pixels"
        else:
            batch = f"a batch of {count}items of kind {spec.data.kind}"
        text = str(exc)
        if isinstance(exc, MemoryError) or any(sign in text for sign in _NO_MEMORY):
            raise SpecError(
                f"run.batch_size: {batch} does not fit into this machine's memory; "
                "set a smaller run.batch_size."
            ) from exc
        first = (text.strip().splitlines() or [type(exc).__name__])[0].rstrip(".")
        raise ModelError(
            f"The network fails on {batch}: {first}; check {_BLAMED[spec.data.kind]}"
            " and model.arguments."
        ) from exc
