# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM of transformers: equal to its oracles, at layers that are live."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from explain.architectures import TappedLayer, resolve_layer
from explain.errors import UnsupportedLayerError
from explain.maps import upsample
from explain.methods import create_method


def vit(*, size: int = 32, seed: int = 0) -> VisionTransformer:
    """Return a ViT of two blocks on a grid of 4 x 4, with a head that is not zero."""
    torch.manual_seed(seed)
    model = VisionTransformer(
        image_size=size,
        patch_size=size // 4,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=5,
    )
    nn.init.normal_(model.heads.head.weight)
    return model.eval()


def swin(seed: int = 0) -> SwinTransformer:
    """Return a Swin of two stages, whose last grid is 4 x 4 for 32 x 32 images."""
    torch.manual_seed(seed)
    return SwinTransformer(
        patch_size=[4, 4],
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=[2, 2],
        num_classes=5,
    ).eval()


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator)


BUILDERS: dict[str, Callable[[], nn.Module]] = {"vit": vit, "swin": swin}
LAYERS = [
    ("vit", "encoder.layers.encoder_layer_1.ln_1"),
    ("vit", "encoder.layers.encoder_layer_0"),
    ("vit", "encoder.layers.encoder_layer_0.ln_2"),
    ("swin", "norm"),
    ("swin", "features.3.1.norm1"),
    ("swin", "features.3.1.norm2"),
    ("swin", "features.1"),
]


@pytest.fixture(scope="module")
def peer() -> Callable[..., Any]:
    """pytorch-grad-cam's normalised maps with a reshape of its user's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(
        model: nn.Module, layer: nn.Module, inputs: Tensor, targets: list[int]
    ) -> Any:
        def reshape(output: Tensor) -> Tensor:
            if output.ndim == 4:
                return output.permute(0, 3, 1, 2)
            return output[:, 1:].reshape(len(output), 4, 4, -1).permute(0, 3, 1, 2)

        with GradCAM(
            model=model, target_layers=[layer], reshape_transform=reshape
        ) as cam:
            return cam(
                input_tensor=inputs,
                targets=[ClassifierOutputTarget(target) for target in targets],
            )

    return maps


def minmax(maps: Tensor) -> Tensor:
    """Return each map scaled to [0, 1], as the peer does it."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_equals_the_peer_with_its_reshape(
    peer: Callable[..., Any], family: str, layer: str
) -> None:
    """R2: normalised and resized, our raw map is pytorch-grad-cam's."""
    model, inputs = BUILDERS[family](), images(3)
    found = resolve_layer(model, layer, inputs[:1])
    ours = create_method("gradcam", model, found).explain(
        inputs, torch.tensor([0, 2, 4])
    )
    oracle = peer(model, model.get_submodule(layer), inputs, [0, 2, 4])
    # The peer's epsilon counts where a map is small; ours is scaled as the peer's.
    resized = minmax(upsample(minmax(ours.maps), (32, 32)))
    assert np.abs(resized.numpy() - oracle).max() < 2e-5
    assert oracle.max() > 0.9


def slow_gradcam(
    model: nn.Module, layer: str, image: Tensor, target: int, prefix: int
) -> Tensor:
    """Return Grad-CAM by loops over channels and places, in float64, whole graph."""
    model, image = copy.deepcopy(model).double(), image.double().requires_grad_()
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    logits = model(image[None])
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, target], kept[0])
    feature, slope = kept[0].detach()[0], gradient[0]
    if feature.ndim == 2:
        side = int((len(feature) - prefix) ** 0.5)
        feature = feature[prefix:].reshape(side, side, -1)
        slope = slope[prefix:].reshape(side, side, -1)
    height, width, channels = feature.shape
    total = torch.zeros(height, width, dtype=torch.float64)
    for channel in range(channels):
        weight = sum(
            float(slope[row, column, channel])
            for row in range(height)
            for column in range(width)
        ) / (height * width)
        total += weight * feature[:, :, channel]
    return total.clamp(min=0)


@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_equals_a_slow_float64_loop(family: str, layer: str) -> None:
    """The definition over places, class token left out, in float64 agrees."""
    model, inputs = BUILDERS[family](), images(2, seed=4)
    found = resolve_layer(model, layer, inputs[:1])
    ours = create_method("gradcam", model, found).explain(inputs, torch.tensor([1, 3]))
    for item, target in enumerate((1, 3)):
        expected = slow_gradcam(model, layer, inputs[item], target, prefix=1)
        error = (ours.maps[item].double() - expected).abs().max()
        assert error < 1e-5 * expected.max()


def test_swin_at_its_last_norm_is_cam() -> None:
    """Pooling and a linear head follow: Grad-CAM is the closed form of CAM."""
    model, inputs, target = swin(), images(2), 3
    layer = resolve_layer(model, example=inputs)
    assert layer.name == "norm"
    ours = create_method("gradcam", model, layer).explain(
        inputs, torch.tensor([target] * 2)
    )
    with torch.no_grad():
        features = model.norm(model.features(inputs))
        raw = (features * model.head.weight[target]).sum(dim=3) / 16
        logit = model(inputs)[:, target]
    assert torch.allclose(ours.maps, raw.clamp(min=0), atol=1e-6)
    # Nothing is left out: before the ReLU the map sums to the logit.
    assert torch.allclose(
        raw.sum(dim=(1, 2)) + model.head.bias[target], logit, atol=1e-5
    )


@pytest.mark.parametrize("family", BUILDERS)
def test_an_item_does_not_depend_on_its_neighbours(family: str) -> None:
    """Other neighbours and another place in the batch leave the same bits."""
    model, first, second = BUILDERS[family](), images(4, seed=1), images(4, seed=2)
    second[3] = first[1]
    method = create_method("gradcam", model, resolve_layer(model, example=first))
    ours = method.explain(first, torch.tensor([4, 2, 0, 1]))
    others = method.explain(second, torch.tensor([0, 1, 3, 2]))
    assert torch.equal(ours.maps[1], others.maps[3])
    assert float(ours.maps[1].max()) > 0


@pytest.mark.parametrize("family", BUILDERS)
def test_several_targets_share_a_forward(family: str) -> None:
    """Rows of targets give the map of each, and each equals its own explanation."""
    model, inputs = BUILDERS[family](), images(2)
    method = create_method("gradcam", model, resolve_layer(model, example=inputs))
    rows = torch.tensor([[0, 1, 2], [4, 3, 2]])
    ours = method.explain(inputs, rows)
    assert ours.maps.shape == (2, 3, 4, 4)
    for column in range(3):
        alone = method.explain(inputs, rows[:, column]).maps
        assert torch.allclose(ours.maps[:, column], alone, atol=1e-7)


def test_bfloat16_transformers_are_explained() -> None:
    """Half precision tokens give float32 maps close to the full ones."""
    model, inputs = vit(), images(2)
    layer = resolve_layer(model, example=inputs)
    full = create_method("gradcam", model, layer).explain(inputs, torch.tensor([0, 1]))
    half = model.bfloat16()
    layer = resolve_layer(half, example=inputs.bfloat16())
    ours = create_method("gradcam", half, layer).explain(
        inputs.bfloat16(), torch.tensor([0, 1])
    )
    assert ours.maps.dtype == torch.float32
    assert (ours.maps - full.maps).abs().max() < 0.1 * full.maps.max()


def test_another_number_of_tokens_is_refused() -> None:
    """A grid resolved on one image size does not silently reshape another's."""
    model, small = vit(size=32), vit(size=64)
    found = resolve_layer(model, example=images(1))
    assert found.layout.fits(torch.zeros(1, 17, 16))
    small.conv_proj = nn.Conv2d(3, 16, 8, stride=8)
    small.patch_size, small.encoder.pos_embedding = 8, None
    small.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 65, 16))
    name = "encoder.layers.encoder_layer_1.ln_1"
    layer = TappedLayer(name, small.get_submodule(name), "test", 1, None, found.layout)
    with pytest.raises(UnsupportedLayerError, match=r"tokens \(N, 1 \+ 4 \* 4, C\)"):
        create_method("gradcam", small, layer).explain(images(1, 64), None)
