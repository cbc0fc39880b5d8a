# SPDX-License-Identifier: Apache-2.0
"""The CAM family's rules: slow float64 definitions, closed forms, edge cases."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.errors import InvalidParameterError, UnsupportedModelError
from explain.frozen import frozen
from explain.methods import create_method
from explain.methods.cam import signed_cam
from explain.methods.eigencam import signed_eigencam
from explain.methods.hirescam import signed_hirescam
from explain.methods.split_forward import split_forward

Builder = Callable[..., nn.Module]
Maps = list[list[float]]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return seeded normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Curved(nn.Module):
    """A network whose head bends, so that gradients differ from place to place."""

    def __init__(self, *, inplace: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.second = nn.Conv2d(5, 4, 3)
        self.head = nn.Linear(4, 3)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.5, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.relu(self.first(images))
        return self.head(torch.tanh(self.second(features)).mean(dim=(2, 3)))


def whole_graph(model: Curved, inputs: Tensor, layer: str, target: int) -> Any:
    """Return activation and gradient of one item by the whole graph, float64 lists."""
    model, kept = model.double(), []
    model.relu.inplace = False

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = model.get_submodule(layer).register_forward_hook(keep)
    model(inputs.double())[0, target].backward()
    hook.remove()
    return kept[0][0].tolist(), kept[0].grad[0].tolist()


def slow_weight(name: str, activation: Maps, gradient: Maps) -> float:
    """Return one channel's weight by the paper's definition."""
    places = [(i, j) for i in range(len(gradient)) for j in range(len(gradient[0]))]
    mass = sum(activation[i][j] for i, j in places)
    weight = 0.0
    for i, j in places:
        g = gradient[i][j]
        if name == "gradcam":
            weight += g / len(places)
        elif name == "xgradcam" and mass != 0:
            weight += g * activation[i][j] / mass
        elif name == "gradcam_plus_plus" and g > 0:
            weight += g**2 / (2 * g**2 + mass * g**3 + 1e-6) * g
    return weight


def slow_map(name: str, activation: list[Maps], gradient: list[Maps]) -> Maps:
    """Return the paper's definition, place by place."""
    pairs = list(zip(activation, gradient, strict=True))
    weights = [slow_weight(name, a, g) for a, g in pairs]

    def value(i: int, j: int) -> float:
        if name == "hirescam":
            return sum(g[i][j] * a[i][j] for a, g in pairs)
        if name == "layercam":
            return sum(max(g[i][j], 0.0) * a[i][j] for a, g in pairs)
        return sum(w * a[i][j] for w, a in zip(weights, activation, strict=True))

    height, width = len(activation[0]), len(activation[0][0])
    return [[max(value(i, j), 0.0) for j in range(width)] for i in range(height)]


GRADIENT_METHODS = ["gradcam", "gradcam_plus_plus", "hirescam", "xgradcam", "layercam"]


@pytest.mark.parametrize("layer", ["first", "relu"])
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_equals_a_slow_float64_definition(name: str, layer: str) -> None:
    """Before and after the in-place ReLU, the map is the paper's, place by place."""
    inputs = noise(1, 3, 9, 13)
    model = Curved()
    ours = create_method(name, model, resolve_layer(model, layer, inputs))
    maps = ours.explain(inputs, torch.tensor([1])).maps
    activation, gradient = whole_graph(Curved(), inputs, layer, 1)
    expected = torch.tensor(slow_map(name, activation, gradient))
    assert maps.shape == (1, 5, 7)
    assert torch.allclose(maps[0], expected, rtol=1e-3, atol=1e-5)
    assert float(expected.max()) > 0.01


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_an_in_place_relu_after_the_layer_changes_nothing(name: str) -> None:
    """The map has the same bits whether the ReLU overwrites its input or not."""
    inputs, maps = noise(2, 3, 9, 9), []
    for inplace in (True, False):
        model = Curved(inplace=inplace)
        layer = resolve_layer(model, "first", inputs)
        method = create_method(name, model, layer)
        maps.append(method.explain(inputs, torch.tensor([0, 2])).maps)
    assert torch.equal(maps[0], maps[1])
    assert float(maps[0].max()) > 0


def test_four_methods_are_one_closed_form(tiny_net: Builder) -> None:
    """R5: with pooling and a linear head, Grad-CAM = HiResCAM = CAM / (HW)."""
    model, inputs = tiny_net(), noise(3, 3, 10, 14)
    layer = resolve_layer(model, "body", inputs)
    targets = torch.tensor([0, 1, 3])
    maps = {
        name: create_method(name, model, layer).explain(inputs, targets).maps
        for name in ("gradcam", "hirescam", "xgradcam", "cam")
    }
    for name in ("hirescam", "xgradcam"):
        assert torch.allclose(maps[name], maps["gradcam"], rtol=1e-5, atol=1e-7)
    assert torch.allclose(maps["cam"] / 35, maps["gradcam"], rtol=1e-5, atol=1e-7)
    assert float(maps["cam"].max()) > 0


def test_signed_hirescam_sums_to_the_logit_without_its_bias(tiny_net: Builder) -> None:
    """R5: in float64 the evidence for and against adds up to the score."""
    model, inputs = tiny_net().double(), noise(4, 3, 10, 14).double()
    targets = torch.tensor([0, 1, 2, 3])
    layer = TappedLayer("body", model.body, "test")
    with frozen(model):
        forward = split_forward(model, layer, inputs)
        signed = signed_hirescam(forward.activation, forward.gradient(targets))
    logits = forward.logits.detach().gather(1, targets[:, None])[:, 0]
    expected = logits - model.head.bias.detach()[targets]
    assert torch.allclose(signed.sum(dim=(1, 2)), expected, rtol=0, atol=1e-13)
    weighted = signed_cam(forward.activation, model.head.weight.detach()[targets])
    assert torch.allclose(weighted / 35, signed, rtol=0, atol=1e-13)
    assert float(signed.min()) < 0 < float(signed.max())


# Grad-CAM++


def test_grad_cam_plus_plus_divides_by_the_denominator() -> None:
    """One channel worked out by hand; a known fault elsewhere leaves it undivided."""
    activation = torch.tensor([[[[1.0, 3.0]]]])
    gradient = torch.tensor([[[[2.0, -1.0]]]])
    method = create_method(
        "gradcam_plus_plus", nn.Identity(), tapped(nn.Identity()), epsilon=0.0
    )
    # alpha = 4 / (2 * 4 + 4 * 8) = 0.1 where the gradient is positive; w = 0.2.
    maps = method.rule(activation, gradient)
    assert torch.allclose(maps, torch.tensor([[[0.2, 0.6]]]))


def tapped(module: nn.Module) -> TappedLayer:
    """Return a layer for rules that never run it."""
    return TappedLayer("x", module, "test")


def test_grad_cam_plus_plus_without_epsilon_does_not_underflow() -> None:
    """Gradients whose square is no float32 still weigh by half, as the limit has it."""
    activation, gradient = torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 2), 1e-30)
    layer = tapped(nn.Identity())
    exact = create_method("gradcam_plus_plus", nn.Identity(), layer, epsilon=0.0)
    assert torch.allclose(exact.rule(activation, gradient) * 1e30, torch.ones(1, 1, 2))
    usual = create_method("gradcam_plus_plus", nn.Identity(), layer)
    assert usual.rule(activation, gradient).tolist() == [[[0.0, 0.0]]]


def test_grad_cam_plus_plus_survives_its_singularity() -> None:
    """A negative gradient whose denominator is zero weighs nothing, it is not 0/0."""
    activation = torch.tensor([[[[1.0, 1.0]]]])
    gradient = torch.tensor([[[[-1.0, 1.0]]]])
    method = create_method(
        "gradcam_plus_plus", nn.Identity(), tapped(nn.Identity()), epsilon=0.0
    )
    assert torch.allclose(
        method.rule(activation, gradient), torch.full((1, 1, 2), 0.25)
    )


def test_a_negative_epsilon_is_refused(tiny_net: Builder) -> None:
    """The parameter is checked against its card."""
    model = tiny_net()
    with pytest.raises(InvalidParameterError, match="epsilon"):
        create_method("gradcam_plus_plus", model, tapped(model.body), epsilon=-1.0)


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_nan_gradients_stay_nan(name: str) -> None:
    """What is no number never turns into one, and zero gradients draw nothing."""
    method: Any = create_method(name, nn.Identity(), tapped(nn.Identity()))
    activation = torch.ones(1, 2, 2, 2)
    assert bool(method.rule(activation, activation * torch.nan).isnan().all())
    blank = method.rule(activation, torch.zeros_like(activation))
    assert float(blank.abs().max()) == 0


def test_xgradcam_gives_a_channel_without_mass_no_weight() -> None:
    """Activation that sums to zero has no weighted mean; the others stay exact."""
    activation = torch.tensor([[[[0.0, 0.0]], [[1.0, 3.0]]]])
    gradient = torch.tensor([[[[5.0, 5.0]], [[1.0, 2.0]]]])
    method: Any = create_method("xgradcam", nn.Identity(), tapped(nn.Identity()))
    maps = method.rule(activation, gradient)
    assert torch.allclose(maps, torch.tensor([[[1.75, 5.25]]]))
    assert torch.allclose(method.rule(activation * 1e-12, gradient) * 1e12, maps)


# Eigen-CAM


@pytest.mark.parametrize("shape", [(3, 8, 3, 4), (3, 4, 5, 6), (1, 2, 1, 2)])
def test_eigencam_is_the_first_singular_vector(shape: tuple[int, ...]) -> None:
    """Whichever Gram matrix is smaller, the projection is the SVD's up to sign."""
    activation = noise(*shape).double()
    ours = signed_eigencam(activation)
    for item in range(shape[0]):
        matrix = activation[item].flatten(1).T
        matrix = matrix - matrix.mean(dim=0)
        left, values, _ = torch.linalg.svd(matrix, full_matrices=False)
        expected = (left[:, 0] * values[0]).view(shape[2:])
        same = torch.allclose(ours[item], expected, atol=1e-9)
        assert same or torch.allclose(ours[item], -expected, atol=1e-9)


def test_eigencam_agrees_with_the_activation(tiny_net: Builder) -> None:
    """The sign is fixed: where more is active is positive, however it is decomposed."""
    activation = torch.zeros(1, 3, 4, 4)
    activation[0, :, 1:3, 1:3] = torch.tensor([3.0, 1.0, 2.0])[:, None, None]
    signed = signed_eigencam(activation)[0]
    assert bool((signed[1:3, 1:3] > 0).all())
    assert float(signed[0].max()) < 0
    assert torch.allclose(signed_eigencam(-activation)[0], signed)
    model, inputs = tiny_net(), noise(2, 3, 12, 12)
    result = create_method("eigencam", model, tapped(model.body)).explain(inputs, None)
    assert float(result.maps.min()) == 0 < float(result.maps.max())


def test_eigencam_is_the_same_for_every_class(tiny_net: Builder) -> None:
    """The class plays no part, and targets are still checked and reported."""
    model, inputs = tiny_net(), noise(2, 3, 12, 12)
    method = create_method("eigencam", model, tapped(model.body))
    result = method.explain(inputs, torch.tensor([[0, 1], [2, 3]]))
    assert result.maps.shape == (2, 2, 6, 6)
    assert torch.equal(result.maps[:, 0], result.maps[:, 1])
    assert result.zero_gradient.tolist() == [[False, False], [False, False]]


def test_eigencam_keeps_one_bad_item_from_the_others() -> None:
    """NaN and constant activations are blank or NaN, and spoil no neighbour."""
    good = noise(1, 4, 3, 3)
    constant = torch.full((1, 4, 3, 3), 0.1)
    broken = good.clone()
    broken[0, 0, 0, 0] = torch.nan
    together = signed_eigencam(torch.cat([constant, good, broken]))
    assert float(together[0].abs().max()) == 0
    assert torch.equal(together[1:2], signed_eigencam(good))
    assert bool(together[2].isnan().all())


# CAM


class FullyConvolutional(nn.Module):
    """A network whose head is a 1 x 1 convolution before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.body = nn.Conv2d(3, 6, 3)
        self.relu = nn.ReLU()
        self.other = nn.Linear(6, 4)
        self.head = nn.Conv2d(6, 4, 1, bias=False)
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.4, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.relu(self.body(images))).mean(dim=(2, 3))


def test_cam_finds_a_convolutional_head() -> None:
    """A 1 x 1 convolution is the same linear head, and another layer is not taken."""
    model, inputs = FullyConvolutional(), noise(2, 3, 8, 8)
    method = create_method("cam", model, tapped(model.relu))
    result = method.explain(inputs, torch.tensor([[1, 2], [3, 3]]))
    features = torch.relu(model.body(inputs)).detach()
    weights = model.head.weight.detach()[result.targets, :, 0, 0]
    expected = torch.einsum("ntk,nkhw->nthw", weights, features).clamp(min=0)
    assert torch.allclose(result.maps, expected, atol=1e-6)
    assert float(expected.max()) > 0
    with pytest.raises(UnsupportedModelError, match="not a linear layer of the mean"):
        create_method("cam", model, tapped(model.body)).explain(inputs, None)


def test_cam_refuses_what_is_not_pooling_and_a_linear_head() -> None:
    """A head that bends has no closed form, and the sentence names what to do."""
    model = Curved()
    with pytest.raises(UnsupportedModelError, match=r"not a linear layer.*'gradcam'"):
        create_method("cam", model, tapped(model.relu)).explain(noise(1, 3, 9, 9), None)


def test_cam_flags_a_class_without_weights(tiny_net: Builder) -> None:
    """Zero weights draw a blank map that says so; a NaN image leaves others alone."""
    model, inputs = tiny_net(), noise(3, 3, 8, 8)
    model.head.weight.data[1].zero_()
    inputs[2, 0, 0, 0] = torch.nan
    method = create_method("cam", model, tapped(model.body))
    result = method.explain(inputs, torch.tensor([0, 1, 0]))
    assert result.zero_gradient.tolist() == [False, True, False]
    assert float(result.maps[1].abs().max()) == 0
    assert bool(result.maps[2].isnan().any())
    assert bool(result.maps[:2].isfinite().all())


# Guided Grad-CAM


def test_guided_grad_cam_is_the_product_of_its_factors(tiny_net: Builder) -> None:
    """Each factor by its own method, multiplied at the input's size."""
    model, inputs = tiny_net(), noise(2, 3, 8, 12)
    targets = torch.tensor([[0, 1], [2, 3]])
    layer = tapped(model.body)
    ours = create_method("guided_gradcam", model, layer).explain(inputs, targets)
    coarse = create_method("gradcam", model, layer).explain(inputs, targets)
    fine = create_method("guided_backprop", model).explain(inputs, targets)
    large = nn.functional.interpolate(coarse.maps, size=(8, 12), mode="bilinear")
    assert ours.maps.shape == (2, 2, 8, 12)
    assert torch.allclose(ours.maps, large * fine.maps, atol=1e-7)
    assert float(ours.maps.max()) > 0
