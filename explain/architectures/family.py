# SPDX-License-Identifier: Apache-2.0
"""What kind of network a module is, seen from the layers that it is made of.

No table of architectures: names differ between libraries and users wrap networks.
What a network takes shows in its first layers, and what mixes its places in what runs.
"""

from enum import StrEnum

from torch import nn

from explain.errors import UnsupportedModelError
from explain.tables.trees import TreeEnsemble


class Family(StrEnum):
    """Kinds of network."""

    CONVOLUTIONAL = "convolutional network"
    VISION_TRANSFORMER = "vision transformer"
    WINDOWED_TRANSFORMER = "windowed or hybrid vision transformer"
    RECURRENT = "recurrent network"
    TEXT = "text transformer"
    GRAPH = "graph network"
    VOLUME = "network of volumes or video"
    SEQUENCE = "network of sequences"
    TABLE = "network of table rows"
    DETECTOR = "detector"
    UNKNOWN = "network of an unknown kind"

    @property
    def takes_images(self) -> bool:
        """Whether its inputs are images and its outputs may be class scores."""
        return self in {
            Family.CONVOLUTIONAL,
            Family.VISION_TRANSFORMER,
            Family.WINDOWED_TRANSFORMER,
        }


#: torchvision's; they give boxes, and their trunks alone would give the wrong answer.
_DETECTORS = frozenset({"FCOS", "GeneralizedRCNN", "RetinaNet", "SSD"})


def family_of(model: nn.Module, *, attends: bool, whole: bool) -> Family:
    """Return the kind of network.

    Args:
        model: The network.
        attends: Whether it computes attention.
        whole: Whether every attention is among all places of one grid.
    """
    foreign = foreign_family(model)
    if foreign is not None:
        return foreign
    if not attends:
        return Family.CONVOLUTIONAL
    return Family.VISION_TRANSFORMER if whole else Family.WINDOWED_TRANSFORMER


def foreign_family(model: nn.Module) -> Family | None:
    """Return the kind of a network that takes no images or gives no class scores.

    None where it may be an image classifier, which only running it tells.
    """
    ancestors = {kind.__name__ for m in model.modules() for kind in type(m).__mro__}
    if ancestors & _DETECTORS:
        return Family.DETECTOR
    modules = list(model.modules())
    if any(isinstance(m, nn.Conv2d | nn.Unfold) for m in modules):
        return None
    signs: list[tuple[Family, bool]] = [
        (Family.GRAPH, "MessagePassing" in ancestors),
        (Family.VOLUME, _any(modules, nn.Conv3d)),
        (Family.TEXT, _any(modules, nn.Embedding) and _attends(ancestors)),
        (Family.RECURRENT, _any(modules, nn.RNNBase, nn.RNNCellBase)),
        (Family.TEXT, _any(modules, nn.Embedding, nn.EmbeddingBag)),
        (Family.SEQUENCE, _any(modules, nn.Conv1d)),
        (Family.TABLE, is_tree_model(model)),
        (Family.TABLE, _any(modules, nn.Linear) and not _attends(ancestors)),
    ]
    return next((family for family, seen in signs if seen), Family.UNKNOWN)


def is_tree_model(model: nn.Module) -> bool:
    """Return whether decision trees stand behind the network's face."""
    return isinstance(model, TreeEnsemble)


def require_image_classifier(model: nn.Module) -> None:
    """Refuse by its kind what is no image classifier, before it is run.

    Raises:
        UnsupportedModelError: names the kind.
    """
    family = foreign_family(model)
    if family is Family.DETECTOR:
        raise UnsupportedModelError(
            "The model is a detector: it gives boxes, not one score a class, and its"
            " trunk alone would explain the wrong thing. Detectors and segmenters are"
            " not supported."
        )
    if family is not None and family is not Family.UNKNOWN:
        raise UnsupportedModelError(
            f"The model is a {family.value}; maps of image places are not defined for"
            f" it."
        )


def _any(modules: list[nn.Module], *kinds: type[nn.Module]) -> bool:
    return any(isinstance(module, kinds) for module in modules)


def _attends(names: set[str]) -> bool:
    return any("attention" in name.lower() for name in names)
