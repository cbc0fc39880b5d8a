# SPDX-License-Identifier: Apache-2.0
"""Layouts: what is a place, what is a channel, and what is neither."""

import pytest
import torch
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.architectures.layouts import ChannelsFirst, ChannelsLast, Layout, Tokens
from explain.errors import UnsupportedLayerError, UnsupportedModelError

LAYOUTS: list[tuple[Layout, tuple[int, ...]]] = [
    (ChannelsFirst(), (2, 5, 3, 4)),
    (ChannelsLast(), (2, 3, 4, 5)),
    (Tokens(0, 3, 4), (2, 12, 5)),
    (Tokens(2, 3, 4), (2, 14, 5)),
]


def numbered(shape: tuple[int, ...]) -> Tensor:
    """Return a tensor whose values are all different."""
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
def test_a_map_is_a_view_that_goes_back(layout: Layout, shape: tuple[int, ...]) -> None:
    """The map shares the output's memory, and from_map undoes to_map."""
    output = numbered(shape)
    maps = layout.to_map(output)
    assert maps.shape == (2, 5, 3, 4)
    assert maps.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    assert layout.fits(output)
    assert torch.equal(layout.from_map(maps, output), output)


def test_channels_last_puts_each_channel_in_its_place() -> None:
    """Value (n, h, w, c) of the output is value (n, c, h, w) of the map."""
    output = numbered((2, 3, 4, 5))
    assert ChannelsLast().to_map(output)[1, 4, 2, 3] == output[1, 2, 3, 4]


def test_tokens_are_places_row_by_row_after_the_prefix() -> None:
    """Token prefix + row * width + column is the place (row, column)."""
    output = numbered((2, 14, 5))
    assert Tokens(2, 3, 4).to_map(output)[1, 4, 2, 3] == output[1, 2 + 2 * 4 + 3, 4]


def test_the_prefix_of_one_item_serves_many_maps() -> None:
    """Perturbed maps of an item take its class token."""
    like = numbered((1, 5, 2))
    tokens = Tokens(1, 2, 2).from_map(torch.zeros(3, 2, 2, 2), like)
    assert tokens.shape == (3, 5, 2)
    assert torch.equal(tokens[2, 0], like[0, 0])
    assert not tokens[:, 1:].any()


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (ChannelsFirst(), (2, 12, 5)),
        (ChannelsLast(), (2, 12, 5)),
        (Tokens(1, 3, 4), (2, 12, 5)),
        (Tokens(0, 3, 4), (2, 12, 5, 1)),
    ],
)
def test_another_shape_does_not_fit(layout: Layout, shape: tuple[int, ...]) -> None:
    """What cannot be read as the layout is known before it is read."""
    assert not layout.fits(torch.zeros(shape))


class Grid(nn.Module):
    """A patch embedding, tokens before the places, one norm, a mean as the head."""

    def __init__(self, prefix: int, *, patches: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 6, 8, stride=8) if patches else nn.Linear(192, 6)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 6))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        if isinstance(self.patch, nn.Conv2d):
            places = self.patch(images).flatten(2).transpose(1, 2)
        else:
            cut = nn.functional.unfold(images, 8, stride=8)
            places = self.patch(cut.transpose(1, 2))
        tokens = torch.cat([self.prefix.expand(len(images), -1, -1), places], dim=1)
        return self.head(self.norm(tokens).mean(dim=1))


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(32, 32), (24, 48), (48, 16)])
def test_the_grid_is_that_of_the_patch_embedding(
    prefix: int, size: tuple[int, int]
) -> None:
    """Class and register tokens are told from places, on grids of any aspect."""
    found = resolve_layer(Grid(prefix), example=torch.zeros(1, 3, *size))
    assert found.name == "norm"
    assert found.layout == Tokens(prefix, size[0] // 8, size[1] // 8)
    assert found.shape == (1, 6, size[0] // 8, size[1] // 8)


def test_without_a_convolution_the_grid_is_a_square() -> None:
    """A linear patch embedding leaves no map to read the grid from."""
    found = resolve_layer(
        Grid(1, patches=False), "norm", example=torch.zeros(1, 3, 32, 32)
    )
    assert found.layout == Tokens(1, 4, 4)


class Halving(nn.Module):
    """Patches merged two by two into tokens, as Swin does in token form."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.merge = nn.Linear(24, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        merged = nn.functional.unfold(self.patch(images), 2, stride=2)
        tokens = self.norm(self.merge(merged.transpose(1, 2)))
        return self.head(tokens.mean(dim=1))


def test_merged_tokens_lie_on_the_halved_grid() -> None:
    """12 x 4 patches halved are 6 x 2 places, not a square and a rest."""
    found = resolve_layer(Halving(), example=torch.zeros(1, 3, 48, 16))
    assert found.layout == Tokens(0, 6, 2)


class Words(nn.Module):
    """A classifier of sequences behind a convolution that is no patch embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 32)
        self.widen = nn.Linear(4, 40 * 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        words = self.widen(self.stem(images).flatten(1)).unflatten(1, (40, 4))
        return self.head(self.block(words).mean(dim=1))


def test_tokens_that_are_no_places_are_refused() -> None:
    """Forty tokens of one place have no grid, and one sentence says so."""
    with pytest.raises(UnsupportedModelError, match="on no grid of image patches"):
        resolve_layer(Words(), example=torch.zeros(1, 3, 32, 32))


class Cube(nn.Module):
    """Maps of as many channels as rows and columns, in both layouts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 4, 8, stride=8)
        self.mix = nn.Sequential(nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 4))
        self.both = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        mixed = self.mix(self.patch(images).permute(0, 2, 3, 1))
        return self.head(self.both(mixed).mean(dim=(1, 2)))


def test_a_cube_takes_the_layout_of_what_lies_inside() -> None:
    """With C = h = w a shape says nothing; the layers inside a container do."""
    model, example = Cube(), torch.zeros(1, 3, 32, 32)
    assert isinstance(resolve_layer(model, "mix", example).layout, ChannelsLast)
    assert isinstance(resolve_layer(model, "patch", example).layout, ChannelsFirst)


@pytest.mark.parametrize("layer", ["both", "mix.1"])
def test_a_cube_that_cannot_be_read_is_refused(layer: str) -> None:
    """Where nothing tells channels from places, no map is guessed."""
    with pytest.raises(UnsupportedLayerError, match="cannot be told from its places"):
        resolve_layer(Cube(), layer, torch.zeros(1, 3, 32, 32))
