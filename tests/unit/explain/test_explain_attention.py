# SPDX-License-Identifier: Apache-2.0
"""Methods of attention weights: hand-computed, and equal to slow oracles."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from explain.architectures import TappedAttention, resolve_attention, resolve_layer
from explain.errors import (
    InvalidParameterError,
    InvalidTargetError,
    UnknownLayerError,
    UnsupportedLayerError,
    UnsupportedModelError,
    ZeroGradientLayerError,
)
from explain.methods import METHODS, Attribution, create_method, resolve_tap
from explain.methods.attention_importance import attention_importance
from explain.methods.attention_rollout import rolled
from explain.methods.generic_attention import relevance

ATTENTION = [name for name, card in METHODS.items() if card.needs_attention]


def vit(*, size: int = 32, seed: int = 0) -> VisionTransformer:
    """Return a ViT of three blocks and two heads, with a head that is not zero."""
    torch.manual_seed(seed)
    model = VisionTransformer(
        image_size=size,
        patch_size=8,
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=5,
    )
    nn.init.normal_(model.heads.head.weight)
    # Attention that is nearly uniform would hide a transposed matrix.
    for block in model.encoder.layers:
        nn.init.normal_(block.self_attention.in_proj_weight, std=0.6)
    return model.eval()


def swin(seed: int = 0) -> SwinTransformer:
    """Return a Swin of two stages; one window covers the last one's grid of 4 x 4."""
    torch.manual_seed(seed)
    return SwinTransformer(
        patch_size=[4, 4],
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=[4, 4],
        num_classes=5,
    ).eval()


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator)


def explained(
    model: nn.Module, method: str, inputs: Tensor, targets: Tensor | None, **given: str
) -> Attribution:
    """Return the maps of a method at the attention that is found."""
    tap = resolve_tap(method, model, example=inputs[:1])
    return create_method(method, model, tap, **given).explain(inputs, targets)


class OneHead(nn.Module):
    """Attention with a residual; keys are the tokens, queries are one."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens and what they attend to, added."""
        key = tokens[:, None]
        query, value = torch.ones_like(key), 1 + key / math.log(3)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        return tokens + mixed[:, 0]


class TwoTokens(nn.Module):
    """Two places, one head, mean pooling: everything can be worked out by hand.

    Pixels (0, ln 3) give keys (0, ln 3), values (1, 2) and weights (1/4, 3/4).
    """

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 1, 1, bias=False)
        self.block = OneHead(fused=fused)
        self.head = nn.Linear(1, 2, bias=False)
        self.patch.weight.data.fill_(1.0)
        self.head.weight.data.copy_(torch.tensor([[2.0], [-2.0]]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return two logits, the second the first's negative."""
        tokens = self.patch(pixels).flatten(2).transpose(1, 2)
        return self.head(self.block(tokens).mean(dim=1))


BY_HAND = {
    # Rows of (A + I) / 2 are (5/8, 3/8) and (1/8, 7/8); the head reads both alike.
    "attention_rollout": (3 / 8, 5 / 8),
    # dy/dA is 1/2 of 2 times the values; times the weights it is (1/4, 3/2) each row.
    "generic_attention": (1 / 4, 3 / 2),
    # The same gradient, (1, 2) in each row.
    "legrad": (1.0, 2.0),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("method", BY_HAND)
def test_two_tokens_come_out_as_worked_out_by_hand(method: str, fused: bool) -> None:
    """Each method's definition holds on a network whose every number is known."""
    model, pixels = TwoTokens(fused=fused), torch.tensor([0.0, math.log(3)])
    inputs = pixels.view(1, 1, 1, 2)
    ours = explained(model, method, inputs, torch.tensor([0]))
    assert ours.maps.shape == (1, 1, 2)
    assert torch.allclose(ours.maps.flatten(), torch.tensor(BY_HAND[method]))
    against = explained(model, method, inputs, torch.tensor([1]))
    if METHODS[method].class_specific:
        assert not bool(against.maps.any())
    else:
        assert torch.equal(against.maps, ours.maps)


def test_the_rules_on_two_tokens_by_hand() -> None:
    """Two blocks multiply from the left; heads are averaged after the rectifier."""
    first = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
    second = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    found = rolled(torch.eye(2)[None], [first, second])
    assert torch.equal(found, torch.tensor([[[0.75, 0.25], [0.28125, 0.71875]]]))
    weights = torch.stack([first, second], dim=1)
    slopes = torch.tensor([[[[2.0, -1.0], [4.0, 0.0]], [[1.0, 5.0], [-2.0, 2.0]]]])
    expected = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    assert torch.equal(relevance(weights, slopes), expected)


class SlowAttention(nn.Module):
    """Multi-head attention by loops over heads, which keeps its weights."""

    def __init__(self, fast: nn.MultiheadAttention) -> None:
        super().__init__()
        self.fast, self.kept = fast, list[Tensor]()

    def forward(self, tokens: Tensor, *_: Tensor, **__: bool) -> tuple[Tensor, None]:
        """Return the attended tokens."""
        width, heads = self.fast.embed_dim, self.fast.num_heads
        each = width // heads
        joint = tokens @ self.fast.in_proj_weight.T + self.fast.in_proj_bias
        query, key, value = joint.split(width, dim=-1)
        self.kept, mixed = [], []
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            scores = query[..., part] @ key[..., part].transpose(1, 2)
            weights = torch.exp(scores / each**0.5)
            weights = weights / weights.sum(dim=-1, keepdim=True)
            self.kept.append(weights)
            mixed.append(weights @ value[..., part])
        return self.fast.out_proj(torch.cat(mixed, dim=-1)), None


def slow_twin(
    model: VisionTransformer,
) -> tuple[VisionTransformer, list[SlowAttention]]:
    """Return the network in float64 with attention that keeps its weights."""
    twin = copy.deepcopy(model).double()
    kept = []
    for block in twin.encoder.layers:
        block.self_attention = SlowAttention(block.self_attention)
        kept.append(block.self_attention)
    return twin, kept


def slow_rollout(model: VisionTransformer, image: Tensor, _target: int) -> Tensor:
    """Return the whole rollout matrix' class row, (L,)."""
    twin, kept = slow_twin(model)
    twin(image[None].double())
    identity = torch.eye(kept[0].kept[0].shape[-1], dtype=torch.float64)
    rollout = identity
    for block in kept:
        mean = torch.stack(block.kept).mean(dim=0)[0]
        rollout = (0.5 * mean + 0.5 * identity) @ rollout
    assert torch.allclose(rollout.sum(dim=1), torch.ones_like(rollout[0]))
    return rollout[0].detach()


def slow_generic(model: VisionTransformer, image: Tensor, target: int) -> Tensor:
    """Return the whole relevancy matrix' class row, (L,)."""
    twin, kept = slow_twin(model)
    score = twin(image[None].double())[0, target]
    relevancy = torch.eye(kept[0].kept[0].shape[-1], dtype=torch.float64)
    for block in kept:
        heads = torch.stack(block.kept)[:, 0]
        slopes = torch.autograd.grad(score, block.kept, retain_graph=True)
        products = torch.stack([slope[0] for slope in slopes]) * heads
        relevancy = relevancy + products.clamp(min=0).mean(dim=0) @ relevancy
    return relevancy[0].detach()


def slow_legrad(model: VisionTransformer, image: Tensor, target: int) -> Tensor:
    """Return the mean over blocks of each one's rectified slopes, (L,)."""
    twin, kept = slow_twin(model)
    behind: list[Tensor] = []
    for block in twin.encoder.layers:
        block.register_forward_hook(lambda _m, _i, output: behind.append(output))
    twin(image[None].double())
    total = torch.zeros(kept[0].kept[0].shape[-1], dtype=torch.float64)
    for block, tokens in zip(kept, behind, strict=True):
        score = twin.heads(twin.encoder.ln(tokens.mean(dim=1)))[0, target]
        slopes = torch.autograd.grad(score, block.kept, retain_graph=True)
        total += torch.stack(slopes)[:, 0].clamp(min=0).mean(dim=(0, 1))
    return total / len(kept)


SLOW: dict[str, Callable[[VisionTransformer, Tensor, int], Tensor]] = {
    "attention_rollout": slow_rollout,
    "generic_attention": slow_generic,
    "legrad": slow_legrad,
}


@pytest.mark.parametrize("method", ATTENTION)
def test_equals_a_slow_float64_implementation(method: str) -> None:
    """R17: the papers' whole matrices in float64 have our maps in their rows."""
    model, inputs = vit(), images(3, seed=4)
    ours = explained(model, method, inputs, torch.tensor([1, 3, 0]))
    assert ours.maps.shape == (3, 4, 4)
    for item, target in enumerate((1, 3, 0)):
        expected = SLOW[method](model, inputs[item], target)[1:].view(4, 4)
        error = (ours.maps[item].double() - expected).abs().max()
        assert error < 1e-5 * expected.max()
        assert expected.max() > 2 * expected.min()


def test_rollout_rows_sum_to_one() -> None:
    """What the class token and the places get of a row adds up to 1."""
    model, inputs = vit(), images(2)
    ours = explained(model, "attention_rollout", inputs, None)
    rest = [float(slow_rollout(model, image, 0)[0]) for image in inputs]
    for share, own in zip(ours.maps.flatten(1).sum(dim=1), rest, strict=True):
        assert abs(float(share) + own - 1) < 1e-5


def test_uniform_attention_gives_a_uniform_map() -> None:
    """R17: where every query is zero, no place stands out."""
    model = vit()
    for block in model.encoder.layers:
        block.self_attention.in_proj_weight.data[:16] = 0
        block.self_attention.in_proj_bias.data[:16] = 0
    maps = explained(model, "attention_rollout", images(2), None).maps
    assert torch.allclose(maps, maps[:, :1, :1].expand_as(maps))


def test_legrad_equals_torchcam() -> None:
    """R17: scaled to [0, 1] our map is torch-cam's, whose default pools the mean."""
    torchcam = pytest.importorskip("torchcam.methods")
    model, inputs = vit(), images(2, seed=7)
    ours = explained(model, "legrad", inputs, torch.tensor([2, 4])).maps
    with torchcam.LeGrad(model, list(model.encoder.layers)) as extractor:
        scores = model(inputs)
        (oracle,) = extractor([2, 4], scores)
    low = ours.amin(dim=(1, 2), keepdim=True)
    scaled = (ours - low) / (ours.amax(dim=(1, 2), keepdim=True) - low)
    assert torch.allclose(scaled, oracle.detach().view_as(scaled), atol=1e-5)


def test_legrad_by_the_networks_own_head_reads_the_class_token() -> None:
    """With pooling "head" the last block's score is the network's own logit."""
    model, inputs = vit(), images(2)
    ours = explained(model, "legrad", inputs, torch.tensor([2, 4]), pooling="head")
    pooled = explained(model, "legrad", inputs, torch.tensor([2, 4]))
    assert torch.allclose(ours.logits, model(inputs), atol=1e-5)
    assert not torch.allclose(ours.maps, pooled.maps, rtol=0.1)
    with pytest.raises(InvalidParameterError, match="pooling"):
        explained(model, "legrad", inputs, None, pooling="max")


@pytest.mark.parametrize("build", [vit, swin])
@pytest.mark.parametrize("method", ATTENTION)
def test_an_item_does_not_depend_on_its_neighbours(
    method: str, build: Callable[[], nn.Module]
) -> None:
    """Other neighbours and another place in the batch leave the same bits."""
    model, first, second = build(), images(4, seed=1), images(4, seed=2)
    second[3] = first[1]
    ours = explained(model, method, first, torch.tensor([4, 2, 0, 1]))
    others = explained(model, method, second, torch.tensor([0, 1, 3, 2]))
    assert torch.equal(ours.maps[1], others.maps[3])
    assert float(ours.maps[1].max()) > 0


@pytest.mark.parametrize("method", ATTENTION)
def test_several_targets_share_a_forward(method: str) -> None:
    """Rows of targets give the map of each, and each equals its own explanation."""
    model, inputs = vit(), images(2)
    rows = torch.tensor([[0, 1, 2], [4, 3, 2]])
    ours = explained(model, method, inputs, rows)
    assert ours.maps.shape == (2, 3, 4, 4)
    assert ours.zero_gradient.shape == (2, 3)
    for column in range(3):
        alone = explained(model, method, inputs, rows[:, column]).maps
        assert torch.allclose(ours.maps[:, column], alone, atol=1e-7)
    same = torch.equal(ours.maps[:, 0], ours.maps[:, 1])
    assert same is not METHODS[method].class_specific


@pytest.mark.parametrize("method", ATTENTION)
def test_written_out_attention_gives_the_maps_of_fused_attention(method: str) -> None:
    """Timm with and without fused attention is explained alike, registers left out."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=5,
        reg_tokens=3,
    ).eval()
    nn.init.normal_(model.head.weight)
    inputs, targets = images(2), torch.tensor([1, 2])
    tap = resolve_attention(model, example=inputs)
    assert (tap.tokens.prefix, tap.readers) == (4, (0,))
    fused = explained(model, method, inputs, targets)
    for block in model.blocks:
        assert block.attn.fused_attn
        block.attn.fused_attn = False
    plain = explained(model, method, inputs, targets)
    assert fused.maps.shape == (2, 4, 4)
    assert torch.allclose(fused.maps, plain.maps, rtol=1e-3, atol=1e-7)


def test_mean_pooling_is_read_at_every_place() -> None:
    """Where the head averages places, each of their rows counts, registers do not."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=(16, 32),
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=5,
        class_token=False,
        reg_tokens=2,
        global_pool="avg",
    ).eval()
    nn.init.normal_(model.head.weight)
    inputs = torch.randn(2, 3, 16, 32)
    tap = resolve_attention(model, example=inputs)
    assert tap.readers == tuple(range(2, 10))
    assert (tap.tokens.prefix, tap.tokens.height, tap.tokens.width) == (2, 2, 4)
    for method in ATTENTION:
        assert explained(model, method, inputs, None).maps.shape == (2, 2, 4)


def test_swin_is_read_in_its_last_stage_only() -> None:
    """One window covers the last stage; the windows before it are not."""
    tap = resolve_attention(swin(), example=images(1))
    assert tap.modules == ("features.3.0.attn", "features.3.1.attn")
    assert tap.total == 4
    assert "last 2 of 4 blocks" in tap.reason
    assert len(tap.readers) == 16
    with pytest.raises(UnsupportedModelError, match="windows smaller than the grid"):
        resolve_attention(swin(), example=images(1, 64))


def test_networks_without_such_attention_are_refused() -> None:
    """A convolutional network, and one with a head of zeros, get a clear refusal."""
    convolutions = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.raises(UnsupportedModelError, match=r"no attention.*gradcam"):
        resolve_attention(convolutions, example=images(1))
    blank = vit()
    nn.init.zeros_(blank.heads.head.weight)
    with pytest.raises(ZeroGradientLayerError, match="head all zero"):
        resolve_attention(blank, example=images(1))


def test_only_the_last_attention_can_be_named() -> None:
    """A name that would mean another set of blocks is refused."""
    model, example = vit(), images(1)
    last = "encoder.layers.encoder_layer_2.self_attention"
    assert resolve_attention(model, last, example).name == last
    with pytest.raises(UnsupportedLayerError, match=r"leave the layer at 'auto'"):
        resolve_attention(model, last.replace("_2", "_1"), example)
    with pytest.raises(UnknownLayerError):
        resolve_attention(model, "nowhere", example)
    with pytest.raises(InvalidParameterError, match="resolve_tap"):
        create_method("legrad", model, resolve_layer(model, example=example))


@pytest.mark.parametrize("method", ATTENTION)
def test_the_model_is_given_back_on_every_path(method: str) -> None:
    """Hooks, modes, flags and torch's function modes are as before, also on errors."""
    model, inputs = vit().train(), images(2)
    tap = resolve_tap(method, model, example=inputs)
    ours = create_method(method, model, tap)
    ours.explain(inputs, None)
    with pytest.raises(InvalidTargetError):
        ours.explain(inputs, torch.tensor([0, 9]))

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    hook = model.heads.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        ours.explain(inputs, None)
    hook.remove()
    assert not _get_current_function_mode_stack()
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter in model.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize("method", ATTENTION)
def test_a_bad_item_spoils_only_itself(method: str) -> None:
    """NaN in one image gives it NaN throughout, and leaves the others' bits."""
    model, inputs = vit(), images(3)
    sound = explained(model, method, inputs, torch.tensor([0, 1, 2]))
    inputs[1, 0, 0, 0] = torch.nan
    tap = resolve_tap(method, model, example=images(1))
    ours = create_method(method, model, tap).explain(inputs, torch.tensor([0, 1, 2]))
    assert bool(ours.maps[1].isnan().all())
    assert torch.equal(ours.maps[0], sound.maps[0])
    assert torch.equal(ours.maps[2], sound.maps[2])


@pytest.mark.parametrize("method", ATTENTION)
def test_half_precision_is_explained_in_float32(method: str) -> None:
    """bfloat16 networks give float32 maps close to the full ones."""
    model, inputs = vit(), images(2)
    full = explained(model, method, inputs, torch.tensor([0, 1])).maps
    half = explained(model.bfloat16(), method, inputs.bfloat16(), torch.tensor([0, 1]))
    assert half.maps.dtype == torch.float32
    pair = torch.stack([half.maps.flatten(), full.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.9


def test_another_number_of_tokens_is_refused() -> None:
    """Attention resolved on one image size does not silently reshape another's."""
    tap = resolve_attention(vit(size=32), example=images(1))
    assert isinstance(tap, TappedAttention)
    method = create_method("attention_rollout", vit(size=64), tap)
    with pytest.raises(UnsupportedLayerError, match="17 x 17 for each item"):
        method.explain(images(1, 64), None)


@pytest.mark.parametrize("fused", [True, False])
def test_head_importance_by_hand(fused: bool) -> None:
    """Two rows of 1/4 x 1 + 3/4 x 2 speak for one class and against the other."""
    model = TwoTokens(fused=fused)
    inputs = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2).expand(2, 1, 1, 2)
    tap = resolve_attention(model, example=inputs)
    found = attention_importance(model, tap, inputs, torch.tensor([0, 1]))
    assert torch.allclose(found.heads, torch.tensor([3.5, -3.5]).view(2, 1, 1))
    assert torch.allclose(found.blocks, torch.full((2, 1), 3.5))


def test_importance_sums_weights_times_their_slope() -> None:
    """Of every head of every block, as a slow twin in float64 has it."""
    model, inputs, target = vit(), images(2, seed=3), 2
    tap = resolve_attention(model, example=inputs)
    found = attention_importance(model, tap, inputs, torch.tensor([target] * 2))
    assert found.heads.shape == (2, 3, 2)
    twin, kept = slow_twin(model)
    score = twin(inputs[:1].double())[0, target]
    for number, block in enumerate(kept):
        slopes = torch.autograd.grad(score, block.kept, retain_graph=True)
        for head, slope in enumerate(slopes):
            expected = float((slope * block.kept[head].detach()).sum())
            ours = float(found.heads[0, number, head])
            assert abs(ours - expected) < 1e-4 * max(1.0, abs(expected))
