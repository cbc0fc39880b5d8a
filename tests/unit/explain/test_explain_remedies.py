# SPDX-License-Identifier: Apache-2.0
"""Remedies: what each does to a map, and that it does nothing more."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from explain.architectures import resolve_layer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidParameterError, UnsupportedModelError
from explain.methods import create_method
from explain.methods.method import Attribution, Method
from explain.remedies import REMEDIES, with_remedies
from explain.remedies.clahe import equalised
from explain.remedies.contrast import ContrastEnhanced
from explain.remedies.fusion import MultiScale, fused
from explain.remedies.smoothing import raggedness, smoothed

Builder = Callable[..., nn.Module]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Return seeded images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator)


def signed(*shape: int, seed: int = 0) -> Tensor:
    """Return seeded maps with values of both signs."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradcam(model: nn.Module, size: int = 32) -> Method:
    """Return Grad-CAM at the layer found for images of the size."""
    layer = resolve_layer(model, example=torch.zeros(1, 3, size, size))
    return create_method("gradcam", model, layer)


@dataclass
class Given:
    """A method that gives what it is told and notes what it is asked."""

    maps: Callable[[Tensor], Tensor]
    asked: list[tuple[Tensor, Any, ItemContext]] = field(default_factory=list)
    memory: int = 10**9
    name: str = "given"
    passes: float = 2.0

    def explain(
        self, inputs: Tensor, targets: Tensor | None, context: ItemContext | None = None
    ) -> Attribution:
        """Return maps made of the inputs; two classes, the first predicted."""
        if inputs.numel() > self.memory:
            raise torch.OutOfMemoryError
        assert context is not None
        self.asked.append((inputs, targets, context))
        classes = torch.zeros(len(inputs), dtype=torch.int64)
        maps = self.maps(inputs)
        return Attribution(
            logits=inputs.mean(dim=(2, 3))[:, :2],
            targets=classes if targets is None else targets,
            maps=maps,
            zero_gradient=maps.flatten(1).abs().amax(dim=1) == 0,
            output_change=torch.ones(len(inputs)).double(),
        )


def pooled(inputs: Tensor) -> Tensor:
    """Return a signed map of a quarter of the input's side."""
    return functional.avg_pool2d(inputs[:, 0] - 0.5, 4)


# Fusion


def test_fusion_equals_its_definition(tiny_net: Builder) -> None:
    """Each map over its maximum, upsampled, averaged, at the plain magnitude."""
    model, inputs = tiny_net(), images(2) - 0.5
    method, targets = gradcam(model), torch.tensor([1, 2])
    ours = MultiScale(method, (0.75, 1.0, 1.5)).explain(inputs, targets)
    maps = []
    for side in (24, 32, 48):
        resized = functional.interpolate(
            inputs, size=(side, side), mode="bilinear", antialias=True
        )
        found = method.explain(resized, targets).maps.double()
        maps.append(found)
    expected = torch.zeros(2, 24, 24).double()
    for found in maps:
        relative = found / found.amax(dim=(1, 2), keepdim=True)
        expected += functional.interpolate(
            relative[:, None], size=(24, 24), mode="bilinear"
        )[:, 0]
    expected *= maps[1].amax(dim=(1, 2), keepdim=True) / 3
    assert ours.maps.shape == (2, 24, 24)
    assert torch.allclose(ours.maps.double(), expected, rtol=1e-4, atol=1e-7)
    plain = method.explain(inputs, targets)
    assert torch.equal(ours.logits, plain.logits)


def test_one_scale_gives_the_plain_map(tiny_net: Builder) -> None:
    """Scale 1 alone changes no bit."""
    method, inputs = gradcam(tiny_net()), images(2)
    ours = with_remedies(method, fusion={"scales": (1.0,)}).explain(inputs, None)
    assert torch.equal(ours.maps, method.explain(inputs, None).maps)


def test_all_scales_explain_the_class_predicted_at_scale_one() -> None:
    """A class is chosen once; resized inputs do not choose another."""
    method = Given(pooled)
    MultiScale(method).explain(images(2), None)
    (_, first, _), *others = method.asked
    assert first is None
    assert [targets.tolist() for _, targets, _ in others] == [[0, 0], [0, 0]]
    assert [tuple(inputs.shape[2:]) for inputs, _, _ in method.asked] == [
        (32, 32),
        (24, 24),
        (48, 48),
    ]


def test_fusion_hands_on_draws_and_resized_pictures() -> None:
    """Random numbers stay those of the items, and pictures fit the inputs."""
    method = Given(pooled)
    context = ItemContext(draws=ItemDraws(7, (4, 9)), images=images(2))
    MultiScale(method).explain(images(2), None, context)
    for inputs, _, given in method.asked:
        assert given.draws == context.draws
        assert given.images is not None
        assert given.images.shape == inputs.shape


def test_signed_maps_keep_their_signs_in_fusion() -> None:
    """The magnitude is divided out, not the largest value."""
    maps = signed(2, 4, 4)
    maps[0] = -maps[0].abs()
    ours = fused([maps, maps], maps)
    assert torch.allclose(ours, maps, atol=1e-6)


@pytest.mark.parametrize("blank", ["all", "plain", "other"])
def test_blank_maps_are_no_evidence_in_fusion(blank: str) -> None:
    """Zero maps stay zero, and a blank map at another scale adds nothing."""
    plain, other = signed(1, 4, 4), signed(1, 6, 6, seed=1)
    if blank in {"all", "plain"}:
        plain = torch.zeros_like(plain)
    if blank in {"all", "other"}:
        other = torch.zeros_like(other)
    ours = fused([plain, other], plain)
    assert ours.shape == (1, 6, 6)
    assert bool(ours.isfinite().all())
    assert bool((ours == 0).all()) == (blank != "other")


def test_fusion_of_several_targets_is_that_of_each(tiny_net: Builder) -> None:
    """Rows of targets are fused one by one."""
    method, inputs = MultiScale(gradcam(tiny_net())), images(2)
    rows = torch.tensor([[0, 3], [1, 2]])
    ours = method.explain(inputs, rows)
    for column in range(2):
        alone = method.explain(inputs, rows[:, column])
        assert torch.allclose(ours.maps[:, column], alone.maps, atol=1e-7)


def test_fusion_halves_what_does_not_fit() -> None:
    """The larger scale goes in pieces, gives the same maps, and says so."""
    method, inputs = Given(pooled), images(4)
    expected = MultiScale(method).explain(inputs, None)
    small = Given(pooled, memory=4 * 3 * 32 * 32)
    ours = MultiScale(small).explain(inputs, None)
    assert ours.halved
    assert not expected.halved
    assert torch.allclose(ours.maps, expected.maps, atol=1e-6)


def test_a_network_of_fixed_size_is_refused_by_fusion() -> None:
    """A ViT cannot look at other sizes, and one sentence says so."""
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 1, 2, 8, 16, num_classes=3)
    nn.init.normal_(model.heads.head.weight)
    with pytest.raises(UnsupportedModelError, match="images of other sizes"):
        MultiScale(gradcam(model.eval())).explain(images(1), None)


@pytest.mark.parametrize("scales", [(0.5, 2.0), (1.0, 1.0), (1.0, 0.0), ()])
def test_wrong_scales_are_refused(scales: tuple[float, ...]) -> None:
    """Scale 1 must be there, and each scale once and above zero."""
    with pytest.raises(InvalidParameterError):
        MultiScale(Given(pooled), scales)


# Smoothing


@pytest.mark.parametrize("size", [(7, 7), (4, 9), (14, 5)])
def test_smoothing_is_scipys_gaussian(size: tuple[int, int]) -> None:
    """At each map's own width, with mirrored borders, in double precision."""
    maps = signed(3, *size)
    widths = 0.3 + (1.7 - 0.3) * raggedness(maps)
    ours = smoothed(maps, 0.3, 1.7)
    for item in range(3):
        expected = ndimage.gaussian_filter(
            maps[item].double().numpy(),
            sigma=float(widths[item]),
            mode="reflect",
            radius=math.ceil(4 * 1.7),
        )
        assert np.abs(ours[item].numpy() - expected).max() < 1e-6
    assert float(widths.max() - widths.min()) > 0


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ([[1.0, 1.0], [1.0, 1.0]], 0.0),
        ([[0.0, 0.0], [0.0, 0.0]], 0.0),
        ([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]], 1.0),
        # Four differences of 2 among neighbours over 4 * 4.
        ([[1.0, -1.0], [-1.0, 1.0]], 0.5),
        # One difference of 3 and one of 1, both axes counted, over 4 * 4.
        ([[3.0, 0.0, 1.0]], 0.25),
        ([[2.0]], 0.0),
    ],
)
def test_raggedness_by_hand(maps: list[list[float]], expected: float) -> None:
    """Flat and blank maps have none; a cell that stands alone has all."""
    assert raggedness(torch.tensor([maps])).tolist() == [expected]


def test_ragged_maps_are_smoothed_more() -> None:
    """The width belongs to the map, not to the batch."""
    ramp = torch.arange(49.0).reshape(1, 7, 7)
    noise = signed(1, 7, 7).abs()
    ours = smoothed(torch.cat([ramp, noise]), 0.0, 1.5)
    moved = [(ours[0] - ramp[0]).abs().sum() / ramp.sum()]
    moved.append((ours[1] - noise[0]).abs().sum() / noise.sum())
    assert moved[1] > 5 * moved[0]


@pytest.mark.parametrize("shape", [(3, 7, 7), (2, 3, 5, 9)])
def test_smoothing_keeps_the_sum(shape: tuple[int, ...]) -> None:
    """What would fall over the border falls back, sign included."""
    maps = signed(*shape)
    ours = smoothed(maps, 0.5, 3.0)
    assert ours.shape == maps.shape
    assert torch.allclose(
        ours.double().sum(dim=(-2, -1)), maps.double().sum(dim=(-2, -1)), atol=1e-5
    )
    assert float(ours.abs().max()) < float(maps.abs().max())


def test_no_width_changes_no_bit() -> None:
    """Width zero, asked for or found, keeps the map."""
    maps = signed(2, 7, 7)
    assert torch.equal(smoothed(maps, 0.0, 0.0), maps)
    flat = torch.full((1, 7, 7), 0.3)
    assert torch.equal(smoothed(flat, 0.0, 2.0), flat)


def test_blank_maps_stay_blank_and_broken_ones_broken() -> None:
    """Zero stays exactly zero; NaN and infinity make the whole map NaN."""
    maps = torch.zeros(3, 5, 5)
    maps[1, 2, 2], maps[2, 0, 0] = torch.nan, torch.inf
    ours = smoothed(maps, 0.5, 1.5)
    assert bool((ours[0] == 0).all())
    assert bool(ours[1:].isnan().all())


def test_each_target_is_smoothed_by_its_own_width() -> None:
    """Maps of one item do not share a width."""
    maps = signed(2, 3, 6, 6)
    ours = smoothed(maps, 0.2, 2.0)
    assert torch.equal(ours[1, 2], smoothed(maps[1, 2][None], 0.2, 2.0)[0])


# Contrast


def test_contrast_explains_the_enhanced_input_for_the_plain_class(
    tiny_net: Builder,
) -> None:
    """Map of the enhanced input; logits, targets and flags of the audit unchanged."""
    seen = images(2)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    inputs = (seen - mean) / std
    model = tiny_net()
    method = gradcam(model)
    plain = method.explain(inputs, None)
    enhanced = (equalised(seen) - mean) / std
    expected = method.explain(enhanced, plain.targets).maps
    for given in (None, model):
        remedy = ContrastEnhanced(method, mean=MEAN, std=STD, model=given)
        context = ItemContext(draws=ItemDraws.counted(2), images=seen)
        ours = remedy.explain(inputs, None, context)
        assert torch.equal(ours.maps, expected)
        assert torch.allclose(ours.logits, plain.logits, atol=1e-6)
        assert torch.equal(ours.targets, plain.targets)
        # Without the picture the normalisation is undone, up to rounding.
        blind = remedy.explain(inputs, None)
        assert torch.allclose(blind.maps, expected, rtol=0.05, atol=1e-3)
    assert not torch.allclose(expected, plain.maps, rtol=0.1)


def test_contrast_takes_given_targets_and_rows_of_them(tiny_net: Builder) -> None:
    """The wrapper does not choose where the caller chose."""
    remedy = with_remedies(gradcam(tiny_net()), contrast={}, mean=MEAN, std=STD)
    rows = torch.tensor([[0, 3], [1, 2]])
    ours = remedy.explain(images(2), rows)
    assert torch.equal(ours.targets, rows)
    assert ours.maps.shape[:2] == (2, 2)


def test_the_model_saves_an_explanation() -> None:
    """With the model the plain logits are one forward pass, without it one more."""
    method = Given(pooled)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    assert ContrastEnhanced(method, mean=MEAN, std=STD, model=model).passes == 3.0
    assert ContrastEnhanced(method, mean=MEAN, std=STD).passes == 4.0


def test_contrast_without_normalisation_is_refused() -> None:
    """Enhanced pictures must be normalised again, so mean and std are needed."""
    with pytest.raises(InvalidParameterError, match="mean and the standard"):
        with_remedies(Given(pooled), contrast={})
    with pytest.raises(InvalidParameterError, match="above 0 of each channel"):
        ContrastEnhanced(Given(pooled), mean=(0.5,), std=(0.0,))
    remedy = ContrastEnhanced(Given(pooled), mean=(0.5,), std=(0.2,))
    with pytest.raises(InvalidParameterError, match="as many channels"):
        remedy.explain(images(1), None)


# Together


def test_names_tell_the_order_and_nothing_is_put_around_for_nothing() -> None:
    """From the inside out; without remedies the method is the method."""
    method = Given(pooled)
    assert with_remedies(method) is method
    both = with_remedies(method, fusion={}, smoothing={})
    assert both.name == "given+fusion+smoothing"
    every = with_remedies(
        method, fusion={}, smoothing={}, contrast={}, mean=MEAN, std=STD
    )
    assert every.name == "given+fusion+smoothing+contrast"
    assert every.passes == 2 * (2 * (0.75**2 + 1 + 1.5**2))


@pytest.mark.parametrize("remedy", REMEDIES)
def test_parameters_are_checked_against_the_card(remedy: str) -> None:
    """Unknown names and values out of range are refused in words."""
    options = {"mean": MEAN, "std": STD}
    with pytest.raises(InvalidParameterError, match=f"remedy '{remedy}' has no"):
        with_remedies(Given(pooled), **{remedy: {"nonsense": 1}}, **options)
    name = next(iter(REMEDIES[remedy].parameters))
    with pytest.raises(InvalidParameterError, match=f"expected {name} to be"):
        with_remedies(Given(pooled), **{remedy: {name: -1.0}}, **options)


def every_remedy(model: nn.Module) -> Method:
    """Return Grad-CAM with all remedies around it."""
    return with_remedies(
        gradcam(model), fusion={}, smoothing={}, contrast={}, mean=MEAN, std=STD
    )


def test_the_same_twice_and_whatever_the_neighbours(tiny_net: Builder) -> None:
    """Deterministic, and an item has the same bits at another place of the batch."""
    method, first, second = every_remedy(tiny_net()), images(3), images(3, seed=5)
    second[0] = first[2]
    targets = torch.tensor([1, 2, 3])
    ours = method.explain(first, targets)
    assert torch.equal(ours.maps, method.explain(first, targets).maps)
    others = method.explain(second, targets.flip(0))
    assert torch.equal(ours.maps[2], others.maps[0])
    alone = method.explain(first[2:], targets[2:])
    assert torch.allclose(ours.maps[2], alone.maps[0], rtol=1e-3, atol=1e-6)
    assert float(ours.maps[2].max()) > 0


def test_remedies_leave_the_model_as_it_was(tiny_net: Builder) -> None:
    """Modes, gradients and hooks survive all remedies together."""
    model = tiny_net().train()
    model.body.eval()
    every_remedy(model).explain(images(2), None)
    assert model.training
    assert not model.body.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_remedies_work_where_gradients_are_off(
    tiny_net: Builder, mode: Callable[[], Any]
) -> None:
    """Inputs born under inference mode pass through every remedy."""
    method = every_remedy(tiny_net())
    expected = method.explain(images(2), None).maps
    with mode():
        ours = method.explain(images(2) + 0, None)
    assert torch.equal(ours.maps, expected)


def test_a_dead_class_stays_flagged_and_blank(tiny_net: Builder) -> None:
    """No remedy draws a picture where the class depends on nothing."""
    model = tiny_net()
    model.head.weight.data[1].zero_()
    ours = every_remedy(model).explain(images(2), torch.tensor([0, 1]))
    assert ours.zero_gradient.tolist() == [False, True]
    assert bool((ours.maps[1] == 0).all())


def test_half_precision_inputs_pass_through(tiny_net: Builder) -> None:
    """The enhanced input has the model's type, the map is float32."""
    model = tiny_net().bfloat16()
    layer = resolve_layer(model, "body", torch.zeros(1, 3, 32, 32).bfloat16())
    method = with_remedies(
        create_method("gradcam", model, layer),
        fusion={},
        smoothing={},
        contrast={},
        mean=MEAN,
        std=STD,
    )
    ours = method.explain(images(2).bfloat16(), None)
    assert ours.maps.dtype == torch.float32
    assert bool(ours.maps.isfinite().all())


def test_completeness_ends_with_fusion_only() -> None:
    """Fused maps sum to nothing known; smoothed ones to what they summed to."""
    method, inputs = Given(pooled), images(2)
    assert with_remedies(method, fusion={}).explain(inputs, None).output_change is None
    context = ItemContext.of(inputs, None)
    kept = with_remedies(method, smoothing={}).explain(inputs, None, context)
    assert kept.output_change is not None
    plain = method.explain(inputs, None, replace(context))
    assert torch.allclose(
        kept.maps.sum(dim=(1, 2)), plain.maps.sum(dim=(1, 2)), atol=1e-5
    )
