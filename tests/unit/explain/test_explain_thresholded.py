# SPDX-License-Identifier: Apache-2.0
"""One batch through the whole engine: what is cut is what is stored."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.draws import ItemDraws
from explain.errors import UnknownNameError
from explain.maps import dequantise, upsample
from explain.thresholded import POLICY_STREAM, Recipe, explain_thresholded
from explain.thresholds import FixedKeep, ThresholdContext
from explain.thresholds.dynamic import Dynamic

Builder = Callable[..., nn.Module]


def images(count: int) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, 3, 16, 16, generator=generator)


class Narrow(nn.Module):
    """A network whose device has memory for a few images only."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner = inner
        self.most = most

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, or run out of memory."""
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(inputs)


def test_the_mask_is_that_of_the_stored_map(tiny_net: Builder) -> None:
    """The mask equals the policy's on the map as float16 gives it back."""
    found, layer = explain_thresholded(
        tiny_net(), images(3), Recipe(layer="body", threshold={"keep": 0.2})
    )
    large = upsample(dequantise(found.stored), (16, 16))
    assert torch.equal(found.maps, large)
    assert torch.equal(found.threshold.mask, FixedKeep(0.2).apply(large).mask)
    assert (layer, found.halved) == ("body", False)


def test_a_method_without_a_layer_names_none(tiny_net: Builder) -> None:
    """Maps of the input's size are pooled, and no layer is named."""
    recipe = Recipe(method="input_gradient", grid=4)
    found, layer = explain_thresholded(tiny_net(), images(2), recipe)
    assert layer is None
    assert found.attribution.maps.shape == (2, 4, 4)


@pytest.mark.parametrize("most", [8, 4])
def test_a_search_that_ran_out_of_memory_is_told_of(
    tiny_net: Builder, most: int
) -> None:
    """A policy's halved passes make the batch not comparable, and change no choice."""
    recipe = Recipe(
        layer="inner.body", policy="dynamic", threshold={"by": "confidence"}, chunk=8
    )
    inner = tiny_net()
    whole, _ = explain_thresholded(Narrow(inner, 99), images(4), recipe)
    tight, _ = explain_thresholded(Narrow(inner, most), images(4), recipe)
    assert not whole.halved
    assert tight.halved is (most < 8)
    assert torch.equal(tight.threshold.mask, whole.threshold.mask)


def test_a_policy_that_says_it_was_halved_is_believed(
    tiny_net: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halving inside a policy, before the score is asked, is told of as well."""
    original = Dynamic.apply

    def halved(self: Dynamic, maps: Tensor, context: ThresholdContext) -> Any:
        result = original(self, maps, context)
        return type(result)(
            **{
                name: getattr(result, name)
                for name in result.__dataclass_fields__
                if name != "halved"
            },
            halved=True,
        )

    monkeypatch.setattr(Dynamic, "apply", halved)
    found, _ = explain_thresholded(
        tiny_net(), images(2), Recipe(layer="body", policy="dynamic")
    )
    assert found.halved


def test_policies_have_random_draws_of_their_own(
    tiny_net: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of a policy overlap with no method's: they are another stream."""
    seen: list[ItemDraws | None] = []
    original = FixedKeep.apply

    def watched(self: FixedKeep, maps: Tensor, context: Any = None) -> Any:
        seen.append(context.draws)
        return original(self, maps, context)

    monkeypatch.setattr(FixedKeep, "apply", watched)
    explain_thresholded(tiny_net(), images(2), Recipe(layer="body", seed=5))
    assert seen == [ItemDraws(5, (0, 1), POLICY_STREAM)]


def test_an_unknown_method_names_the_nearest(tiny_net: Builder) -> None:
    """A misspelt method is answered with the right one, before anything runs."""
    with pytest.raises(UnknownNameError, match="Did you mean 'gradcam'"):
        explain_thresholded(tiny_net(), images(1), Recipe(method="gradcm"))
