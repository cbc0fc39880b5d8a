# SPDX-License-Identifier: Apache-2.0
"""Input gradient, guided backpropagation, SmoothGrad and integrated gradients."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import UnsupportedModelError
from explain.methods import create_method
from explain.methods.guided_backprop import guided_gradient
from explain.methods.integrated_gradients import quadrature

Builder = Callable[..., nn.Module]


def images(count: int, height: int = 12, width: int = 16, seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture(scope="module")
def captum_attr() -> Any:
    """The attribution methods of captum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum import attr
    return attr


def module_net(*, inplace: bool = False) -> nn.Sequential:
    """Return a network whose ReLUs are all modules of their own, as captum needs."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 8),
        nn.ReLU(inplace=inplace),
        nn.Linear(8, 4),
    )


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, height: int = 12, width: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(
            torch.randn(4, 3, height, width, generator=generator)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return w . x + 1 of each class."""
        return torch.einsum("nchw,kchw->nk", inputs, self.weight) + 1


# Input gradient


def test_input_gradient_equals_captum(captum_attr: Any) -> None:
    """Captum's saliency, reduced by its maximum over channels, is the same map."""
    model, inputs, targets = module_net(), images(3), torch.tensor([0, 3, 2])
    ours = create_method("input_gradient", model).explain(inputs, targets)
    oracle = captum_attr.Saliency(model).attribute(
        inputs.clone().requires_grad_(), target=targets
    )
    assert ours.maps.shape == (3, 12, 16)
    assert torch.allclose(ours.maps, oracle.amax(dim=1), rtol=1e-6, atol=1e-9)


def test_input_gradient_of_a_linear_model_is_its_weights() -> None:
    """In closed form the map is the weights' largest magnitude, whatever the input."""
    model = Linear()
    result = create_method("input_gradient", model).explain(images(2), None)
    expected = model.weight.detach().abs().amax(dim=1)[result.targets]
    assert torch.equal(result.maps, expected)


# Guided backpropagation


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_gradient_equals_captum(captum_attr: Any, inplace: bool) -> None:
    """The guided gradient is captum's, also where the ReLUs work in place."""
    inputs, targets = images(3), torch.tensor([1, 0, 3])
    ours = guided_gradient(module_net(inplace=inplace), inputs, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = captum_attr.GuidedBackprop(module_net()).attribute(
            inputs.clone().requires_grad_(), target=targets
        )
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, oracle.detach(), rtol=1e-5, atol=1e-9)
    assert float(ours.abs().max()) > 0
    maps = create_method("guided_backprop", module_net()).explain(inputs, targets).maps
    assert torch.allclose(maps, ours.abs().amax(dim=1), rtol=1e-6, atol=1e-9)


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": functional.relu,
    "F.relu in place": lambda x: functional.relu(x, inplace=True),
    "F.relu_": functional.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "module": nn.ReLU(),
    "in place, result dropped": lambda x: (x.relu_(), x)[1],
}


@pytest.mark.parametrize("name", RELUS)
def test_every_way_to_write_a_relu_is_guided(name: str) -> None:
    """Y = 2 relu(x0) - 3 relu(x1): only the positive path passes, where x0 > 0."""

    class Net(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            active = RELUS[name](inputs.flatten(1) * 1)
            return active @ torch.tensor([[2.0, -2.0], [-3.0, 3.0]])

    inputs = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])[:, None, None]
    gradient = guided_gradient(Net(), inputs, torch.tensor([0, 0, 0]))
    assert gradient.flatten(1).tolist() == [[2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    other = guided_gradient(Net(), inputs, torch.tensor([1, 1, 1]))
    assert other.flatten(1).tolist() == [[0.0, 3.0], [0.0, 3.0], [0.0, 0.0]]


@pytest.mark.parametrize("activation", [nn.ReLU6(), functional.relu6])
def test_a_clipped_relu_is_guided_below_its_ceiling(
    activation: Callable[[Tensor], Tensor],
) -> None:
    """ReLU6 (MobileNetV2, EfficientNet-Lite) passes between 0 and 6 alone."""

    class Net(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            active = activation(inputs.flatten(1))
            return torch.stack([active.sum(dim=1), -active.sum(dim=1)], dim=1)

    inputs = torch.tensor([[-1.0, 3.0, 7.0]])[:, None, None]
    gradient = guided_gradient(Net(), inputs, torch.tensor([0]))
    assert gradient.flatten().tolist() == [0.0, 1.0, 0.0]
    blank = create_method("guided_backprop", Net()).explain(inputs, torch.tensor([1]))
    assert blank.maps.tolist() == [[[0.0, 0.0, 0.0]]]
    assert blank.zero_gradient.tolist() == [True]


def test_guiding_does_not_change_the_forward_pass(tiny_net: Builder) -> None:
    """The logits are those of the plain forward pass, bit for bit."""
    model, inputs = tiny_net(), images(2)
    result = create_method("guided_backprop", model).explain(inputs, None)
    with torch.no_grad():
        assert torch.equal(result.logits, model(inputs))


def test_a_model_without_relu_cannot_be_guided() -> None:
    """Other activations are refused in one sentence that names the way out."""
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(280, 2)
    )
    with pytest.raises(UnsupportedModelError, match="defined for ReLU alone"):
        guided_gradient(model, images(1), torch.tensor([0]))


def test_relu_is_an_ordinary_relu_again_after_a_failure() -> None:
    """A forward pass that raises leaves no guided ReLU behind."""

    class Broken(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            inputs.relu()
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        guided_gradient(Broken(), images(1), torch.tensor([0]))
    x = torch.ones(1, requires_grad=True)
    (gradient,) = torch.autograd.grad(-x.relu().sum(), x)
    assert gradient.tolist() == [-1.0]


# SmoothGrad


def test_smoothgrad_equals_a_slow_float64_loop(tiny_net: Builder) -> None:
    """One noisy copy at a time, signed gradients averaged, then reduced."""
    inputs, targets = images(2), torch.tensor([3, 1])
    inputs[1] *= 7  # another range, so another noise level
    draws = ItemDraws(seed=5, indices=(4, 9))
    method = create_method("smoothgrad", tiny_net(), samples=6, sigma=0.2)
    ours = method.explain(inputs, targets, ItemContext(draws=draws, chunk=4))
    slow = tiny_net().double()
    for item, target in enumerate(targets.tolist()):
        clean = inputs[item].double()
        level = 0.2 * float(clean.max() - clean.min())
        total = torch.zeros_like(clean)
        for sample in range(6):
            noise = draws.normal(sample, (3, 12, 16))[item].double()
            noisy = (clean + level * noise)[None].requires_grad_()
            total += torch.autograd.grad(slow(noisy)[0, target], noisy)[0][0]
        expected = (total / 6).abs().amax(dim=0)
        error = (ours.maps[item].double() - expected).abs().max()
        assert float(error / expected.max()) < 1e-5


def test_smoothgrad_of_a_linear_model_is_the_gradient() -> None:
    """Noise does not matter where the gradient is the same everywhere."""
    model, inputs = Linear(), images(2)
    smooth = create_method("smoothgrad", model, samples=3).explain(inputs, None)
    plain = create_method("input_gradient", model).explain(inputs, None)
    assert torch.allclose(smooth.maps, plain.maps, rtol=1e-6)


# Integrated gradients


@pytest.mark.parametrize("rule", ["gausslegendre", "riemann_trapezoid"])
def test_the_quadrature_weights_sum_to_one(rule: str) -> None:
    """A constant is integrated exactly; a line too; points lie in [0, 1]."""
    for steps in (2, 5, 50):
        points, weights = quadrature(rule, steps)
        assert sum(weights) == pytest.approx(1.0, abs=1e-14)
        line = sum(w * p for w, p in zip(weights, points, strict=True))
        assert line == pytest.approx(0.5, abs=1e-14)
        assert all(0 <= point <= 1 for point in points)


@pytest.mark.parametrize("rule", ["gausslegendre", "riemann_trapezoid"])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_integrated_gradients_of_a_linear_model_are_exact(
    rule: str, baseline: str
) -> None:
    """In closed form IG = (x - b) w, and the convergence delta is below 1e-5."""
    from explain.baselines import baseline_of

    model, inputs = Linear(), images(3)
    method = create_method(
        "integrated_gradients", model, steps=4, rule=rule, baseline=baseline
    )
    result = method.explain(inputs, None)
    way = inputs - baseline_of(inputs, baseline)
    expected = (way * model.weight.detach()[result.targets]).sum(dim=1)
    assert torch.allclose(result.maps, expected, atol=1e-5)
    change = result.output_change
    assert change is not None
    delta = result.maps.double().sum(dim=(1, 2)) - change
    assert float((delta / change.abs().clamp(min=1)).abs().max()) < 1e-5


def test_integrated_gradients_equal_captum(captum_attr: Any, tiny_net: Builder) -> None:
    """R7: map and convergence delta are captum's under Gauss-Legendre."""
    model, inputs, targets = tiny_net(), images(3), torch.tensor([0, 3, 1])
    ours = create_method("integrated_gradients", model, steps=20).explain(
        inputs, targets
    )
    oracle, delta = captum_attr.IntegratedGradients(model).attribute(
        inputs,
        baselines=0,
        target=targets,
        n_steps=20,
        method="gausslegendre",
        return_convergence_delta=True,
    )
    assert torch.allclose(ours.maps, oracle.sum(dim=1), rtol=1e-5, atol=1e-7)
    assert ours.output_change is not None
    ours_delta = ours.maps.double().sum(dim=(1, 2)) - ours.output_change
    assert torch.allclose(ours_delta, delta.double(), atol=2e-6)


def test_the_trapezoid_rule_is_complete_where_captum_is_not(captum_attr: Any) -> None:
    """Captum's trapezoid weights sum to 1 - 1/n, so even a line is missed; ours is not.

    n equally spaced points have n - 1 intervals, and captum divides by n.
    """
    model, inputs, targets = Linear(), images(2), torch.tensor([1, 2])
    ours = create_method(
        "integrated_gradients", model, steps=10, rule="riemann_trapezoid"
    ).explain(inputs, targets)
    oracle = captum_attr.IntegratedGradients(model).attribute(
        inputs, target=targets, n_steps=10, method="riemann_trapezoid"
    )
    assert torch.allclose(ours.maps, oracle.sum(dim=1) * 10 / 9, atol=1e-5)
    assert ours.output_change is not None
    delta = ours.maps.double().sum(dim=(1, 2)) - ours.output_change
    assert float(delta.abs().max()) < 1e-4


def test_more_steps_bring_the_map_closer_to_completeness(tiny_net: Builder) -> None:
    """On a network with kinks the delta falls with the steps."""
    model, inputs = tiny_net(), images(4)
    deltas = []
    for steps in (2, 100):
        result = create_method("integrated_gradients", model, steps=steps).explain(
            inputs, None
        )
        assert result.output_change is not None
        sums = result.maps.double().sum(dim=(1, 2))
        deltas.append(float((sums - result.output_change).abs().max()))
    assert deltas[1] < deltas[0] / 5
    assert deltas[1] < 1e-2


def test_an_input_that_is_its_own_baseline_gets_a_blank_map(tiny_net: Builder) -> None:
    """Nothing lies between the two: the map is zero and says so."""
    inputs = images(2)
    inputs[0] = 0
    result = create_method("integrated_gradients", tiny_net(), steps=3).explain(
        inputs, None
    )
    assert result.zero_gradient.tolist() == [True, False]
    assert float(result.maps[0].abs().max()) == 0
    assert result.output_change is not None
    assert float(result.output_change[0]) == 0


@pytest.mark.parametrize("name", ["input_gradient", "smoothgrad"])
def test_a_model_that_cuts_gradients_off_is_refused(name: str) -> None:
    """What cannot be differentiated is an error that names another kind of method."""

    class Cut(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.detach().mean(dim=(2, 3))

    with pytest.raises(UnsupportedModelError, match="cuts gradients off"):
        create_method(name, Cut()).explain(images(1), None)


def test_gradient_x_input_equals_captum(captum_attr: Any) -> None:
    """Their InputXGradient, summed over channels, is our map."""
    model, inputs, targets = module_net(), images(3), torch.tensor([0, 3, 1])
    ours = create_method("gradient_x_input", model).explain(inputs, targets)
    theirs = captum_attr.InputXGradient(model).attribute(
        inputs.clone().requires_grad_(), target=targets
    )
    assert torch.allclose(ours.maps, theirs.sum(dim=1), atol=1e-6)


def test_gradient_x_input_of_a_linear_model_sums_to_the_logit() -> None:
    """Without a bias nothing is lost to first order."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4, bias=False))
    inputs = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    found = create_method("gradient_x_input", model).explain(inputs, None)
    picked = model(inputs).gather(1, found.targets[:, None])[:, 0]
    assert torch.allclose(found.maps.sum(dim=(1, 2)), picked, atol=1e-5)
