# SPDX-License-Identifier: Apache-2.0
"""The yardsticks of the sanity gate: random networks, ranks, edges."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from explain.draws import ItemDraws
from explain.sanity import (
    SANITY_STREAM,
    edge_maps,
    random_maps,
    randomised,
    rank_correlations,
    top_layer,
)


class Backwards(nn.Module):
    """A network whose head is declared before its trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return three logits an item."""
        found: Tensor = self.head(self.trunk(inputs).mean(dim=(2, 3)))
        return found


def test_the_top_layer_is_the_last_that_is_called() -> None:
    """The order of the passes counts, not that of the declarations; no hook stays."""
    network = Backwards().eval()
    assert top_layer(network, torch.zeros(1, 3, 8, 8)) == "head"
    assert not network.head._forward_hooks


def test_only_what_is_named_is_drawn_anew() -> None:
    """The copy's head is another one, its trunk the same, the original untouched."""
    network = Backwards()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    top = randomised(network, 1, only="head").state_dict()
    whole = randomised(network, 1).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(top[name], value) == (not name.startswith("head"))
    for name, parameter in network.named_parameters():
        assert not torch.equal(whole[name], parameter)
    assert torch.equal(whole["trunk.1.running_var"], before["trunk.1.running_var"])


def test_the_draw_is_the_same_every_time() -> None:
    """Seed and network decide the random weights, which keep the trained spread."""
    network = Backwards()
    first, again = randomised(network, 5), randomised(network, 5)
    other = randomised(network, 6)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    large = nn.Linear(100, 100)
    drawn = randomised(large, 0).weight.detach().std()
    assert float(drawn) == pytest.approx(float(large.weight.detach().std()), rel=0.05)


def test_rank_correlations_are_spearmans() -> None:
    """With ties too it agrees with scipy; a constant or broken map has none."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 5, (4, 6, 6), generator=generator).float()
    two = torch.rand((4, 6, 6), generator=generator)
    two[2] = 1.0
    two[3, 0, 0] = torch.nan
    found = rank_correlations(one, two)
    for place in range(2):
        wanted = spearmanr(one[place].flatten(), two[place].flatten()).statistic
        assert found[place] == pytest.approx(wanted)
    assert found[2:] == [None, None]


def test_edges_are_where_the_picture_steps() -> None:
    """A step gives a line of edges and a plain picture none, whatever its frame."""
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 8:] = 1.0
    found = edge_maps(picture, (8, 8))[0]
    assert found.argmax(dim=1).tolist()[0] in {3, 4}
    assert float(found[:, 0].max()) == 0.0
    assert float(edge_maps(torch.ones(1, 3, 16, 16), (4, 4)).max()) == 0.0


def test_a_random_map_belongs_to_its_item() -> None:
    """The same item gets the same random map in whatever batch."""
    both = random_maps(ItemDraws(3, (10, 11), SANITY_STREAM), (7, 7))
    alone = random_maps(ItemDraws(3, (11,), SANITY_STREAM), (7, 7))
    assert torch.equal(both[1], alone[0])
    assert 0 <= float(both.min()) < float(both.max()) < 1
