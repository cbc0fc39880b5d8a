# SPDX-License-Identifier: Apache-2.0
"""What holds for every method that explains at the input, whatever it computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import (
    InvalidInputError,
    InvalidTargetError,
    UnsupportedModelError,
)
from explain.methods import METHODS, create_method
from explain.methods.perturbation_cards import PERTURBATION_CARDS
from explain.methods.pixel_cards import PIXEL_CARDS

Builder = Callable[..., nn.Module]

#: Small enough to be quick; every branch of sampling is still taken.
OPTIONS: dict[str, dict[str, Any]] = {
    "input_gradient": {},
    "gradient_x_input": {},
    "guided_backprop": {},
    "smoothgrad": {"samples": 5},
    "integrated_gradients": {"steps": 5, "baseline": "blur"},
    "occlusion": {"window": 6, "stride": 4, "baseline": "blur"},
    "rise": {"masks": 13, "grid": 3},
    "lime": {"samples": 13, "segments": 9},
    "kernelshap": {"samples": 13, "segments": 9},
}
GRADIENTS = [
    "input_gradient",
    "gradient_x_input",
    "guided_backprop",
    "smoothgrad",
    "integrated_gradients",
]
PERTURBATIONS = ["occlusion", "rise", "lime", "kernelshap"]
EACH = pytest.mark.parametrize("name", OPTIONS)


def scenes(count: int, seed: int = 0, height: int = 16, width: int = 20) -> Tensor:
    """Return seeded images of smooth colour patches."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 5, generator=generator)
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def context(indices: tuple[int, ...], chunk: int = 8) -> ItemContext:
    """Return the context of items at these places of the manifest."""
    return ItemContext(draws=ItemDraws(seed=2, indices=indices), chunk=chunk)


def method(name: str, model: nn.Module) -> Any:
    """Return the method with options that keep it quick."""
    return create_method(name, model, **OPTIONS[name])


def test_every_method_of_the_two_families_is_tested_here() -> None:
    """A method that is added to the cards must pass what follows."""
    assert {card.name for card in (*PIXEL_CARDS, *PERTURBATION_CARDS)} == set(OPTIONS)


@EACH
def test_maps_are_as_the_card_says(tiny_net: Builder, name: str) -> None:
    """Resolution, type, sign and completeness are those of the definition card."""
    inputs, card = scenes(3), METHODS[name]
    result = method(name, tiny_net()).explain(inputs, None)
    assert card.pixel_resolution
    assert result.maps.shape == (3, 16, 20)
    assert result.maps.dtype == torch.float32
    assert result.logits.dtype == torch.float32
    assert not result.maps.requires_grad
    assert result.zero_gradient.tolist() == [False] * 3
    assert (result.output_change is not None) == card.complete
    if not card.signed:
        assert float(result.maps.min()) >= 0
    assert not result.halved


@EACH
def test_several_targets_share_the_passes(tiny_net: Builder, name: str) -> None:
    """A row of targets gives the maps of each, from as many forward passes as one."""
    model, inputs = tiny_net(), scenes(2)
    targets = torch.tensor([[0, 3], [2, 1]])
    calls: list[int] = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    both = method(name, model).explain(inputs, targets, context((4, 5)))
    together = len(calls)
    for place in range(2):
        calls.clear()
        single = method(name, model).explain(
            inputs, targets[:, place].clone(), context((4, 5))
        )
        assert len(calls) == together
        assert torch.allclose(both.maps[:, place], single.maps, atol=1e-7)
    hook.remove()
    assert both.targets.shape == both.zero_gradient.shape == (2, 2)
    if both.output_change is not None:
        assert both.output_change.shape == (2, 2)


@EACH
def test_the_predicted_class_is_explained_without_targets(
    tiny_net: Builder, name: str
) -> None:
    """The class is that of the clean input, and more targets than items are allowed."""
    model, inputs = tiny_net(), scenes(1)
    result = method(name, model).explain(inputs, None)
    assert torch.equal(result.targets, model(inputs).argmax(dim=1))
    given = method(name, model).explain(inputs, torch.tensor([[0, 1, 2, 3]]))
    predicted = int(result.targets[0])
    assert torch.allclose(given.maps[:, predicted], result.maps, atol=1e-7)


@EACH
def test_a_map_does_not_depend_on_neighbours_or_place(
    tiny_net: Builder, name: str
) -> None:
    """Other neighbours and another place in a batch of the same shape: same bits."""
    model, inputs, others = tiny_net(), scenes(3), scenes(3, seed=8)
    others[0] = 0  # a neighbour with other superpixels
    others[2] = inputs[0]
    targets, other_targets = torch.tensor([1, 0, 2]), torch.tensor([3, 3, 1])
    first = method(name, model).explain(inputs, targets, context((7, 8, 9)))
    second = method(name, model).explain(others, other_targets, context((1, 2, 7)))
    assert torch.equal(first.maps[0], second.maps[2])
    assert float(first.maps[0].abs().max()) > 0


@EACH
def test_batch_and_chunk_change_last_bits_at_most(tiny_net: Builder, name: str) -> None:
    """One by one or together, in large passes or small: the same map."""
    model, inputs, targets = tiny_net(), scenes(3), torch.tensor([1, 0, 2])
    together = method(name, model).explain(inputs, targets, context((7, 8, 9)))
    scale = float(together.maps.abs().max())
    for chunk in (1, 64):
        for item in range(3):
            alone = method(name, model).explain(
                inputs[item : item + 1],
                targets[item : item + 1],
                context((7 + item,), chunk),
            )
            difference = (alone.maps[0] - together.maps[item]).abs().max()
            assert float(difference) < 1e-4 * scale


@EACH
def test_the_same_call_gives_the_same_bits(tiny_net: Builder, name: str) -> None:
    """Nothing comes from global random state, and none of it is used up."""
    model, inputs = tiny_net(), scenes(2)
    before = torch.get_rng_state()
    torch.manual_seed(1)
    first = method(name, model).explain(inputs, None).maps
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(method(name, model).explain(inputs, None).maps, first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


@EACH
def test_no_forward_pass_exceeds_the_chunk(tiny_net: Builder, name: str) -> None:
    """Passes hold at most the chunk, and never less than one image an item."""
    model, sizes = tiny_net(), list[int]()
    hook = model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    method(name, model).explain(scenes(2), None, context((0, 1), chunk=5))
    assert max(sizes) <= 4
    sizes.clear()
    method(name, model).explain(scenes(4), None, context((0, 1, 2, 3), chunk=1))
    assert set(sizes) == {4}
    hook.remove()


@EACH
def test_a_batch_too_large_for_memory_is_halved(tiny_net: Builder, name: str) -> None:
    """Passes shrink until they fit, the map stays, and the attribution says so."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_net()

        def forward(self, inputs: Tensor) -> Tensor:
            if len(inputs) > 5:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(inputs)

    inputs = scenes(2)
    whole = method(name, tiny_net()).explain(inputs, None, context((0, 1), 16))
    pieces = method(name, Small()).explain(inputs, None, context((0, 1), 16))
    single_pass = {"input_gradient", "gradient_x_input", "guided_backprop"}
    assert pieces.halved == (name not in single_pass)
    assert torch.allclose(pieces.maps, whole.maps, atol=1e-6)


@EACH
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back_as_it_was(
    tiny_net: Builder, name: str, fails: bool
) -> None:
    """Modes, requires_grad, gradients, hooks and flags survive, also a failure."""
    model = tiny_net().train()
    model.pool.eval()
    model.head.weight.requires_grad_(requires_grad=False)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    calls: list[int] = []

    def count(*_: Any) -> None:
        calls.append(1)
        if fails:
            raise RuntimeError("broken")

    hook = model.register_forward_hook(count)
    before = snapshot(model)
    inputs = scenes(2)
    given = inputs.clone()
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            method(name, model).explain(inputs, None)
    else:
        method(name, model).explain(inputs, None)
    assert calls
    assert snapshot(model) == before
    assert torch.equal(model.stem.weight.grad, torch.ones_like(model.stem.weight))
    assert torch.equal(inputs, given)
    assert not inputs.requires_grad
    hook.remove()


def snapshot(model: nn.Module) -> list[Any]:
    """Return what must not change."""
    return [
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [len(module._forward_hooks) for module in model.modules()],
        [len(module._backward_hooks) for module in model.modules()],
        torch.is_grad_enabled(),
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    ]


@EACH
def test_a_target_that_nothing_moves_has_a_blank_map(
    tiny_net: Builder, name: str
) -> None:
    """A class whose score is a constant gets zeros and says so; others do not."""
    model = tiny_net()
    model.head.weight.data[:] = 0
    inputs = scenes(2)
    result = method(name, model).explain(inputs, torch.tensor([1, 2]))
    assert result.zero_gradient.tolist() == [True, True]
    assert float(result.maps.abs().max()) == 0
    if result.output_change is not None:
        assert float(result.output_change.abs().max()) == 0


@EACH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_item_has_a_broken_map_and_no_other(
    tiny_net: Builder, name: str, bad: float
) -> None:
    """NaN or infinity in one input spoils its own map, whole, and its own alone."""
    model, inputs, targets = tiny_net(), scenes(2), torch.tensor([0, 1])
    sound = method(name, model).explain(inputs, targets, context((0, 1)))
    inputs[0, 1, 3:6, 3:6] = bad
    result = method(name, model).explain(inputs, targets, context((0, 1)))
    assert bool(result.maps[0].isnan().all())
    assert torch.equal(result.maps[1], sound.maps[1])


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_input_of_nothing_has_a_blank_map(tiny_net: Builder, name: str) -> None:
    """Where the input is the baseline itself, last bits do not become a picture."""
    options = {**OPTIONS[name], "baseline": "zero"}
    if name == "rise":
        del options["baseline"]
    inputs = scenes(3)
    inputs[1] = 0
    result = create_method(name, tiny_net(), **options).explain(inputs, None)
    assert result.zero_gradient.tolist() == [False, True, False]
    assert float(result.maps[1].abs().max()) == 0


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_number_types_give_the_same_map(
    tiny_net: Builder, name: str, dtype: torch.dtype
) -> None:
    """Half-precision models are explained with float32 sums, to their precision."""
    # Large values, so that differences of scores exceed what bfloat16 resolves.
    inputs, targets = scenes(2) * 16, torch.tensor([1, 2])
    single = method(name, tiny_net()).explain(inputs, targets)
    model = tiny_net().to(dtype)
    other = method(name, model).explain(inputs.to(dtype), targets)
    assert other.maps.dtype == torch.float32
    both = torch.stack([single.maps.flatten(), other.maps.flatten()])
    tolerance = 0.8 if dtype == torch.bfloat16 else 0.99
    assert float(both.corrcoef()[0, 1]) > tolerance


@EACH
def test_works_under_inference_mode(tiny_net: Builder, name: str) -> None:
    """A caller's inference mode and tensors born under it change nothing."""
    model, inputs, targets = tiny_net(), scenes(2), torch.tensor([[0, 1], [2, 3]])
    plain = method(name, model).explain(inputs, targets)
    with torch.inference_mode():
        born = inputs.clone()
        inside = method(name, model).explain(born, targets.clone())
    assert torch.equal(inside.maps, plain.maps)


@pytest.mark.parametrize("name", [*GRADIENTS, "occlusion", "rise"])
def test_nothing_waits_for_the_device(tiny_net: Builder, name: str) -> None:
    """On the meta device, where no value can be read, the method runs through."""
    model = tiny_net().to("meta")
    result = method(name, model).explain(
        scenes(2).to("meta"), torch.tensor([[0, 1], [2, 3]])
    )
    assert result.maps.shape == (2, 2, 16, 20)
    assert result.maps.is_meta


@EACH
def test_a_network_that_overwrites_its_input_is_explained_alike(name: str) -> None:
    """An in-place first operation reaches neither the caller's tensor nor the map."""

    class Net(nn.Module):
        def __init__(self, *, inplace: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.ReLU(inplace=inplace)
            self.rest = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
            self.head = nn.Linear(4 * 14 * 18, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.rest(self.first(inputs)))

    inputs = scenes(2)
    given = inputs.clone()
    ours = method(name, Net(inplace=True)).explain(inputs, None)
    assert torch.equal(inputs, given)
    plain = method(name, Net(inplace=False)).explain(inputs, None)
    assert torch.equal(ours.maps, plain.maps)


@EACH
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2)])
def test_the_smallest_images_are_explained(
    tiny_net: Builder, name: str, size: tuple[int, int]
) -> None:
    """An image of a single pixel or a single row is an image."""
    inputs = scenes(2, height=size[0], width=size[1])
    result = create_method(name, tiny_net()).explain(inputs, None, context((0, 1), 64))
    assert len(result.maps) == 2
    assert result.maps.ndim == 3
    assert bool(result.maps.isfinite().all())


@EACH
def test_bad_input_is_refused(tiny_net: Builder, name: str) -> None:
    """What is no batch, no target or no classifier is one clear error each."""
    explainer = method(name, tiny_net())
    for wrong in (
        torch.zeros(3, 8, 8),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.int64),
    ):
        with pytest.raises(InvalidInputError, match="Expected a batch of images"):
            explainer.explain(wrong, None)
    with pytest.raises(InvalidTargetError, match="out of range"):
        explainer.explain(scenes(2), torch.tensor([0, 4]))
    with pytest.raises(InvalidTargetError, match="one target for each"):
        explainer.explain(scenes(2), torch.tensor([0]))
    headless = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    with pytest.raises(UnsupportedModelError, match="Expected class logits"):
        method(name, headless).explain(scenes(1), None)


@EACH
def test_the_cost_is_what_it_says(tiny_net: Builder, name: str) -> None:
    """Counted forward passes an item, a backward pass as two, are ``passes``."""
    model, images_seen = tiny_net(), list[int]()
    hook = model.register_forward_pre_hook(
        lambda _, given: images_seen.append(len(given[0]))
    )
    explainer, side = method(name, model), 24
    if name == "occlusion":
        # Its windows are counted on an input of 224 x 224.
        explainer, side = create_method(name, model, window=99, stride=62), 224
    explainer.explain(scenes(1, height=side, width=side), None, context((0,), 256))
    hook.remove()
    seen = sum(images_seen)
    extra = {"smoothgrad": 1, "integrated_gradients": 2}.get(name, 0)
    cost = extra + 3 * (seen - extra) if name in GRADIENTS else seen
    if name == "kernelshap":
        # An odd sample cannot be paired, and passes are filled up to one shape.
        assert explainer.passes - 2 <= cost <= explainer.passes
    else:
        assert cost == explainer.passes
