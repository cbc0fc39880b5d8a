# SPDX-License-Identifier: Apache-2.0
"""The dispatcher decides from the module, and the self-test refuses nonsense."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from explain.architectures import resolve_layer
from explain.architectures.dispatch import decide
from explain.architectures.family import Family, foreign_family
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import UnsupportedModelError
from explain.methods import METHODS, create_method
from explain.self_test import Check, first_checks, second_checks


class Pictures(nn.Module):
    """A small convolutional classifier of four classes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.body = nn.Conv2d(3, 6, 3, stride=4)
        self.head = nn.Linear(6, 4)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.4, generator=generator)

    def features(self, images: Tensor) -> Tensor:
        """Return the map before the pooling."""
        return torch.relu(self.body(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.features(images).mean(dim=(2, 3)))


class Coupled(Pictures):
    """Each item is compared with the batch's first, as no classifier should."""

    def features(self, images: Tensor) -> Tensor:
        """Return maps that depend on the neighbours."""
        found = super().features(images)
        return found * (1 + found[:1].mean())


class Indifferent(Pictures):
    """Gives the same score for every class."""

    def forward(self, images: Tensor) -> Tensor:
        """Return one score, four times."""
        return super().forward(images)[:, :1].expand(-1, 4).clone()


class Unsure(Pictures):
    """Gives scores that are no numbers."""

    def forward(self, images: Tensor) -> Tensor:
        """Return NaN."""
        return super().forward(images) * torch.nan


class Segmenter(Pictures):
    """Gives a score a class and place."""

    def forward(self, images: Tensor) -> Any:
        """Return what torchvision's segmenters return."""
        return {"out": self.features(images)}


class Boxes(nn.Module):
    """Named as torchvision's family of detectors."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Pictures()


Boxes.__name__ = "GeneralizedRCNN"


def tiny_vit() -> nn.Module:
    """Return a ViT of one block."""
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


def tiny_swin(window: int) -> nn.Module:
    """Return a Swin whose last grid is 4 x 4."""
    torch.manual_seed(0)
    return SwinTransformer(
        [4, 4], 8, [2, 2], [1, 2], [window, window], num_classes=5
    ).eval()


EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("model", "family", "layer", "blocks"),
    [
        (Pictures(), Family.CONVOLUTIONAL, "body", 0),
        (
            tiny_vit(),
            Family.VISION_TRANSFORMER,
            "encoder.layers.encoder_layer_1.ln_1",
            2,
        ),
        (tiny_swin(4), Family.WINDOWED_TRANSFORMER, "norm", 2),
        (tiny_swin(2), Family.WINDOWED_TRANSFORMER, "norm", 0),
    ],
)
def test_family_layer_and_attention_are_found(
    model: nn.Module, family: Family, layer: str, blocks: int
) -> None:
    """The decision names what is tapped and says why, for each family."""
    found = decide(model, EXAMPLE)
    assert (found.family, found.layer.name) == (family, layer)
    given = 0 if found.attention is None else len(found.attention.modules)
    assert given == blocks
    assert (found.method, found.baseline) == ("gradcam", "zero")
    said = " ".join(found.reasons)
    assert layer in said
    assert family.value in said
    assert ("weights are not defined" in said) is (
        blocks == 0 and family is not Family.CONVOLUTIONAL
    )
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("model", "family", "words"),
    [
        (Boxes(), Family.DETECTOR, "gives boxes"),
        (nn.LSTM(3, 4), Family.RECURRENT, "recurrent network"),
        (
            nn.Sequential(nn.Embedding(9, 4), nn.MultiheadAttention(4, 2)),
            Family.TEXT,
            "text transformer",
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), Family.TABLE, "table rows"),
        (nn.Sequential(nn.Conv1d(1, 2, 3)), Family.SEQUENCE, "sequences"),
        (nn.Sequential(nn.Conv3d(1, 2, 3)), Family.VOLUME, "volumes"),
    ],
)
def test_other_kinds_of_network_are_refused_by_name(
    model: nn.Module, family: Family, words: str
) -> None:
    """What is no image classifier is named and refused before it is run."""
    assert foreign_family(model) is family
    with pytest.raises(UnsupportedModelError, match=words):
        decide(model, EXAMPLE)


def test_a_segmenter_is_refused() -> None:
    """What gives no class scores is not explained by its trunk."""
    with pytest.raises(UnsupportedModelError, match="Detectors and segmenters"):
        decide(Segmenter(), EXAMPLE)


def test_suspicious_scores_are_warned_of() -> None:
    """Probabilities, features without a head and a single score are pointed out."""
    chances = nn.Sequential(Pictures(), nn.Softmax(dim=1))
    assert any("probabilities" in said for said in decide(chances, EXAMPLE).warnings)
    headless = Pictures()
    headless.head = nn.Identity()
    assert decide(headless, EXAMPLE).warnings == ()  # its last map has six channels
    headless.head = nn.Flatten()
    pooled = nn.Sequential(Pictures().body, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    (said,) = decide(pooled, EXAMPLE).warnings
    assert "put the classifier back" in said


def checks_of(model: nn.Module, shape: tuple[int, int] | None) -> dict[str, Check]:
    """Return the self-test of Grad-CAM, by the checks' names."""
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    layer = resolve_layer(model, "body", noise[:1])
    method = create_method("gradcam", model, layer)
    context = ItemContext(draws=ItemDraws.counted(2), images=noise)
    found = method.explain(noise, None, context)
    checks = first_checks(found, METHODS["gradcam"], shape, "body")
    checks += second_checks(method, found, METHODS["gradcam"], noise, context)
    return {check.name: check for check in checks}


def test_a_sound_network_passes_every_check() -> None:
    """Nothing is refused that works."""
    checks = checks_of(Pictures(), (8, 8))
    assert all(check.passed for check in checks.values())
    assert set(checks) == {"finite", "shape", "gradient", "batch", "not blank"} | {
        "classes"
    }


@pytest.mark.parametrize(
    ("model", "shape", "name", "words"),
    [
        (Coupled(), None, "batch", "place in the batch"),
        (Indifferent(), None, "classes", "are the same"),
        (Pictures(), (7, 7), "shape", r"shape \(8, 8\), expected \(7, 7\)"),
        (Unsure(), None, "finite", "class scores of two noise images"),
    ],
)
def test_nonsense_fails_the_check_that_is_meant_for_it(
    model: nn.Module, shape: tuple[int, int] | None, name: str, words: str
) -> None:
    """Each fault is found, and its sentence says what is wrong."""
    check = checks_of(model, shape)[name]
    assert not check.passed
    assert re.search(words, check.said)
