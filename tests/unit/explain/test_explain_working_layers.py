# SPDX-License-Identifier: Apache-2.0
"""Layers that work: found by gradient in every family, and named by refusals."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.maxvit import MaxVit

from explain.architectures import resolve_layer, working_layers
from explain.errors import (
    InvalidTargetError,
    UnsupportedLayerError,
    ZeroGradientLayerError,
)
from explain.frozen import frozen
from explain.methods import create_method
from explain.methods.split_forward import split_forward

#: Small member, size of its image, layer found, of every family of torchvision.
TORCHVISION = {
    "alexnet": ("alexnet", 96, "features.11"),
    "convnext": ("convnext_tiny", 64, "features"),
    "densenet": ("densenet121", 64, "features"),
    "efficientnet_b": ("efficientnet_b0", 64, "features"),
    "efficientnet_v2": ("efficientnet_v2_s", 64, "features"),
    "googlenet": ("googlenet", 64, "inception5b"),
    "inception": ("inception_v3", 128, "Mixed_7c"),
    "maxvit": ("maxvit", 64, "blocks.1"),
    "mnasnet": ("mnasnet0_5", 64, "layers"),
    "mobilenet_v2": ("mobilenet_v2", 64, "features"),
    "mobilenet_v3": ("mobilenet_v3_small", 64, "features"),
    "regnet_x": ("regnet_x_400mf", 64, "trunk_output"),
    "regnet_y": ("regnet_y_400mf", 64, "trunk_output"),
    "resnet": ("resnet18", 64, "layer4"),
    "resnext": ("resnext50_32x4d", 64, "layer4"),
    "shufflenet": ("shufflenet_v2_x0_5", 64, "conv5"),
    "squeezenet": ("squeezenet1_1", 64, "classifier.2"),
    "swin_v2": ("swin_v2_t", 64, "norm"),
    "swin": ("swin_t", 64, "norm"),
    "vgg": ("vgg11", 64, "features.19"),
    "vit": ("vit", 32, "encoder.layers.encoder_layer_1.ln_1"),
    "wide_resnet": ("wide_resnet50_2", 64, "layer4"),
}

#: Small member, options, size, layer found, of families that timm brings.
TIMM = {
    "vit": ("test_vit", {"img_size": 64}, "blocks.5.norm1"),
    "vit, registers, mean": ("test_vit2", {"img_size": 64}, "blocks"),
    "vit, registers, token": ("test_vit3", {"img_size": 64}, None),
    "not square": ("test_vit", {"img_size": (32, 96)}, "blocks.5.norm1"),
    "two class tokens": (
        "deit_tiny_distilled_patch16_224",
        {"img_size": 64},
        "blocks.11.norm1",
    ),
    "swin": ("swin_tiny_patch4_window7_224", {"img_size": 64}, "norm"),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 56}, None),
    "cait": ("cait_xxs24_224", {"img_size": 64}, "blocks_token_only.1.norm1"),
    "mobilevit": ("mobilevit_xxs", {}, "final_conv"),
    "mobilevit v2": ("mobilevitv2_050", {}, "stages"),
    "pvt": ("pvt_v2_b0", {}, "stages"),
    "resnet": ("test_resnet", {}, "layer4"),
    "convnext": ("test_convnext", {}, "stages"),
    "regnet": ("regnetx_002", {}, "s4"),
    "efficientnet": ("test_efficientnet", {}, "bn2"),
    "nfnet": ("test_nfnet", {}, "final_act"),
    "mambaout": ("test_mambaout", {}, "stages"),
    "byobnet": ("test_byobnet", {}, "stages"),
}


def vit(layers: int = 2) -> VisionTransformer:
    """Return a small ViT on a grid of 4 x 4, with a head that is not zero."""
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, layers, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


def maxvit() -> MaxVit:
    """Return a small MaxViT of two stages for 64 x 64 images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MaxVit((64, 64), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=5).eval()


def built(name: str) -> nn.Module:
    """Return a torchvision model with seeded weights."""
    torch.manual_seed(0)
    if name in {"vit", "maxvit"}:
        return vit() if name == "vit" else maxvit()
    slow = name in {"googlenet", "inception_v3", "vgg11"}
    options = {"init_weights": False} if slow else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model.eval()


def noise(*size: int, seed: int = 0) -> Tensor:
    """Return two seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *size, generator=generator)


def test_no_family_of_torchvision_is_forgotten() -> None:
    """Every classifier that torchvision lists belongs to a family tried below."""
    for name in torchvision.models.list_models(module=torchvision.models):
        assert any(re.match(rf"{family}[\d_]*", name) for family in TORCHVISION), name


@pytest.mark.parametrize("family", TORCHVISION)
def test_every_family_of_torchvision_is_explained(family: str) -> None:
    """The layer found is the one expected, and its map is not blank."""
    name, size, layer = TORCHVISION[family]
    model, inputs = built(name), noise(size, size)
    found = resolve_layer(model, example=inputs[:1])
    assert found.name == layer
    result = create_method("gradcam", model, found).explain(inputs, None)
    assert found.shape is not None
    assert result.maps.shape == (2, *found.shape[2:])
    assert not result.zero_gradient.any()


@pytest.mark.parametrize("family", TIMM)
def test_families_of_timm_are_explained(family: str) -> None:
    """Other names, prefixes, grids and poolings are found by the same rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm = pytest.importorskip("timm")
        name, options, layer = TIMM[family]
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **options).eval()
    size = options.get("img_size", 64)
    inputs = noise(*(size if isinstance(size, tuple) else (size, size)))
    found = resolve_layer(model, example=inputs[:1])
    assert layer is None or found.name == layer
    result = create_method("gradcam", model, found).explain(inputs, None)
    assert found.shape is not None
    aspect = inputs.shape[3] // inputs.shape[2]
    assert found.shape[3] == aspect * found.shape[2]
    assert result.maps.shape == (2, *found.shape[2:])
    assert not result.zero_gradient.any()


@pytest.mark.parametrize(
    "layer",
    [
        "encoder",
        "encoder.ln",
        "encoder.layers.encoder_layer_1",
        "encoder.layers.encoder_layer_1.ln_2",
    ],
)
def test_a_dead_layer_of_a_vit_is_refused_with_five_that_work(layer: str) -> None:
    """Behind the last attention no place counts; the message says where they do."""
    model = vit(layers=2)
    with pytest.raises(ZeroGradientLayerError) as caught:
        resolve_layer(model, layer, torch.zeros(1, 3, 32, 32))
    message = str(caught.value)
    assert f"do not depend on layer {layer!r}" in message
    assert "encoder.layers.encoder_layer_1.ln_1" in message
    assert "encoder.layers.encoder_layer_0" in message
    named = message.rsplit("layers that work: ", 1)[1].rstrip(".").split(", ")
    assert 1 < len(named) <= 5
    for name in named:
        resolve_layer(model, name, torch.zeros(1, 3, 32, 32))


def test_a_layer_without_a_map_is_refused_with_those_that_work() -> None:
    """The names in the message can be copied into the audit."""
    model = built("resnet18")
    with pytest.raises(
        UnsupportedLayerError,
        match="layers that work: layer4, layer3, layer2, layer1, relu",
    ):
        resolve_layer(model, "fc", torch.zeros(1, 3, 64, 64))


class Branches(nn.Module):
    """Class 0 sees one branch, class 1 the other; a third one is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Conv2d(3, 4, 3)
        self.right = nn.Conv2d(3, 4, 3)
        self.ignored = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        left, right = self.left(images), self.right(images)
        self.ignored(images)
        return torch.stack([left.mean(dim=(1, 2, 3)), right.mean(dim=(1, 2, 3))], dim=1)


def test_working_layers_are_those_of_the_target() -> None:
    """A branch works for its own class alone; without a target, for any class."""
    model, example = Branches(), torch.zeros(1, 3, 8, 8)

    def names(target: int | None) -> list[str]:
        return [layer.name for layer in working_layers(model, example, target)]

    assert names(0) == ["left"]
    assert names(1) == ["right"]
    assert names(None) == ["right", "left"]


def test_auto_steps_over_a_branch_that_is_thrown_away() -> None:
    """The last layer that runs is not taken when no score depends on it."""
    found = resolve_layer(Branches(), example=torch.zeros(1, 3, 8, 8))
    assert found.name == "right"
    assert "not on 'ignored'" in found.reason


def test_auto_is_the_first_of_the_working_layers() -> None:
    """One order serves the choice and the advice."""
    model, example = vit(layers=3), torch.zeros(1, 3, 32, 32)
    working = working_layers(model, example)
    assert working[0].name == resolve_layer(model, example=example).name
    assert [layer.name for layer in working[1:]] == [
        "encoder.layers.encoder_layer_1",
        "encoder.layers.encoder_layer_0",
        "conv_proj",
    ]


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_out_of_range_is_refused(target: int) -> None:
    """A class that the model does not have has no working layers."""
    with pytest.raises(InvalidTargetError, match="classes 0 to 1"):
        working_layers(Branches(), torch.zeros(1, 3, 8, 8), target)


def test_a_vit_whose_head_is_zero_is_refused() -> None:
    """An untrained torchvision ViT has a head of zeros, so nothing has influence."""
    model = vit()
    nn.init.zeros_(model.heads.head.weight)
    with pytest.raises(ZeroGradientLayerError, match="weights of its head all zero"):
        resolve_layer(model, example=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ZeroGradientLayerError, match="no other layer"):
        resolve_layer(model, "encoder.ln", torch.zeros(1, 3, 32, 32))


def test_a_cnn_whose_head_is_zero_keeps_its_layer() -> None:
    """Its items are flagged one by one when they are explained."""
    model = built("resnet18")
    nn.init.zeros_(model.fc.weight)
    found = resolve_layer(model, example=torch.zeros(1, 3, 64, 64))
    assert found.name == "layer4"
    result = create_method("gradcam", model, found).explain(noise(64, 64), None)
    assert result.zero_gradient.all()


def test_weights_of_nan_are_not_taken_for_a_dead_layer() -> None:
    """NaN is a broken network, not a layer without influence."""
    model = vit()
    model.heads.head.weight.data.fill_(torch.nan)
    name = "encoder.layers.encoder_layer_1.ln_1"
    assert resolve_layer(model, name, torch.zeros(1, 3, 32, 32)).name == name


@pytest.mark.parametrize("layer", ["auto", "encoder.ln"])
def test_probing_leaves_the_model_as_it_was(layer: str) -> None:
    """Modes, gradients and hooks survive the backward pass, refused or not."""
    model = vit().train()
    model.encoder.ln.eval()
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    try:
        resolve_layer(model, layer, torch.zeros(1, 3, 32, 32))
    except ZeroGradientLayerError:
        assert layer != "auto"
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_probing_works_where_gradients_are_off(mode: Callable[[], Any]) -> None:
    """A caller's no_grad or inference_mode does not make layers look dead."""
    model = vit()
    with mode():
        found = resolve_layer(model, example=torch.zeros(1, 3, 32, 32))
    assert found.name == "encoder.layers.encoder_layer_1.ln_1"


def saved_bytes(model: nn.Module, name: str) -> int:
    """Return the bytes that autograd holds for one image, weights left out."""
    image = noise(224, 224)[:1]
    layer = resolve_layer(model, name, image)
    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in owned:
            held[pointer] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, frozen(model):
        split_forward(model, layer, image)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def last_of_vit_b_16() -> nn.Module:
    """Return ViT-B/16 without the blocks before its last, of which nothing is saved."""
    torch.manual_seed(0)
    model = VisionTransformer(224, 16, 1, 12, 768, 3072)
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "layer", "mebibytes"),
    [
        ("resnet50", "auto", 2.1),
        ("resnet50", "layer4.1", 2.1),
        ("vit_b_16", "auto", 14.0),
    ],
)
def test_memory_of_the_graph_is_that_of_the_head(
    name: str, layer: str, mebibytes: float
) -> None:
    """What autograd saves for an image of 224 x 224 is counted, and small."""
    model = last_of_vit_b_16() if name == "vit_b_16" else built(name)
    saved = saved_bytes(model, layer)
    assert saved <= mebibytes * 2**20
    # Behind a ResNet's last stage there is only what is linear in it.
    assert (saved == 0) == (name == "resnet50" and layer == "auto")
