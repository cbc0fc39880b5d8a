# SPDX-License-Identifier: Apache-2.0
"""Which layer is tapped: found by one rule in every family, or named."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.architectures.layouts import ChannelsLast
from explain.errors import (
    UnknownLayerError,
    UnsupportedLayerError,
    UnsupportedModelError,
)

FAMILIES = {
    "alexnet": "features.11",
    "convnext_tiny": "features",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "efficientnet_v2_s": "features",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "mnasnet0_5": "layers",
    "maxvit_t": "blocks.3",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "mobilenet_v3_large": "features",
    "regnet_x_400mf": "trunk_output",
    "regnet_y_400mf": "trunk_output",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "resnext50_32x4d": "layer4",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_0": "classifier.2",
    "squeezenet1_1": "classifier.2",
    "swin_t": "norm",
    "swin_v2_t": "norm",
    "vgg11": "features.19",
    "vgg11_bn": "features.27",
    "wide_resnet50_2": "layer4",
}


def on_meta(name: str) -> nn.Module:
    """Return a torchvision model without memory for its weights."""
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    # A RegNet computes its widths with tensors, which needs a real device.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model.to("meta")


@pytest.mark.parametrize(("family", "layer"), FAMILIES.items())
def test_auto_finds_the_last_map_of_every_family(family: str, layer: str) -> None:
    """The last map before the pooling is found without a table of names."""
    found = resolve_layer(on_meta(family))
    assert found.name == layer
    assert found.shape is not None
    assert found.shape[2] * found.shape[3] > 1
    assert found.calls == 1


def test_auto_on_efficientnet_lite_taps_the_last_activation(lite0: nn.Module) -> None:
    """A shared activation is tapped at its last call, right before the pooling."""
    found = resolve_layer(lite0)
    assert (found.name, found.calls, found.shape) == ("_swish", 2, (1, 1280, 7, 7))
    assert "the last is tapped" in found.reason


def test_auto_steps_back_when_the_last_stage_has_no_extent() -> None:
    """On 32 x 32 images a ResNet's last whole stage with extent is layer3."""
    found = resolve_layer(
        on_meta("resnet50"), example=torch.zeros(2, 3, 32, 32, device="meta")
    )
    assert (found.name, found.shape) == ("layer3", (1, 1024, 2, 2))


class Wrapped(nn.Module):
    """A classifier inside a container, its head after a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(4, 5, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        return self.inner(images).flatten(1)


def test_auto_looks_into_a_container_that_hides_the_pooling() -> None:
    """A convolution after the pooling does not hide the map before it."""
    assert resolve_layer(Wrapped()).name == "inner.1"


def test_a_named_layer_is_a_dotted_path() -> None:
    """A name is taken as given, and the reason says that it was."""
    model = torchvision.models.resnet18(weights=None)
    found = resolve_layer(model, "layer3.1.bn2")
    assert found.module is model.layer3[1].bn2
    assert found.reason == "named by the audit"


def test_an_unknown_name_says_which_layers_exist() -> None:
    """The message names near matches and the outermost layers."""
    with pytest.raises(UnknownLayerError, match=r"Nearest: layer4.*conv1, bn1.*fc"):
        resolve_layer(torchvision.models.resnet18(weights=None), "layre4")


@pytest.mark.parametrize("name", ["", "layer4.9"])
def test_a_name_outside_the_model_is_refused(name: str) -> None:
    """Neither the empty name nor an index past the end reaches a layer."""
    with pytest.raises(UnknownLayerError):
        resolve_layer(on_meta("resnet18"), name)


@pytest.mark.parametrize("name", ["fc", "avgpool"])
def test_a_layer_without_a_map_is_refused(name: str) -> None:
    """A vector or a single place cannot show where."""
    with pytest.raises(UnsupportedLayerError, match="expected a map"):
        resolve_layer(on_meta("resnet18"), name)


def test_a_channels_last_layer_is_read_the_right_way_round() -> None:
    """A map whose last axis holds channels is seen as (1, C, h, w)."""
    found = resolve_layer(on_meta("convnext_tiny"), "features.7.2.block.3")
    assert isinstance(found.layout, ChannelsLast)
    assert found.shape == (1, 3072, 7, 7)


def test_a_layer_that_never_runs_is_refused() -> None:
    """An auxiliary head of GoogLeNet is silent in eval mode."""
    model = torchvision.models.googlenet(weights=None, init_weights=False)
    with pytest.raises(UnsupportedLayerError, match="does not run"):
        resolve_layer(model, "aux1.conv")


def test_a_vision_transformer_without_weights_is_refused() -> None:
    """Which of its layers is live cannot be found out on the meta device."""
    with pytest.raises(UnsupportedModelError, match="give it real weights"):
        resolve_layer(on_meta("vit_b_32"))


def test_a_segmenter_is_refused() -> None:
    """A dictionary of maps is no class score."""
    with torch.device("meta"):
        model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None
        )
    with pytest.raises(UnsupportedModelError, match="expected class logits"):
        resolve_layer(model)


def test_a_detector_is_refused() -> None:
    """A list of boxes is no class score."""
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None
    )
    with pytest.raises(UnsupportedModelError, match="expected class logits"):
        resolve_layer(model)


def test_a_model_without_convolutions_is_refused() -> None:
    """Without a feature map there is nothing to tap."""
    with pytest.raises(UnsupportedModelError, match="no two-dimensional convolution"):
        resolve_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))


def test_a_model_whose_maps_have_no_extent_is_refused() -> None:
    """A single place is not a map, whatever the number of channels."""
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())
    with pytest.raises(UnsupportedModelError, match="No layer of the model"):
        resolve_layer(model, example=torch.zeros(1, 3, 8, 8))


def test_an_example_that_does_not_fit_is_explained() -> None:
    """The failure says which shape was tried and what to do."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(UnsupportedModelError, match=r"\(1, 3, 224, 224\).*pass an ex"):
        resolve_layer(model)


@pytest.mark.parametrize("fails", [False, True])
def test_resolving_leaves_the_model_as_it_was(fails: bool) -> None:
    """Modes, gradients and hooks survive, also when the forward fails."""
    model = torchvision.models.resnet18(weights=None)
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    channels = 5 if fails else 3
    example = torch.zeros(1, channels, 64, 64)
    if fails:
        with pytest.raises(UnsupportedModelError):
            resolve_layer(model, example=example)
    else:
        resolve_layer(model, example=example)
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert int(model.bn1.num_batches_tracked) == 0
