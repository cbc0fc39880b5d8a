# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM: equal to its oracles, closed forms, and without side effects."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.errors import (
    InvalidInputError,
    InvalidTargetError,
    UnknownNameError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)
from explain.frozen import frozen
from explain.kinds import IMAGE
from explain.maps import upsample
from explain.methods import METHODS, create_method, resolve_tap
from explain.methods.split_forward import split_forward

Builder = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    """A ResNet-18 with seeded weights."""
    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).eval()


def images(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator)


def gradcam(
    model: nn.Module, layer: str = "auto", example: Tensor | None = None
) -> Any:
    """Return our Grad-CAM at the layer."""
    return create_method("gradcam", model, resolve_layer(model, layer, example))


def relative_error(ours: Tensor, oracle: Tensor) -> float:
    """Return the largest difference over the largest oracle value."""
    return float((ours - oracle).abs().max() / oracle.abs().max())


# Oracles


@pytest.mark.parametrize(
    "layer",
    ["layer4", "layer4.1.bn1", "layer4.0.bn2", "layer3.1.conv2", "layer2", "bn1"],
)
def test_equals_captum_on_resnet(
    resnet18: nn.Module, captum_gradcam: Callable[..., Tensor], layer: str
) -> None:
    """R1: raw maps equal captum's, also where an in-place ReLU follows the layer."""
    inputs, targets = images(3), torch.tensor([5, 900, 31])
    ours = gradcam(resnet18, layer).explain(inputs, targets).maps
    oracle = captum_gradcam(resnet18, resnet18.get_submodule(layer), inputs, targets)
    assert relative_error(ours, oracle) < 1e-6


def test_equals_pytorch_grad_cam(
    resnet18: nn.Module, peer_gradcam: Callable[..., Any]
) -> None:
    """R2: normalised and upsampled as that library does, the maps agree."""
    inputs, targets = images(3), torch.tensor([5, 900, 31])
    ours = gradcam(resnet18).explain(inputs, targets).maps
    oracle = peer_gradcam(resnet18, resnet18.layer4, inputs, targets.tolist())
    resized = minmax(upsample(minmax(ours), (64, 64)))
    assert np.abs(resized.numpy() - oracle).max() < 2e-6


def minmax(maps: Tensor) -> Tensor:
    """Return each map scaled to [0, 1]."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


def test_equals_the_closed_form(tiny_net: Builder) -> None:
    """R5: with pooling and a linear head the map is the class activation map / hw."""
    model = tiny_net()
    inputs, targets = images(4, 10, 14), torch.tensor([0, 1, 2, 3])
    ours = gradcam(model, "body", inputs).explain(inputs, targets)
    with torch.no_grad():
        features = model.body(torch.relu(model.stem(inputs)))
    weighted = torch.einsum("nk,nkhw->nhw", model.head.weight[targets], features)
    places = features.shape[2] * features.shape[3]
    expected = torch.relu(weighted).detach() / places
    assert ours.maps.shape == (4, 5, 7)
    assert torch.allclose(ours.maps, expected, atol=1e-6)
    assert expected.max() > 0


def test_equals_a_slow_float64_gradient(tiny_net: Builder) -> None:
    """The definition, differentiated through the whole graph in float64, agrees."""
    model = tiny_net(seed=5).double()
    inputs, target = images(1, 9, 9).double(), 2
    features = model.body[0](torch.relu(model.stem(inputs)))
    features.retain_grad()
    logits = model.head(model.pool(torch.relu(features)).flatten(1))
    logits[0, target].backward()
    weights = [float(features.grad[0, k].mean()) for k in range(features.shape[1])]
    expected = sum(w * features[0, k] for k, w in enumerate(weights)).clamp(min=0)
    ours = gradcam(tiny_net(seed=5), "body.0", images(1, 9, 9))
    maps = ours.explain(images(1, 9, 9), torch.tensor([target])).maps
    assert torch.allclose(maps[0].double(), expected.detach(), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv", [[14.5, 19.0], [32.5, 37.0]]),
        ("relu", [[4.0, 13.0], [32.5, 37.0]]),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_gives_the_constants_worked_out_by_hand(
    layer: str, expected: list[list[float]], inplace: bool
) -> None:
    """R6: channel weights are 1 and -1/2; before the ReLU negatives take part."""
    model = by_hand(inplace=inplace)
    inputs = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    method = gradcam(model, layer, inputs)
    maps = method.explain(inputs, torch.tensor([0])).maps
    assert maps.tolist() == [expected]


def by_hand(*, inplace: bool) -> nn.Sequential:
    """Return a network whose gradients are +1 five times, then -1 three times.

    On 1 .. 16 the convolution gives 4, 13, 40, 49 and -21, -12, 15, 24.
    """
    conv, linear = nn.Conv2d(1, 2, 3), nn.Linear(8, 2)
    conv.weight.data.fill_(1.0)
    conv.bias.data.copy_(torch.tensor([-50.0, -75.0]))
    linear.weight.data.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3).expand(2, 8))
    linear.bias.data.zero_()
    model = nn.Sequential()
    model.add_module("conv", conv)
    model.add_module("relu", nn.ReLU(inplace=inplace))
    model.add_module("flat", nn.Flatten())
    model.add_module("linear", linear)
    return model


def test_in_place_relu_does_not_change_the_answer(resnet18: nn.Module) -> None:
    """The same map comes out whether the ReLU after the layer works in place or not."""
    inputs, targets = images(2), torch.tensor([1, 2])
    with_inplace = gradcam(resnet18, "layer4.1.bn1").explain(inputs, targets).maps
    relus = [m for m in resnet18.modules() if isinstance(m, nn.ReLU)]
    for relu in relus:
        relu.inplace = False
    try:
        without = gradcam(resnet18, "layer4.1.bn1").explain(inputs, targets).maps
    finally:
        for relu in relus:
            relu.inplace = True
    assert torch.equal(with_inplace, without)
    assert with_inplace.max() > 0


# The real network


def test_explains_the_cat_by_the_cat(lite0: nn.Module, chelsea: Tensor) -> None:
    """On a photograph of a cat, the pretrained network sees a cat, and shows where."""
    result = gradcam(lite0).explain(chelsea, None)
    assert int(result.targets[0]) in {281, 282, 285}  # tabby, tiger, Egyptian cat
    assert result.maps.shape == (1, 7, 7)
    features: list[Tensor] = []
    hook = lite0._swish.register_forward_hook(lambda *args: features.append(args[2]))
    with torch.no_grad():
        logits = lite0(chelsea)
    hook.remove()
    assert torch.equal(result.logits, logits)
    # Pooling and a linear head again: the closed form holds on the real network.
    weights = lite0._fc.weight[result.targets[0]]
    expected = torch.relu((weights[:, None, None] * features[-1][0]).sum(0)) / 49
    assert torch.allclose(result.maps[0], expected.detach(), atol=1e-6)
    assert not bool(result.zero_gradient[0])


def test_equals_captum_on_the_real_network(
    lite0: nn.Module, chelsea: Tensor, captum_gradcam: Callable[..., Tensor]
) -> None:
    """R1 with pretrained weights, before the shared activation."""
    targets = torch.tensor([285])
    ours = gradcam(lite0, "_bn1").explain(chelsea, targets).maps
    oracle = captum_gradcam(lite0, lite0._bn1, chelsea, targets)
    assert relative_error(ours, oracle) < 1e-5


# Targets


def test_without_targets_the_predicted_class_is_explained(resnet18: nn.Module) -> None:
    """The class is that of the same forward pass, and the map is that class's map."""
    method, inputs = gradcam(resnet18), images(3)
    predicted = method.explain(inputs, None)
    assert torch.equal(predicted.targets, predicted.logits.argmax(dim=1))
    given = method.explain(inputs, predicted.targets)
    assert torch.equal(given.maps, predicted.maps)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 4], "Target class 4 is out of range: the model has classes 0 to 3"),
        ([-1, 0], "Target class -1 is out of range"),
        ([0], "Expected one target for each of 2 items"),
        ([[0, 1]], "Expected one target for each of 2 items"),
        ([[[0]], [[1]]], "Expected one target for each of 2 items"),
        ([0.0, 1.0], "Expected whole-number target classes"),
    ],
)
def test_a_wrong_target_is_refused(
    tiny_net: Builder, targets: list[Any], message: str
) -> None:
    """A target that the model cannot have is an error, never a wrapped index."""
    inputs = images(2, 8, 8)
    method = gradcam(tiny_net(), "body", inputs)
    with pytest.raises(InvalidTargetError, match=message):
        method.explain(inputs, torch.tensor(targets))


def test_small_integer_targets_are_taken(tiny_net: Builder) -> None:
    """Targets of any whole-number type are widened."""
    inputs = images(2, 8, 8)
    method = gradcam(tiny_net(), "body", inputs)
    result = method.explain(inputs, torch.tensor([3, 0], dtype=torch.uint8))
    assert result.targets.tolist() == [3, 0]
    assert result.targets.dtype == torch.int64


# No side effects


def trained_state(model: nn.Module) -> list[Any]:
    """Return everything of the model that an explanation must not change."""
    return [
        [
            (m.training, len(m._forward_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [buffer.clone() for buffer in model.buffers()],
    ]


def backend_flags() -> list[bool]:
    """Return the process-wide switches that an engine might be tempted to set."""
    return [
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
    ]


class Failing(nn.Module):
    """A network that fails in its head, in its tapped layer, or not at all."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, or raise where told to."""
        features = self.norm(self.conv(inputs))
        if self.where == "head":
            raise ArithmeticError("head")
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits.detach() if self.where == "gradient" else logits


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("head", ArithmeticError),
        ("gradient", ZeroGradientLayerError),
        ("target", InvalidTargetError),
        ("nowhere", None),
    ],
)
def test_nothing_of_the_model_changes(
    where: str, error: type[Exception] | None
) -> None:
    """Hooks, modes, requires_grad, gradients, statistics and flags are restored."""
    model = Failing(where)
    model.train()
    model.norm.eval()
    model.conv.bias.requires_grad_(False)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    before, flags = trained_state(model), backend_flags()
    method = create_method("gradcam", model, TappedLayer("conv", model.conv, "test"))
    targets = torch.tensor([9, 9] if where == "target" else [0, 1])
    if error is None:
        method.explain(images(2, 8, 8), targets)
    else:
        with pytest.raises(error):
            method.explain(images(2, 8, 8), targets)
    after = trained_state(model)
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(after[2], before[2], strict=True))
    assert bool((model.conv.weight.grad == 1).all())
    assert backend_flags() == flags


def test_a_training_model_is_explained_in_eval_mode() -> None:
    """Dropout and batch statistics play no part, and training goes on afterwards."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.9),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    inputs = images(2, 8, 8)
    model.eval()
    expected = gradcam(model, "1", inputs).explain(inputs, None)
    model.train()
    ours = gradcam(model, "1", inputs).explain(inputs, None)
    assert torch.equal(ours.maps, expected.maps)
    assert model.training
    assert model[2].training


def test_inputs_keep_their_gradient_state(tiny_net: Builder) -> None:
    """Inputs that need a gradient get none, and the answer is the same."""
    inputs = images(2, 8, 8)
    method = gradcam(tiny_net(), "body", inputs)
    expected = method.explain(inputs, None).maps
    leaf = inputs.clone().requires_grad_()
    assert torch.equal(method.explain(leaf, None).maps, expected)
    assert leaf.grad is None
    assert leaf.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_switched_gradients_off(
    tiny_net: Builder, mode: Callable[[], Any]
) -> None:
    """A caller's no_grad or inference_mode does not blank the maps."""
    inputs = images(2, 8, 8)
    method = gradcam(tiny_net(), "body", inputs)
    expected = method.explain(inputs, None).maps
    with mode():
        ours = method.explain(inputs + 0, None)
        assert torch.equal(ours.maps, expected)
    assert not ours.maps.requires_grad
    assert not ours.logits.requires_grad


def test_already_frozen_parameters_are_no_obstacle(tiny_net: Builder) -> None:
    """A model that its owner froze gives the same maps and stays frozen."""
    model, inputs = tiny_net(), images(2, 8, 8)
    expected = gradcam(model, "body", inputs).explain(inputs, None).maps
    model.requires_grad_(False)
    assert torch.equal(
        gradcam(model, "body", inputs).explain(inputs, None).maps, expected
    )
    assert not any(p.requires_grad for p in model.parameters())


def test_the_trunk_keeps_no_graph(resnet18: nn.Module) -> None:
    """Nothing before the tapped layer takes part in a graph; what follows does."""
    needs_gradient: dict[str, bool] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            needs_gradient[name] = output.requires_grad

        return hook

    hooks = [
        resnet18.get_submodule(name).register_forward_hook(note(name))
        for name in ("conv1", "layer2", "layer3", "layer4", "fc")
    ]
    with frozen(resnet18):
        forward = split_forward(resnet18, resolve_layer(resnet18, "layer3"), images(1))
    for hook in hooks:
        hook.remove()
    assert needs_gradient == {
        "conv1": False,
        "layer2": False,
        "layer3": False,
        "layer4": True,
        "fc": True,
    }
    assert forward.activation.is_leaf


# Batches


def test_an_item_does_not_depend_on_its_neighbours(resnet18: nn.Module) -> None:
    """At one batch shape and position, other neighbours leave the same bits."""
    first, second = images(4, seed=1), images(4, seed=2)
    second[2] = first[2]
    method, targets = gradcam(resnet18), torch.tensor([1, 2, 3, 4])
    ours, others = method.explain(first, targets), method.explain(second, targets)
    assert torch.equal(ours.maps[2], others.maps[2])
    assert torch.equal(ours.logits[2], others.logits[2])
    assert not torch.equal(ours.maps[1], others.maps[1])


def test_one_item_agrees_with_its_batch(resnet18: nn.Module) -> None:
    """A batch of one gives the map of the batch up to rounding."""
    method, inputs = gradcam(resnet18), images(3)
    targets = torch.tensor([10, 20, 30])
    together = method.explain(inputs, targets).maps
    alone = [
        method.explain(inputs[item : item + 1], targets[item : item + 1]).maps
        for item in range(3)
    ]
    assert relative_error(torch.cat(alone), together) < 1e-5


def test_images_need_not_be_square(resnet18: nn.Module) -> None:
    """The map follows the aspect of the image."""
    assert gradcam(resnet18).explain(images(1, 96, 160), None).maps.shape == (1, 3, 5)


def test_holding_the_model_over_batches_changes_nothing(tiny_net: Builder) -> None:
    """Maps are the same whether the model is held once or for each batch."""
    inputs = images(2, 8, 8)
    model = tiny_net()
    method = gradcam(model, "body", inputs)
    expected = method.explain(inputs, None).maps
    with frozen(model):
        for _ in range(3):
            assert torch.equal(method.explain(inputs, None).maps, expected)
        assert not model.stem.weight.requires_grad
    assert model.stem.weight.requires_grad


# Where the backward pass starts


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_picked_weights_give_the_bits_of_the_whole_product(
    name: str, dtype: torch.dtype, batch: int
) -> None:
    """Starting behind the last layer gives what starting at the logits gives."""
    torch.manual_seed(11)
    model = torchvision.models.get_model(name, weights=None).eval().to(dtype)
    inputs, targets = images(batch).to(dtype), torch.arange(batch) * 7
    layer = resolve_layer(model, "auto", inputs)
    with frozen(model):
        ours = split_forward(model, layer, inputs).gradient(targets)
        whole = split_forward(model, layer, inputs)
        (expected,) = torch.autograd.grad(
            whole.logits.gather(1, targets[:, None]).sum(), whole.root
        )
    assert torch.equal(ours, layer.layout.to_map(expected))
    assert float(ours.abs().max()) > 0


@pytest.mark.parametrize(
    "head",
    [
        lambda x, w, b: torch.addmm(b, x, w, alpha=3.0),
        lambda x, w, b: torch.addmm(b, x, w) * 3,
        lambda x, w, b: torch.log_softmax(torch.addmm(b, x, w), dim=1),
        lambda x, w, b: x @ w + 0 * b,
        lambda x, w, b: torch.addmm(b, x, w)[:, 1:3],
        lambda x, w, b: (w.t() @ x.t()).t() + b,
    ],
    ids=["scaled inside", "scaled behind", "softmax", "added bias", "slice", "turned"],
)
def test_other_ends_are_differentiated_whole(
    tiny_net: Builder, head: Callable[..., Tensor]
) -> None:
    """What comes behind the linear layer, or in its place, is part of the score."""

    class Ended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = tiny_net()

        def forward(self, x: Tensor) -> Tensor:
            net: Any = self.net
            pooled = net.pool(net.body(net.stem(x))).flatten(1)
            return head(pooled, net.head.weight.t(), net.head.bias)

    model, inputs, targets = Ended().eval(), images(2, 8, 8), torch.tensor([1, 0])
    layer = resolve_layer(model, "net.body", inputs)
    with frozen(model):
        ours = split_forward(model, layer, inputs).gradient(targets)
        whole = split_forward(model, layer, inputs)
        (expected,) = torch.autograd.grad(
            whole.logits.gather(1, targets[:, None]).sum(), whole.root
        )
    assert torch.equal(ours, expected)


# Precision


def test_reductions_are_float32_under_bfloat16(tiny_net: Builder) -> None:
    """Activations and gradients come in bfloat16; sums over them are float32."""
    model, inputs = tiny_net().bfloat16(), images(2, 16, 16).bfloat16()
    layer = resolve_layer(model, "body", inputs)
    targets = torch.tensor([1, 2])
    ours = create_method("gradcam", model, layer).explain(inputs, targets)
    with frozen(model):
        forward = split_forward(model, layer, inputs)
        gradient = forward.gradient(targets)
    assert gradient.dtype == torch.bfloat16
    weights = gradient.double().mean(dim=(2, 3), keepdim=True)
    activation = forward.activation.detach().double()
    expected = (weights * activation).sum(dim=1).clamp(min=0)
    assert ours.maps.dtype == ours.logits.dtype == torch.float32
    assert torch.allclose(ours.maps.double(), expected, rtol=1e-5, atol=1e-9)
    assert float(expected.max()) > 0


def test_autocast_of_the_caller_is_survived(tiny_net: Builder) -> None:
    """Under autocast the maps are float32 and close to the full-precision ones."""
    inputs = images(2, 16, 16)
    method, targets = gradcam(tiny_net(), "body", inputs), torch.tensor([0, 1])
    expected = method.explain(inputs, targets).maps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = method.explain(inputs, targets).maps
    assert ours.dtype == torch.float32
    assert relative_error(ours, expected) < 0.05


# What cannot be explained


def test_a_dead_head_is_flagged_not_drawn(tiny_net: Builder) -> None:
    """A class whose weights are zero has zero gradient, and the item says so."""
    model = tiny_net()
    model.head.weight.data[1].zero_()
    inputs = images(2, 8, 8)
    result = gradcam(model, "body", inputs).explain(inputs, torch.tensor([0, 1]))
    assert result.zero_gradient.tolist() == [False, True]
    assert float(result.maps[1].abs().max()) == 0


def test_a_layer_without_influence_is_refused() -> None:
    """A branch whose output is thrown away cannot explain anything."""

    class Ignored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(3, 4, 3)
            self.ignored = nn.Conv2d(3, 4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            self.ignored(inputs)
            return self.used(inputs).mean(dim=(2, 3))

    inputs = images(1, 8, 8)
    with pytest.raises(
        ZeroGradientLayerError, match="do not depend on layer 'ignored'"
    ):
        gradcam(Ignored(), "ignored", inputs).explain(inputs, None)


class Shared(nn.Module):
    """A network that uses one activation twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        features = self.act(self.second(self.act(self.first(inputs))))
        return self.head(features.mean(dim=(2, 3)))


def test_a_layer_called_twice_is_tapped_at_its_last_call() -> None:
    """The map is that of the last call, by the closed form of the head."""
    torch.manual_seed(0)
    model, inputs = Shared(), images(1, 8, 8)
    layer = resolve_layer(model, example=inputs)
    assert (layer.name, layer.calls) == ("act", 2)
    ours = create_method("gradcam", model, layer).explain(inputs, torch.tensor([1]))
    with torch.no_grad():
        features = model.act(model.second(model.act(model.first(inputs))))
        weights = model.head.weight[1][:, None, None]
        expected = torch.relu((weights * features[0]).sum(dim=0)) / 64
    assert torch.allclose(ours.maps[0], expected, atol=1e-7)


def test_another_number_of_calls_is_refused() -> None:
    """A layer that runs more often than when it was resolved is not trusted."""
    model, inputs = Shared(), images(1, 8, 8)
    layer = TappedLayer("act", model.act, "test", calls=3)
    with pytest.raises(UnsupportedLayerError, match=r"ran 2 times.*expected 3"):
        create_method("gradcam", model, layer).explain(inputs, None)
    assert not model.act._forward_hooks


def test_a_layer_overwritten_by_another_branch_is_refused() -> None:
    """An identity whose tensor a later in-place step changes has no one value."""

    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.same = nn.Identity()

        def forward(self, inputs: Tensor) -> Tensor:
            features = self.conv(inputs)
            tapped = self.same(features)
            features.mul_(2)
            return (tapped + features).mean(dim=(2, 3))

    model, inputs = Overwritten(), images(1, 8, 8)
    with pytest.raises(UnsupportedLayerError, match="overwritten in place"):
        gradcam(model, "same", inputs).explain(inputs, None)


def test_a_vector_output_of_the_layer_is_refused(tiny_net: Builder) -> None:
    """A tap on the head says what it needs, and its hook is gone afterwards."""
    model = tiny_net()
    layer = TappedLayer("head", model.head, "test")
    with pytest.raises(UnsupportedLayerError, match="expected a map"):
        create_method("gradcam", model, layer).explain(images(1, 8, 8), None)
    assert not model.head._forward_hooks


def test_a_model_without_logits_is_refused() -> None:
    """A map as the model's output is not a class score."""
    conv = nn.Conv2d(3, 4, 3)
    model = nn.Sequential(conv, nn.ReLU())
    method = create_method("gradcam", model, TappedLayer("0", conv, "test"))
    with pytest.raises(UnsupportedModelError, match=r"Expected class logits \(N, K\)"):
        method.explain(images(1, 8, 8), None)


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8)])
def test_what_is_no_batch_is_refused(tiny_net: Builder, shape: tuple[int, ...]) -> None:
    """A single image or an empty batch is an error, not a strange map."""
    method = gradcam(tiny_net(), "body", images(1, 8, 8))
    with pytest.raises(InvalidInputError, match="Expected a batch of images"):
        method.explain(torch.zeros(shape), None)


def test_nan_weights_give_nan_maps_not_numbers(tiny_net: Builder) -> None:
    """A broken network's maps cannot pass for numbers."""
    model = tiny_net()
    model.head.weight.data[0, 0] = torch.nan
    inputs = images(2, 8, 8)
    maps = gradcam(model, "body", inputs).explain(inputs, torch.tensor([0, 1])).maps
    assert bool(maps.isnan().all())


def test_an_unknown_method_names_the_nearest(tiny_net: Builder) -> None:
    """A misspelt name is answered with the right one."""
    model = tiny_net()
    with pytest.raises(UnknownNameError, match="Did you mean 'gradcam'"):
        create_method("gradcm", model, TappedLayer("body", model.body, "test"))


def test_every_method_has_a_card(tiny_net: Builder) -> None:
    """What can be created is described, under the same name."""
    net = tiny_net()
    transformer = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8,
        mlp_dim=8, num_classes=3,
    ).eval()  # fmt: skip
    # torchvision begins with zeros, which no gradient passes.
    nn.init.normal_(transformer.heads.head.weight)
    for name, card in METHODS.items():
        if IMAGE not in card.kinds:
            continue  # they take networks over other items, see the tests of those
        model = transformer if card.needs_attention else net
        tapped = resolve_tap(name, model, "auto", images(1, 32, 32))
        assert create_method(name, model, tapped).name == card.name == name
