# SPDX-License-Identifier: Apache-2.0
"""The CAM family equals captum and pytorch-grad-cam in every convolutional family."""

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods import create_method
from explain.methods.cam import signed_cam
from explain.methods.eigencam import signed_eigencam
from explain.methods.split_forward import split_forward

#: The smallest member of each family, and an image that leaves its map an extent.
FAMILIES = {
    "alexnet": (128, 160),
    "vgg11_bn": (64, 96),
    "resnet18": (64, 96),
    "resnext50_32x4d": (64, 96),
    "wide_resnet50_2": (64, 96),
    "densenet121": (64, 96),
    "googlenet": (64, 96),
    "inception_v3": (96, 128),
    "squeezenet1_1": (64, 96),
    "mobilenet_v2": (64, 96),
    "mobilenet_v3_small": (64, 96),
    "shufflenet_v2_x0_5": (64, 96),
    "mnasnet0_5": (64, 96),
    "regnet_x_400mf": (64, 96),
    "regnet_y_400mf": (64, 96),
    "efficientnet_b0": (64, 96),
    "efficientnet_v2_s": (64, 96),
    "convnext_tiny": (64, 96),
}

PEERS = {
    "gradcam": "GradCAM",
    "gradcam_plus_plus": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "xgradcam": "XGradCAM",
    "eigencam": "EigenCAM",
}

TARGETS = torch.tensor([7, 400])

Peer = Callable[[str, nn.Module, nn.Module, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def peer() -> Peer:
    """R2 and R4: pytorch-grad-cam's maps, normalised, at the input's size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(
        name: str, model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        wanted = [ClassifierOutputTarget(target) for target in targets.tolist()]
        with getattr(pytorch_grad_cam, name)(model=model, target_layers=[layer]) as cam:
            # It needs something to differentiate down to.
            leaf = inputs.clone().requires_grad_()
            return torch.from_numpy(cam(input_tensor=leaf, targets=wanted))

    return maps


def seeded(family: str) -> nn.Module:
    """Return a network of seeded weights whose activations keep their size."""
    torch.manual_seed(1)
    # Built without weights: the constructors' own initialisation takes seconds.
    with torch.device("cpu" if family.startswith("regnet") else "meta"):
        model = built(family)
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif hasattr(module, "layer_scale"):
            nn.init.constant_(module.layer_scale, 0.5)
        elif type(module).__name__ == "LayerNorm2d":
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # Statistics of one batch stand in for training.
    with torch.no_grad():
        model.train()(noise(4, FAMILIES[family], seed=9))
    # The peer differentiates everything; without weights it does so in half the time.
    return model.eval().requires_grad_(False)


def built(family: str) -> nn.Module:
    """Return the family's smallest member, the heaviest of them made lighter."""
    options: dict[str, Any] = {}
    if family in {"googlenet", "inception_v3"}:
        options = {"init_weights": False, "aux_logits": False}
    if family in {"resnext50_32x4d", "wide_resnet50_2"}:
        options = {"layers": [1, 1, 1, 1]}
        options |= {"groups": 32} if "x4d" in family else {}
        options["width_per_group"] = 4 if "x4d" in family else 128
        block = torchvision.models.resnet.Bottleneck
        return torchvision.models.ResNet(block, **options)
    model = torchvision.models.get_model(family, weights=None, **options)
    if family.startswith("vgg"):
        model.classifier = nn.Sequential(
            nn.Linear(512 * 49, 64), nn.ReLU(inplace=True), nn.Linear(64, 1000)
        )
    return model


def noise(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, *size, generator=generator)


def relative_error(ours: Tensor, oracle: Tensor) -> float:
    """Return the largest difference over the largest oracle value."""
    return float((ours - oracle).abs().max() / oracle.abs().max())


def scaled(maps: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Return each map scaled to [0, 1] as the peer does."""
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + epsilon)


def as_the_peer(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps scaled, resized and scaled again."""
    return scaled(upsample(scaled(maps), size))


def copying_relu(values: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001
    """Return ReLU without overwriting."""
    return torch.relu(values)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_equals_its_references_in_every_family(
    family: str,
    peer: Peer,
    captum_gradcam: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R1, R2, R4: raw maps equal captum's; scaled and resized, pytorch-grad-cam's.

    DenseNet follows the layer with an in-place ReLU, where that library mixes the
    activation after it with the gradient before it, so for it the ReLU copies.
    """
    model, size = seeded(family), FAMILIES[family]
    inputs = noise(2, size)
    layer = resolve_layer(model, example=inputs)
    raw = captum_gradcam(model, layer.module, inputs, TARGETS)
    ours = create_method("gradcam", model, layer).explain(inputs, TARGETS)
    assert relative_error(ours.maps, raw) < 1e-5
    assert float(ours.maps.amax()) > 0
    with torch.no_grad():
        assert torch.equal(ours.logits, model(inputs))
    monkeypatch.setattr(nn.functional, "relu", copying_relu)
    for name, theirs in PEERS.items():
        if name == "eigencam":
            continue
        maps = create_method(name, model, layer).explain(inputs, TARGETS).maps
        expected = peer(theirs, model, layer.module, inputs, TARGETS)
        error = (as_the_peer(maps, size) - expected).abs().max()
        # Before a ReLU the channel sums that XGrad-CAM divides by nearly cancel.
        cancels = family == "densenet121" and name == "xgradcam"
        assert float(error) < (1e-3 if cancels else 2e-5), name
    assert_equals_up_to_sign(model, layer, inputs, peer)


def assert_equals_up_to_sign(
    model: nn.Module, layer: TappedLayer, inputs: Tensor, peer: Peer
) -> None:
    """R4: the projection, or its opposite, rectified, is the peer's Eigen-CAM."""
    size = (inputs.shape[2], inputs.shape[3])
    with frozen(model):
        forward = split_forward(model, layer, inputs, graph=False)
    signed = signed_eigencam(forward.activation).float()
    expected = peer("EigenCAM", model, layer.module, inputs, TARGETS)
    for item in range(len(inputs)):
        one = signed[item : item + 1]
        errors = [
            float((as_the_peer(half.relu(), size)[0] - expected[item]).abs().max())
            for half in (one, -one)
        ]
        assert min(errors) < 2e-5, errors


def test_score_cam_equals_the_reference_but_for_its_resize(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer upsamples masks corner to corner; given our resize, maps agree."""

    class Resize(nn.Module):
        def __init__(self, size: torch.Size) -> None:
            super().__init__()
            self.size = size

        def forward(self, maps: Tensor) -> Tensor:
            return nn.functional.interpolate(maps, size=self.size, mode="bilinear")

    model, inputs = seeded("shufflenet_v2_x0_5"), noise(2, (64, 96))
    layer = resolve_layer(model, "stage2", inputs)
    ours = create_method("scorecam", model, layer).explain(inputs, TARGETS).maps
    theirs = peer("ScoreCAM", model, layer.module, inputs, TARGETS)
    as_it_is = (as_the_peer(ours, (64, 96)) - theirs).abs().max()
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", Resize)
    theirs = peer("ScoreCAM", model, layer.module, inputs, TARGETS)
    agreed = (as_the_peer(ours, (64, 96)) - theirs).abs().max()
    assert float(agreed) < 2e-5
    assert float(as_it_is) > 1e-3


def test_ablation_cam_equals_the_reference_where_the_score_is_positive(
    peer: Peer,
) -> None:
    """The peer divides by the score and sets zeros where the layer is rectified."""
    model, inputs = seeded("shufflenet_v2_x0_5"), noise(2, (64, 96))
    layer = resolve_layer(model, "stage2", inputs)
    with torch.no_grad():
        targets = model(inputs).argmax(dim=1)
    ours = create_method("ablationcam", model, layer).explain(inputs, targets)
    assert float(ours.logits.gather(1, targets[:, None]).min()) > 0
    theirs = peer("AblationCAM", model, layer.module, inputs, targets)
    error = (as_the_peer(ours.maps, (64, 96)) - theirs).abs().max()
    assert float(error) < 1e-3


@pytest.fixture(scope="module")
def torchcam() -> Any:
    """R3: the network and the images of the recorded maps, and the maps."""
    path = Path(__file__).parent / "fixtures" / "torchcam_maps.py"
    spec = importlib.util.spec_from_file_location("torchcam_maps", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recorded = json.loads(path.with_suffix(".json").read_text())
    module.maps = {name: torch.tensor(maps) for name, maps in recorded.items()}
    return module


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("gradcam", "GradCAM"),
        ("layercam", "LayerCAM"),
        ("xgradcam", "XGradCAM"),
    ],
)
def test_equals_the_recorded_maps_of_torch_cam(
    torchcam: Any, name: str, theirs: str
) -> None:
    """R3: scaled to [0, 1], native maps are torch-cam's."""
    model, inputs = torchcam.network(), torchcam.images()
    method = create_method(name, model, resolve_layer(model, "relu", inputs))
    maps = method.explain(inputs, torch.tensor(torchcam.TARGETS)).maps
    assert float((scaled(maps, 1e-8) - torchcam.maps[theirs]).abs().max()) < 2e-6


def test_the_signed_cam_equals_the_recorded_map_of_torch_cam(torchcam: Any) -> None:
    """R3 of CAM, which that library leaves unrectified before it scales."""
    model, inputs = torchcam.network(), torchcam.images()
    with torch.no_grad():
        features = model[:4](inputs)
        signed = signed_cam(features, model.head.weight[torchcam.TARGETS])
    assert float((scaled(signed, 1e-8) - torchcam.maps["CAM"]).abs().max()) < 2e-6
    method = create_method("cam", model, resolve_layer(model, "relu", inputs))
    maps = method.explain(inputs, torch.tensor(torchcam.TARGETS)).maps
    assert torch.equal(maps, signed.relu())


def test_differs_from_torch_cam_where_that_forgets_the_denominator(
    torchcam: Any,
) -> None:
    """Its Grad-CAM++ weighs by g^2 ReLU(g): it divides a copy and throws it away."""
    model, inputs = torchcam.network(), torchcam.images()
    layer = resolve_layer(model, "relu", inputs)
    targets = torch.tensor(torchcam.TARGETS)
    with frozen(model):
        forward = split_forward(model, layer, inputs)
        activation, gradient = forward.activation, forward.gradient(targets)
    undivided = (gradient.square() * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    wrong = scaled((undivided * activation).sum(dim=1).relu(), 1e-8)
    theirs = torchcam.maps["GradCAMpp"]
    assert float((wrong - theirs).abs().max()) < 1e-5
    ours = create_method("gradcam_plus_plus", model, layer).explain(inputs, targets)
    assert float((scaled(ours.maps, 1e-8) - theirs).abs().max()) > 0.05


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1", [[11.25, 13.5], [20.25, 22.5]]),
        ("relu1", [[0.0, 4.0], [28.0, 32.5]]),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_gives_the_constants_of_captums_own_tests(
    name: str, expected: list[list[float]], inplace: bool
) -> None:
    """R6: on that library's own small network, to the last digit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.testing.helpers.basic_models import BasicModel_ConvNet_One_Conv
    model = BasicModel_ConvNet_One_Conv(inplace=inplace).eval()
    inputs = torch.arange(16.0).view(1, 1, 4, 4)
    method = create_method("gradcam", model, resolve_layer(model, name, inputs))
    assert method.explain(inputs, torch.tensor([0])).maps.tolist() == [expected]


@pytest.mark.parametrize("source", [(7, 7), (2, 3), (40, 30)])
@pytest.mark.parametrize("target", [(224, 224), (20, 31)])
def test_upsampling_equals_opencv(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    """R15: bilinear resizing up, down and to other aspects is OpenCV's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import cv2
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, *source, generator=generator)
    theirs = cv2.resize(maps[0].numpy(), target[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(upsample(maps, target)[0].numpy() - theirs).max() < 2e-6
