# SPDX-License-Identifier: Apache-2.0
"""The layers of a traced model that may be tapped, the best first.

The order needs no table of architectures: the last map before the pooling comes
first, as its outermost container. Only where that one turns out not to work is
its inside looked at, and then what came before.
"""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from explain.architectures.grids import Grids
from explain.architectures.layouts import ChannelsFirst, Layout
from explain.architectures.probe import live_layers
from explain.architectures.trace import LayerRecord, Trace, trace_layers

#: In eval mode these hand their input on, so their input's layer is the better name.
_TRANSPARENT: tuple[type[nn.Module], ...] = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


class Candidates:
    """What one forward pass, and where asked for one backward pass, tell of layers."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model = model
        self._example = example
        self.trace: Trace = trace_layers(model, example)
        image = (int(example.shape[-2]), int(example.shape[-1]))
        grids = Grids.of(self.trace, image)
        self._layouts: dict[str, Layout] = {}
        for name, record in self.trace.layers.items():
            layout = grids.layout(record)
            if layout is not None:
                self._layouts[name] = layout

    def layout(self, record: LayerRecord) -> Layout | None:
        """Return how the layer lays its map out; None where it yields no map."""
        return self._layouts.get(record.name)

    def live(self, target: int | None = None) -> frozenset[str] | None:
        """Return the names of the layers whose map has a gradient that is not zero.

        None where that cannot be found out.
        """
        layers = {
            name: (self.trace.layers[name], layout)
            for name, layout in self._layouts.items()
        }
        return live_layers(self._model, self._example, layers, target)

    def ranked(self, live: frozenset[str] | None) -> Iterator[LayerRecord]:
        """Yield the layers that work, the outermost and latest first.

        What lies inside a layer that works is left out. A stage that shrinks its map
        to 1 x 1 by convolution comes last: what it holds are fragments of a block
        that a residual connection goes around.
        """

        def works(record: LayerRecord) -> bool:
            return self._is_candidate(record) and (live is None or record.name in live)

        found = list(_walk(self.trace, "", works, skip_shrunk=True))
        yield from found
        names = {record.name for record in found}
        for record in _walk(self.trace, "", works, skip_shrunk=False):
            if record.name not in names:
                yield record

    def _is_candidate(self, record: LayerRecord) -> bool:
        """Say whether the layer may be proposed, and not only named."""
        layout = self._layouts.get(record.name)
        if layout is None or record.pooled or record.permutes:
            return False
        if isinstance(record.module, _TRANSPARENT):
            return False
        # In transformers the network's features are what blocks and norms give; the
        # queries and keys of a linear layer are means to them.
        whole = _is_container(record.module) or _is_norm(record.module)
        return isinstance(layout, ChannelsFirst) or whole


def _walk(
    trace: Trace,
    parent: str,
    works: Callable[[LayerRecord], bool],
    *,
    skip_shrunk: bool,
) -> Iterator[LayerRecord]:
    """Yield the working layers beneath the parent, the last first, outermost only."""
    for child in _children_by_completion(trace, parent):
        record = trace.layers.get(child)
        if record is not None and works(record):
            yield record
            continue
        shrunk = (
            record is not None
            and record.shape is not None
            and len(record.shape) == 4
            and record.shape[2] * record.shape[3] == 1
            and not record.pooled
        )
        if not (shrunk and skip_shrunk):
            yield from _walk(trace, child, works, skip_shrunk=skip_shrunk)


def _children_by_completion(trace: Trace, parent: str) -> list[str]:
    """Return the names one level beneath the parent, the last finished first.

    A ModuleList never runs itself; it finishes with the last layer that it holds.
    """
    prefix = f"{parent}." if parent else ""
    finished: dict[str, int] = {}
    for name, record in trace.layers.items():
        if name.startswith(prefix):
            child = prefix + name[len(prefix) :].split(".", 1)[0]
            finished[child] = max(finished.get(child, -1), record.finished)
    return sorted(finished, key=finished.__getitem__, reverse=True)


def _is_container(module: nn.Module) -> bool:
    """Say whether the module is made of others."""
    return next(module.children(), None) is not None


def _is_norm(module: nn.Module) -> bool:
    """Say whether the module normalises, by the name that all libraries give it."""
    return "norm" in type(module).__name__.lower()
