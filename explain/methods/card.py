# SPDX-License-Identifier: Apache-2.0
"""The definition card of an attribution method. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from explain.kinds import IMAGE
from explain.parameters import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCard:
    """A method's definition: what a reader of the report needs to know.

    Attributes:
        name: The name that an audit uses.
        title: The field's name for it.
        formula: The definition, in one line of plain text.
        source: Paper, section and equation.
        map_kind: What the map's axes are.
        signed: Whether values below zero (evidence against) occur.
        cost: In forward passes, for people.
        does_not_show: Warns of the wrong conclusion.
        parameters: What can be set, with meaning and default.
        needs_layer: Whether it taps a layer.
        needs_attention: Whether the layer is the attention of a transformer's blocks,
            as ``resolve_attention`` finds it.
        class_specific: Whether the map of one class may differ from another's.
        pixel_resolution: Whether its maps are as large as the input; such maps are
            pooled to ``explain.grid`` before they are stored.
        needs_images: Whether it looks at the picture beside the normalised input.
        complete: Whether its maps should sum to the change of the output (a
            completeness axiom), so that a residual can be given.
        kinds: The kinds of items that it explains; of those that are no images, it
            explains units behind gates (``explain.gates``).
        batched: Whether a batch of such items is explained at once; otherwise each
            alone, as where the number of passes depends on its units.
    """

    name: str
    title: str
    formula: str
    source: str
    map_kind: str = "pixels"
    signed: bool
    cost: str
    does_not_show: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs_layer: bool = True
    needs_attention: bool = False
    class_specific: bool = True
    pixel_resolution: bool = False
    needs_images: bool = False
    complete: bool = False
    kinds: tuple[str, ...] = (IMAGE,)
    batched: bool = False

    def document(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        declared = {name: each.document() for name, each in self.parameters.items()}
        return facts | {"parameters": declared}
