# SPDX-License-Identifier: Apache-2.0
"""Looking at a network of items that are no images: which kind it takes, and how."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from explain.architectures.family import Family, foreign_family, is_tree_model
from explain.kinds import GRAPH, SEQUENCE, TABLE, TEXT
from explain.methods.cards import METHODS
from pipeline.kinds.cards import KIND_CARDS

#: What a family of networks takes.
_KINDS = {
    Family.TEXT: TEXT,
    Family.RECURRENT: SEQUENCE,
    Family.SEQUENCE: SEQUENCE,
    Family.GRAPH: GRAPH,
    Family.TABLE: TABLE,
}
#: The layers that tell a family, in words.
_SEEN = {
    Family.TEXT: "it embeds tokens",
    Family.RECURRENT: "it has recurrent layers and no convolution of images",
    Family.SEQUENCE: "its convolutions run along one axis",
    Family.GRAPH: "its layers pass messages along edges",
    Family.TABLE: "it is made of linear layers, or of decision trees",
}


#: Methods of tables that need gradients, and those that need trees.
_OF_NETWORKS = frozenset({"gradient_x_input", "integrated_gradients", "deeplift"})
_OF_TREES = frozenset({"tree_shap"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInspection:
    """What was found of a network that takes no images.

    Attributes:
        source: The network's name.
        weights: SHA-256 of its weights, None where they are seeded numbers.
        family: Its kind of network.
        kind: Its kind of items.
        trees: Whether it is decision trees, which have no gradients.
    """

    source: str
    weights: str | None
    family: Family
    kind: str
    trees: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against it; the self-test needs items."""
        return True

    def document(self) -> dict[str, Any]:
        """Return the inspection as JSON values."""
        card = KIND_CARDS[self.kind]
        others = _OF_NETWORKS if self.trees else _OF_TREES
        methods = [
            name
            for name, one in METHODS.items()
            if self.kind in one.kinds and name not in others
        ]
        default = METHODS["tree_shap" if self.trees else card.default_method]
        said = f"An audit of it says data.kind: {self.kind}, for {card.map_kind}."
        return {
            "model": self.source,
            "weights": self.weights,
            "family": self.family.value,
            "kind": self.kind,
            "units": card.map_kind,
            "method": default.name,
            "methods": methods,
            "baseline": card.baseline,
            "reasons": [
                f"It is a {self.family.value}: {_SEEN[self.family]}.",
                said,
                f"Method '{default.name}' costs {default.cost}.",
            ],
            "warnings": [],
            "self_test": None,
        }


def inspected_kind(
    module: nn.Module, source: str, weights: str | None
) -> KindInspection | None:
    """Return what is found of a network that takes no images, None of any other."""
    family = foreign_family(module)
    kind = None if family is None else _KINDS.get(family)
    if family is None or kind is None or kind not in KIND_CARDS:
        return None
    return KindInspection(
        source=source,
        weights=weights,
        family=family,
        kind=kind,
        trees=is_tree_model(module),
    )
