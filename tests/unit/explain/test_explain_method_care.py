# SPDX-License-Identifier: Apache-2.0
"""What holds of every method: the model is given back, items are independent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.errors import (
    ExplainError,
    InvalidTargetError,
    UnsupportedLayerError,
)
from explain.kinds import IMAGE
from explain.maps import dequantise, quantise, upsample
from explain.methods import METHODS, create_method
from explain.methods.cam_cards import CAM_CARDS
from explain.thresholds.fixed import FixedKeep

Builder = Callable[..., nn.Module]

CAMS = [card.name for card in CAM_CARDS]
GRADIENT_CAMS = ["gradcam", "gradcam_plus_plus", "hirescam", "xgradcam", "layercam"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return seeded normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def method_of(name: str, model: nn.Module, layer: str = "body") -> Any:
    """Return the method at a layer, with its defaults."""
    return create_method(
        name, model, TappedLayer(layer, model.get_submodule(layer), "test")
    )


# The model is given back


class Failing(nn.Module):
    """A small classifier that fails where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.where = where
        self.runs = 0
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.5, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, or raise where told to."""
        self.runs += 1
        features = self.body(self.norm(self.stem(images)))
        if self.where == "head" or (self.where == "later" and self.runs > 1):
            raise ArithmeticError(self.where)
        logits: Tensor = self.head(self.drop(features.mean(dim=(2, 3))))
        return logits.detach() if self.where == "gradient" else logits


def state(model: nn.Module) -> list[Any]:
    """Return everything of the model that an explanation must not change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return [
        [
            (m.training, "forward" in vars(m), [len(getattr(m, h)) for h in hooks])
            for m in model.modules()
        ],
        [(p.requires_grad, p.dtype, p.tolist()) for p in model.parameters()],
        [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        [buffer.tolist() for buffer in model.buffers()],
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("head", ArithmeticError),
        ("later", ArithmeticError),
        ("gradient", ExplainError),
        ("target", InvalidTargetError),
        ("nowhere", None),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, card in METHODS.items()
        if not card.needs_attention and IMAGE in card.kinds
    ],
)
def test_the_model_is_given_back_on_every_path(
    name: str, where: str, error: type[Exception] | None
) -> None:
    """Hooks, modes, requires_grad, gradients, buffers and flags are as they were.

    Not every method runs the network twice or differentiates it; those that do not
    succeed, and have to leave things as they were as well.
    """
    model = Failing(where)
    model.train()
    model.norm.eval()
    model.stem.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = state(model)
    method = method_of(name, model)
    targets = torch.tensor([0, 9] if where == "target" else [0, 1])
    failed: Exception | None = None
    try:
        method.explain(noise(2, 3, 10, 10), targets)
    except (ExplainError, ArithmeticError) as caught:
        failed = caught
    assert state(model) == before
    if where in {"head", "target"} or failed is not None:
        assert error is not None
        assert isinstance(failed, error)


@pytest.mark.parametrize("name", CAMS)
def test_more_targets_than_images_are_refused(tiny_net: Builder, name: str) -> None:
    """A list that does not fit the batch is an error, never cut or repeated."""
    method = method_of(name, tiny_net())
    for targets in ([0, 1, 2], [0], [[0, 1]]):
        with pytest.raises(InvalidTargetError, match="one target for each of 2 items"):
            method.explain(noise(2, 3, 8, 8), torch.tensor(targets))


# Modes, types and places


@pytest.mark.parametrize("name", CAMS)
def test_training_and_frozen_models_give_the_same_map(name: str) -> None:
    """Dropout and batch statistics play no part, whoever froze what."""
    inputs, targets = noise(2, 3, 10, 10), torch.tensor([0, 2])
    expected = method_of(name, Failing("nowhere").eval()).explain(inputs, targets)
    training = method_of(name, Failing("nowhere").train()).explain(inputs, targets)
    frozen = Failing("nowhere").eval().requires_grad_(False)
    assert torch.equal(training.maps, expected.maps)
    assert torch.equal(
        method_of(name, frozen).explain(inputs, targets).maps, expected.maps
    )
    assert not any(p.requires_grad for p in frozen.parameters())
    assert float(expected.maps.max()) > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", CAMS)
def test_works_where_the_caller_switched_gradients_off(
    tiny_net: Builder, name: str, mode: Callable[[], Any]
) -> None:
    """Under no_grad and inference_mode the maps have the same bits, and no graph."""
    inputs, method = noise(2, 3, 8, 8), method_of(name, tiny_net())
    expected = method.explain(inputs, None).maps
    with mode():
        result = method.explain(inputs + 0, None)
        assert torch.equal(result.maps, expected)
    assert not result.maps.requires_grad
    assert not result.logits.requires_grad
    leaf = inputs.clone().requires_grad_()
    result = method.explain(leaf, None)
    assert torch.equal(result.maps, expected)
    assert leaf.grad is None
    assert not result.maps.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CAMS)
def test_half_precision_models_give_float32_maps(
    tiny_net: Builder, name: str, dtype: torch.dtype
) -> None:
    """Maps of a half-precision network are float32, finite and near the full ones."""
    inputs, targets = noise(2, 3, 16, 16), torch.tensor([[0, 1], [2, 3]])
    full = method_of(name, tiny_net()).explain(inputs, targets)
    half = method_of(name, tiny_net().to(dtype)).explain(inputs.to(dtype), targets)
    assert half.maps.dtype == half.logits.dtype == torch.float32
    assert bool(half.maps.isfinite().all())
    assert half.maps.shape == full.maps.shape
    scale = full.maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    error = ((half.maps - full.maps).abs() / scale).mean()
    assert float(error) < 0.1


@pytest.mark.parametrize("name", CAMS)
def test_a_map_of_one_place_is_refused(tiny_net: Builder, name: str) -> None:
    """A 1 x 1 feature map says nothing about where, and the sentence says so."""
    with pytest.raises(UnsupportedLayerError, match="a map of 1 x 1 places"):
        method_of(name, tiny_net()).explain(noise(1, 3, 2, 2), None)


@pytest.mark.parametrize("name", CAMS)
def test_a_layer_called_twice_is_tapped_at_its_last_call(name: str) -> None:
    """A module used twice gives the map that two modules in its place give."""
    inputs, maps = noise(2, 3, 9, 12), []
    for shared in (True, False):
        torch.manual_seed(0)
        act = nn.ReLU(inplace=True)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            act,
            nn.Conv2d(4, 4, 3, padding=1),
            act if shared else nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        )
        layer = resolve_layer(model, "1" if shared else "3", inputs)
        assert layer.calls == 1 + shared
        method = create_method(name, model, layer)
        maps.append(method.explain(inputs, torch.tensor([0, 1])).maps)
    assert torch.equal(maps[0], maps[1])
    assert float(maps[0].max()) > 0


class Tokens:
    """A layout of one class token and then the places, (N, 1 + h * w, C)."""

    def fits(self, output: Tensor) -> bool:
        """Say whether the tensor is a row of tokens."""
        return output.ndim == 3

    def to_map(self, output: Tensor) -> Tensor:
        """Return the places as a map."""
        return output[:, 1:].transpose(1, 2).unflatten(2, (4, 6))

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """Return the map as tokens, with the class token of the other."""
        return torch.cat([like[:, :1], maps.flatten(2).transpose(1, 2)], dim=1)

    def in_words(self) -> str:
        """Return what is expected."""
        return "tokens"


class TokenNet(nn.Module):
    """A network whose one feature map passes by as a map and as tokens."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.stem = nn.Conv2d(3, 5, 3, padding=1, stride=2)
        self.as_map = nn.ReLU()
        self.as_tokens = nn.Identity()
        self.head = nn.Linear(5, 3)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.5, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits; the class token shifts them."""
        tokens = self.as_map(self.stem(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.ones_like(tokens[:, :1]), tokens], dim=1)
        tokens = self.as_tokens(tokens)
        return self.head(tokens[:, 1:].mean(dim=1) + tokens[:, 0])


@pytest.mark.parametrize("name", [name for name in CAMS if name != "cam"])
def test_a_layer_of_tokens_gives_the_map_of_its_places(name: str) -> None:
    """Whatever layout a layer has, the map is that of the same values as a map."""
    model, inputs = TokenNet(), noise(2, 3, 8, 12)
    tokens = TappedLayer("as_tokens", model.as_tokens, "test", layout=Tokens())
    targets = torch.tensor([[0, 1], [2, 0]])
    ours = create_method(name, model, tokens).explain(inputs, targets)
    expected = method_of(name, model, "as_map").explain(inputs, targets)
    assert torch.allclose(ours.maps, expected.maps, rtol=1e-4, atol=1e-6)
    assert float(ours.maps.max()) > 0


# Batches


@pytest.mark.parametrize("name", CAMS)
def test_an_item_does_not_depend_on_its_place_or_neighbours(
    tiny_net: Builder, name: str
) -> None:
    """At one batch shape, the same item has the same bits wherever it stands."""
    method, targets = method_of(name, tiny_net()), torch.tensor([0, 1, 2, 3])
    first, others = noise(4, 3, 12, 20), noise(4, 3, 12, 20, seed=1)
    expected = method.explain(first, targets)
    order = [2, 0, 3, 1]
    moved = method.explain(first[order], targets[order])
    assert torch.equal(moved.maps, expected.maps[order])
    others[1] = first[1]
    assert torch.equal(method.explain(others, targets).maps[1], expected.maps[1])
    assert expected.maps.shape[0] == 4
    for item in range(4):
        alone = method.explain(first[item : item + 1], targets[item : item + 1])
        assert torch.allclose(alone.maps[0], expected.maps[item], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CAMS)
def test_several_targets_give_what_each_gives_alone(
    tiny_net: Builder, name: str
) -> None:
    """Targets that share a forward pass have the bits of single runs."""
    method, inputs = method_of(name, tiny_net()), noise(2, 3, 8, 12)
    table = torch.tensor([[0, 1, 3], [2, 2, 0]])
    together = method.explain(inputs, table)
    assert torch.equal(together.targets, table)
    for column in range(3):
        alone = method.explain(inputs, table[:, column])
        assert torch.equal(together.maps[:, column], alone.maps)
        assert torch.equal(together.zero_gradient[:, column], alone.zero_gradient)
        assert torch.equal(together.logits, alone.logits)


@pytest.mark.parametrize("name", CAMS)
def test_without_targets_the_predicted_class_is_explained(
    tiny_net: Builder, name: str
) -> None:
    """The class is that of the same forward pass, and the logits are the model's."""
    model, inputs = tiny_net(), noise(3, 3, 8, 8)
    method = method_of(name, model)
    predicted = method.explain(inputs, None)
    with torch.no_grad():
        assert torch.equal(predicted.logits, model(inputs))
    assert torch.equal(predicted.targets, predicted.logits.argmax(dim=1))
    given = method.explain(inputs, predicted.targets)
    assert torch.equal(given.maps, predicted.maps)


# The device's queue


@pytest.fixture
def meta_net(tiny_net: Builder) -> nn.Module:
    """A network without values: whoever looks at one gets an error."""
    return tiny_net().to("meta")


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", [*GRADIENT_CAMS, "guided_gradcam", "scorecam"])
def test_nothing_waits_for_the_device(
    meta_net: nn.Module, name: str, several: bool
) -> None:
    """From the image to the mask no value is read, so that a GPU's queue never stops.

    On the meta device tensors have no values, and reading one raises.
    """
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.zeros((), device="meta"))
    targets = torch.tensor([[0, 1], [2, 3]] if several else [0, 3])
    inputs = torch.zeros(2, 3, 16, 16, device="meta")
    for wanted in (targets, None):
        result = method_of(name, meta_net).explain(inputs, wanted)
        maps = result.maps.flatten(0, -3)
        large = upsample(dequantise(quantise(maps)), (16, 16))
        masks = FixedKeep(0.1).apply(large)
        assert masks.mask.shape == (len(maps), 16, 16)
        assert masks.mask.device.type == "meta"
