# SPDX-License-Identifier: Apache-2.0
"""Score-CAM and Ablation-CAM: their definitions, and what a channel costs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidParameterError
from explain.frozen import frozen
from explain.methods import ablationcam, create_method
from explain.methods.head_replay import Way, head_of, noted_trunk, way_of

Builder = Callable[..., nn.Module]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return seeded normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tapped(model: nn.Module, name: str) -> TappedLayer:
    """Return the layer without looking at the model."""
    return TappedLayer(name, model.get_submodule(name), "test")


def chunked(items: int, chunk: int) -> ItemContext:
    """Return a context that runs at most so many images a pass."""
    return ItemContext(draws=ItemDraws.counted(items), chunk=chunk)


# Score-CAM


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_score_cam_equals_its_slow_definition(tiny_net: Builder, baseline: str) -> None:
    """Channel by channel in float64: mask, score, softmax, weighted sum."""
    model, inputs, target = tiny_net(), noise(1, 3, 10, 14), 2
    layer = tapped(model, "body")
    method = create_method("scorecam", model, layer, baseline=baseline)
    ours = method.explain(inputs, torch.tensor([target])).maps[0]
    model, inputs = model.double(), inputs.double()
    with torch.no_grad():
        features = model.body(torch.relu(model.stem(inputs)))
        hidden = inputs.mean(dim=(2, 3), keepdim=True) * (baseline == "mean")
        scores = []
        for k in range(6):
            mask = nn.functional.interpolate(
                features[:, k : k + 1], size=(10, 14), mode="bilinear"
            )
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            seen = mask * inputs + (1 - mask) * hidden
            scores.append(
                model(seen)[0, target] - model(hidden.expand(inputs.shape))[0, target]
            )
        weights = torch.stack(scores).softmax(dim=0)
        expected = (weights[:, None, None] * features[0]).sum(dim=0).clamp(min=0)
    assert torch.allclose(ours.double(), expected, rtol=1e-4, atol=1e-6)
    assert float(expected.std()) > 0


def test_score_cam_asks_about_the_channels_of_most_energy(tiny_net: Builder) -> None:
    """With a cap, the map is that of the capped channels alone."""
    model, inputs = tiny_net(), noise(2, 3, 10, 10)
    layer, targets = tapped(model, "body"), torch.tensor([1, 3])
    ours = create_method("scorecam", model, layer, channels=2).explain(inputs, targets)
    with torch.no_grad():
        features = model.body(torch.relu(model.stem(inputs)))
    energy = features.square().sum(dim=(2, 3))
    for item in range(2):
        top = energy[item].argsort(descending=True)[:2]
        scores = []
        for k in top.tolist():
            mask = nn.functional.interpolate(
                features[item : item + 1, k : k + 1], size=(10, 10), mode="bilinear"
            )
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            with torch.no_grad():
                scores.append(model(mask * inputs[item : item + 1])[0, targets[item]])
        weights = torch.stack(scores).softmax(dim=0)
        expected = (weights[:, None, None] * features[item, top]).sum(dim=0)
        assert torch.allclose(ours.maps[item], expected, atol=1e-5)
    everything = create_method("scorecam", model, layer).explain(inputs, targets)
    capped = create_method("scorecam", model, layer, channels=99)
    assert torch.equal(capped.explain(inputs, targets).maps, everything.maps)
    assert not torch.allclose(ours.maps, everything.maps, atol=1e-4)


def test_score_cam_runs_passes_of_bounded_size(tiny_net: Builder) -> None:
    """The chunk bounds the images of a pass, and the maps agree at any chunk."""
    model, inputs = tiny_net(), noise(3, 3, 8, 8)
    sizes: list[int] = []
    hook = model.stem.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    method = create_method("scorecam", model, tapped(model, "body"))
    maps = [
        method.explain(inputs, None, chunked(3, chunk)).maps for chunk in (1, 7, 64)
    ]
    hook.remove()
    # One pass to see the channels, then 6 channels: by 1, by 2, and all at once.
    assert sizes == [3] + [3] * 6 + [3] + [6] * 3 + [3] + [18]
    assert torch.allclose(maps[0], maps[2], atol=1e-6)
    assert torch.allclose(maps[1], maps[2], atol=1e-6)


@pytest.mark.parametrize("name", ["scorecam", "ablationcam"])
def test_a_score_that_nothing_changes_is_blank(tiny_net: Builder, name: str) -> None:
    """A class of constant score has no map, and says so; its neighbour has one."""
    model, inputs = tiny_net(), noise(1, 3, 8, 8)
    model.head.weight.data[1].zero_()
    method = create_method(name, model, tapped(model, "body"))
    result = method.explain(inputs, torch.tensor([[1, 2]]))
    assert result.zero_gradient.tolist() == [[True, False]]
    assert float(result.maps[0, 0].abs().max()) == 0
    assert bool(result.maps.isfinite().all())


@pytest.mark.parametrize("name", ["scorecam", "ablationcam"])
def test_a_bad_image_does_not_spoil_its_neighbours(
    tiny_net: Builder, name: str
) -> None:
    """NaN stays with the image that has it."""
    model, inputs = tiny_net(), noise(3, 3, 8, 8)
    method = create_method(name, model, tapped(model, "body"))
    targets = torch.tensor([0, 1, 2])
    expected = method.explain(inputs, targets).maps
    inputs[1, 0, 0, 0] = torch.nan
    maps = method.explain(inputs, targets).maps
    assert bool(maps[1].isnan().any())
    assert torch.equal(maps[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("name", ["scorecam", "ablationcam"])
def test_goes_on_with_half_when_memory_runs_out(tiny_net: Builder, name: str) -> None:
    """A pass that does not fit is halved, the result says so, and the map is right."""
    model, inputs = tiny_net(), noise(1, 3, 8, 8)
    method = create_method(name, model, tapped(model, "body"))
    expected = method.explain(inputs, None)

    def crowd(_module: nn.Module, given: Any) -> None:
        if len(given[0]) > 3:
            raise torch.OutOfMemoryError

    hook = model.head.register_forward_pre_hook(crowd)
    result = method.explain(inputs, None)
    hook.remove()
    assert (expected.halved, result.halved) == (False, True)
    assert torch.allclose(result.maps, expected.maps, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": -1}, "channels"), ({"baseline": "grey"}, "one of zero, mean")],
)
def test_score_cam_refuses_wrong_parameters(
    tiny_net: Builder, options: dict[str, Any], message: str
) -> None:
    """Parameters are checked against the card."""
    model = tiny_net()
    with pytest.raises(InvalidParameterError, match=message):
        create_method("scorecam", model, tapped(model, "body"), **options)


def test_passes_are_counted(tiny_net: Builder) -> None:
    """What an explanation costs is known from the layer's channels."""
    model = tiny_net()
    layer = resolve_layer(model, "body", noise(1, 3, 8, 8))
    assert create_method("scorecam", model, layer).passes == 7
    assert create_method("scorecam", model, layer, channels=4).passes == 5


# Ablation-CAM


def slow_ablation(model: Any, inputs: Tensor, target: int) -> Tensor:
    """Return the definition on the tiny network, channel by channel in float64."""
    with torch.no_grad():
        features = model.body(torch.relu(model.stem(inputs.double())))

        def score(values: Tensor) -> Tensor:
            return model.head(model.pool(values).flatten(1))[0, target]

        total = torch.zeros_like(features[0, 0])
        for k in range(features.shape[1]):
            without = features.clone()
            without[0, k] = 0
            weight = (score(features) - score(without)) / score(features).abs()
            total += weight * features[0, k]
    return total.clamp(min=0)


def test_ablation_cam_equals_its_slow_definition(tiny_net: Builder) -> None:
    """For scores of either sign; a negative one does not turn the map round."""
    model, inputs = tiny_net(), noise(1, 3, 10, 14)
    method = create_method("ablationcam", model, tapped(model, "body"))
    result = method.explain(inputs, torch.tensor([[0, 1, 2, 3]]))
    assert float(result.logits.min()) < 0 < float(result.logits.max())
    model = model.double()
    for target in range(4):
        expected = slow_ablation(model, inputs, target)
        assert torch.allclose(
            result.maps[0, target].double(), expected, rtol=1e-4, atol=1e-5
        )
    assert float(result.maps.amax(dim=(0, 2, 3)).min()) >= 0
    assert float(result.maps.max()) > 0


class Counting(nn.Module):
    """A network that counts its rows at the input, as EfficientNet-Lite0 does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.body = nn.Conv2d(4, 5, 3, stride=2)
        self.head = nn.Linear(5, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        rows = len(images)
        features = torch.relu(self.body(torch.relu(self.stem(images))))
        return self.head(features.mean(dim=(2, 3)).view(rows, -1))


def networks() -> dict[str, tuple[nn.Module, str, Way]]:
    """Return networks, a layer each, and the way in which the head runs there."""
    torch.manual_seed(0)
    resnet = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10
    )
    dense = torchvision.models.DenseNet(8, (2, 2), num_init_features=8, num_classes=10)
    vit = torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=10)
    nn.init.normal_(vit.heads.head.weight)
    return {
        "before a transformer's attention": (
            vit,
            "encoder.layers.encoder_layer_0.ln_1",
            Way.NARROW,
        ),
        "the last stage": (resnet, "layer4", Way.NARROW),
        "within a residual block": (resnet, "layer2.0.conv1", Way.NARROW),
        "before an in-place ReLU": (resnet, "layer2.0.bn1", Way.NARROW),
        "a layer that runs twice": (resnet, "layer2.0.relu", Way.NARROW),
        "the first layer": (resnet, "conv1", Way.NARROW),
        "rows counted at the input": (Counting(), "body", Way.WIDE),
        "within a dense block": (
            dense,
            "features.denseblock2.denselayer1.conv2",
            Way.WHOLE,
        ),
    }


@pytest.mark.parametrize("case", list(networks()))
def test_the_head_alone_gives_what_the_network_gives(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed or whole, the maps agree; where rows cannot broadcast it runs whole."""
    model, name, expected = networks()[case]
    size = (16, 16) if "transformer" in case else (32, 48)
    inputs, targets = noise(2, 3, *size), torch.tensor([1, 7])
    layer = resolve_layer(model.eval(), name, inputs)
    method = create_method("ablationcam", model, layer)
    ways: list[Way] = []

    def noting(*given: Any) -> Way:
        ways.append(way_of(*given))
        return ways[-1]

    monkeypatch.setattr(ablationcam, "way_of", noting)
    ours = method.explain(inputs, targets).maps
    assert ways == [expected]
    monkeypatch.setattr(ablationcam, "way_of", lambda *_given: Way.WHOLE)
    whole = method.explain(inputs, targets).maps
    scale = float(whole.max())
    assert torch.allclose(ours, whole, rtol=1e-2, atol=1e-3 * scale)
    assert scale > 0


def test_the_trunk_runs_twice_whatever_the_channels(tiny_net: Builder) -> None:
    """Once in the batch and once for each item; only the head runs for each channel."""
    model, inputs = tiny_net(), noise(2, 3, 8, 8)
    rows = {"stem": 0, "body.0": 0, "head": 0}
    forwards = {}
    for name in rows:
        module = model.get_submodule(name)
        forwards[name] = module.forward

        def counting(given: Tensor, name: str = name) -> Tensor:
            rows[name] += len(given)
            return forwards[name](given)

        module.forward = counting
    method = create_method("ablationcam", model, tapped(model, "body"))
    method.explain(inputs, None, chunked(2, 4))
    # Two in the batch; one for each item and one more to see whether that works.
    assert rows["stem"] == rows["body.0"] == 2 + 2 + 1
    # And for each item the whole and its six channels, and two rows to see.
    assert rows["head"] == 2 + 2 + 1 + 2 * 7 + 2
    for name in rows:
        assert "forward" in model.get_submodule(name).__dict__


def test_replaying_leaves_no_trace(tiny_net: Builder) -> None:
    """Forwards and hooks are what they were, also when the head fails."""
    model, image = tiny_net(), noise(1, 3, 8, 8)
    layer = tapped(model, "body")
    with frozen(model):
        with noted_trunk(model, layer) as trunk, torch.no_grad():
            model(image)
        assert trunk == [model.stem, model.body]
        with (
            pytest.raises(RuntimeError),
            head_of(model, layer, image, trunk, Way.NARROW) as head,
        ):
            head(torch.zeros(2, 99, 4, 4))
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_replaying_respects_what_works_in_place() -> None:
    """A recorded output that a later layer overwrites is handed out as it was."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)

    class Doubling(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.mul_(2)

    last = nn.Conv2d(4, 4, 3)
    model = nn.Sequential(
        conv, Doubling(), last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    image, layer = noise(1, 3, 9, 9), tapped(model, "2")
    with frozen(model), torch.no_grad():
        with noted_trunk(model, layer) as trunk:
            expected = model(image)
        output = last(2 * conv(image))
        for way in Way:
            with head_of(model, layer, image, trunk, way) as head:
                for _ in range(3):
                    assert torch.allclose(head(output), expected, atol=1e-6)


def test_replaying_survives_hooks_that_change_outputs(
    tiny_net: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's hook takes part once, in the trunk as at the tapped layer."""
    model, inputs = tiny_net(), noise(2, 3, 8, 8)
    hooks = [
        model.stem.register_forward_hook(lambda _m, _i, output: output * 3),
        model.body.register_forward_hook(lambda _m, _i, output: output + 1),
    ]
    method = create_method("ablationcam", model, tapped(model, "body"))
    ours = method.explain(inputs, torch.tensor([0, 2]))
    monkeypatch.setattr(ablationcam, "way_of", lambda *_given: Way.WHOLE)
    whole = method.explain(inputs, torch.tensor([0, 2]))
    for hook in hooks:
        hook.remove()
    assert torch.allclose(ours.maps, whole.maps, rtol=1e-3, atol=1e-5)
