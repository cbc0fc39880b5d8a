# SPDX-License-Identifier: Apache-2.0
"""GNNExplainer, attention and fidelity: against torch-geometric's own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidParameterError, UnsupportedModelError
from explain.graphs.content import Graph, make_graph
from explain.graphs.gated import GraphNetwork
from explain.maps import quantise
from explain.methods import Attribution, create_method
from explain.metrics import MetricBatch, create_metric
from tests.support.graph_samples import FEATURES, network, random_graph, tensors
from tests.support.rows_kind import GatedRows, Numbers

KINDS = ("gin", "gcn", "gat")
CONFIG = {
    "mode": "multiclass_classification",
    "task_level": "graph",
    "return_type": "raw",
}


def _peer(model: nn.Module, algorithm: Any) -> Any:
    from torch_geometric.explain import Explainer

    return Explainer(
        model,
        algorithm,
        explanation_type="model",
        edge_mask_type="object",
        model_config=CONFIG,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gnn_explainer_is_torch_geometrics_from_the_same_start(kind: str) -> None:
    """The same loss, the same steps: the same mask."""
    from torch_geometric.explain import GNNExplainer

    graph = random_graph(8, 12, seed=3, undirected=False)
    draws = ItemDraws(5, (9,))
    start = draws.normal(0, (12,))[0] * (2**0.5 * (1 / graph.nodes) ** 0.5)

    class SameStart(GNNExplainer):
        def _initialize_masks(self, *_arguments: Any) -> None:
            self.node_mask = self.hard_node_mask = self.hard_edge_mask = None
            self.edge_mask = nn.Parameter(start.clone())

    model = network(kind)
    x, edges, batch = tensors(graph)
    peer = _peer(model, SameStart(epochs=40, lr=0.05))
    expected = peer(x, edges, batch=batch).edge_mask
    gated = GraphNetwork(model, [graph])
    method = create_method("gnn_explainer", gated, steps=40, rate=0.05)
    context = ItemContext(draws=draws)
    found = method.explain(gated.open_gates(), None, context).maps[0, 0]
    assert torch.allclose(found, expected, atol=1e-4)
    assert float((expected - 0.5).abs().max()) > 0.2


def test_gnn_explainer_draws_from_the_item() -> None:
    """The same item gives the same bits, another item another start."""
    graph = random_graph(8, 12)
    gated = GraphNetwork(network("gin"), [graph])
    method = create_method("gnn_explainer", gated, steps=3)

    def explained(seed: int, index: int) -> Tensor:
        context = ItemContext(draws=ItemDraws(seed, (index,)))
        return method.explain(gated.open_gates(), None, context).maps

    assert torch.equal(explained(1, 4), explained(1, 4))
    assert not torch.equal(explained(1, 4), explained(1, 5))
    assert not torch.equal(explained(1, 4), explained(2, 4))


def test_gnn_explainer_explains_several_targets() -> None:
    """Each target's mask is that of the target alone."""
    gated = GraphNetwork(network("gin"), [random_graph(6, 7), random_graph(5, 5)])
    method = create_method("gnn_explainer", gated, steps=5)
    both = method.explain(gated.open_gates(), torch.tensor([[0, 2], [1, 0]]))
    assert both.maps.shape == (2, 2, 1, 7)
    second = method.explain(gated.open_gates(), torch.tensor([2, 0]))
    assert torch.equal(both.maps[:, 1], second.maps)
    assert both.zero_gradient.tolist() == [[False, False], [False, False]]


def test_units_that_the_class_does_not_use_are_zero() -> None:
    """A constant network gives a blank mask that says so; frozen units stay out."""

    class OneEdge(nn.Module):
        def forward(
            self, x: Tensor, edge_index: Tensor, batch: Tensor, edge_weight: Tensor
        ) -> Tensor:
            del x, edge_index
            graphs = int(batch.max()) + 1
            first = edge_weight.view(graphs, -1)[:, :1]
            return torch.cat([first * 2, -first], dim=1) * self.use

        use = 1.0

    model = OneEdge()
    graph = random_graph(4, 3, undirected=False)
    gated = GraphNetwork(model, [graph])
    method = create_method("gnn_explainer", gated, steps=30, rate=0.1)
    found = method.explain(gated.open_gates(), torch.tensor([0]))
    assert found.maps[0, 0, 0] > 0.5
    assert found.maps[0, 0, 1:].tolist() == [0, 0]
    model.use = 0.0
    blank = method.explain(gated.open_gates(), torch.tensor([0]))
    assert blank.zero_gradient.tolist() == [True]
    assert not blank.maps.any()


def test_a_network_that_cuts_gradients_is_refused() -> None:
    """A sentence, not an error of autograd."""

    class Cut(nn.Module):
        def forward(
            self, x: Tensor, edge_index: Tensor, batch: Tensor, edge_weight: Tensor
        ) -> Tensor:
            del x, edge_index, edge_weight
            return torch.ones(int(batch.max()) + 1, 2)

    gated = GraphNetwork(Cut(), [random_graph(4, 3)])
    with pytest.raises(UnsupportedModelError, match="do not depend"):
        create_method("gnn_explainer", gated).explain(gated.open_gates(), None)


@pytest.mark.parametrize("over", ["mean", "max"])
def test_attention_is_torch_geometrics(over: str) -> None:
    """Heads and layers put together alike; directions are units of their own here."""
    from torch_geometric.explain import AttentionExplainer

    model = network("gat")
    graph = random_graph(8, 14, seed=2, undirected=False)
    x, edges, batch = tensors(graph)
    peer = _peer(model, AttentionExplainer(reduce=over))
    expected = peer(x, edges, batch=batch).edge_mask
    gated = GraphNetwork(model, [graph])
    found = create_method("graph_attention", gated, over=over).explain(
        gated.open_gates(), None
    )
    assert torch.allclose(found.maps[0, 0], expected, atol=1e-6)


def test_attention_of_a_loop_is_left_out() -> None:
    """A layer that replaces loops shifts its edges; the weights still find theirs."""
    model = network("gat")
    bare = random_graph(5, 6, seed=1)
    loops = np.array([[0, 3], [0, 3]])
    looped = make_graph(
        bare.features,
        np.concatenate([loops, bare.edges], axis=1),
        undirected=True,
    )
    maps = []
    for graph in (bare, looped):
        gated = GraphNetwork(model, [graph])
        method = create_method("graph_attention", gated)
        maps.append(method.explain(gated.open_gates(), None).maps[0, 0])
    assert maps[1][:2].tolist() == [0, 0]
    assert torch.allclose(maps[1][2:], maps[0], atol=1e-6)


def test_attention_of_an_edge_is_the_mean_of_its_directions() -> None:
    """Two nodes and one edge: with the loop that is added, hand-computed halves."""
    from torch_geometric.nn import GATConv, global_add_pool

    class OneLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = GATConv(FEATURES, 2)
            nn.init.zeros_(self.layer.att_src)
            nn.init.zeros_(self.layer.att_dst)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            return global_add_pool(self.layer(x, edge_index), batch)

    features = np.ones((3, FEATURES), dtype=np.float32)
    graph = make_graph(features, np.array([[0, 1], [1, 2]]), undirected=True)
    gated = GraphNetwork(OneLayer().eval(), [graph])
    found = create_method("graph_attention", gated).explain(gated.open_gates(), None)
    # Node 1 shares among two neighbours and itself, an end with one and itself.
    assert found.maps[0, 0].tolist() == pytest.approx([(1 / 3 + 1 / 2) / 2] * 2)


@pytest.mark.parametrize("kind", ["gin", "gcn"])
def test_networks_without_attention_are_refused(kind: str) -> None:
    """And the sentence says what to take instead."""
    gated = GraphNetwork(network(kind), [random_graph(5, 6)])
    with pytest.raises(UnsupportedModelError, match="gnn_explainer"):
        create_method("graph_attention", gated).explain(gated.open_gates(), None)


def test_attention_ranks_edges_only() -> None:
    """Nodes have none."""
    gated = GraphNetwork(network("gat"), [random_graph(5, 6, per="node")])
    with pytest.raises(UnsupportedModelError, match="per to edge"):
        create_method("graph_attention", gated)


@pytest.mark.parametrize("method", ["gnn_explainer", "graph_attention"])
def test_other_kinds_of_items_are_refused(method: str) -> None:
    """These two know edges and nodes, not columns."""
    rows = GatedRows(nn.Linear(3, 2), [Numbers((1.0, 2.0, 3.0))])
    with pytest.raises(UnsupportedModelError, match="explains graphs"):
        create_method(method, rows)


def test_parameters_are_checked() -> None:
    """Out of range or unknown is said."""
    gated = GraphNetwork(network("gin"), [random_graph(5, 6)])
    with pytest.raises(InvalidParameterError, match="steps"):
        create_method("gnn_explainer", gated, steps=0)


def _batch(gated: GraphNetwork, mask: Tensor, maps: Tensor) -> MetricBatch:
    gates = gated.open_gates()
    with torch.no_grad():
        logits = gated(gates)

    def explain(_inputs: Tensor, _targets: Tensor) -> Attribution:
        raise AssertionError

    return MetricBatch(
        inputs=gates,
        targets=logits.argmax(dim=1),
        logits=logits,
        stored=quantise(maps),
        maps=maps,
        mask=mask,
        ground_truth=None,
        has_truth=torch.tensor([False]),
        valid=torch.tensor([True]),
        forward=gated,
        explain=explain,
        draws=ItemDraws.counted(1),
        input_range=torch.ones(1),
    )


def _parted(graph: Graph, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(1, *graph.units, generator=generator)
    return maps, maps > maps.median()


def test_fidelity_is_torch_geometrics() -> None:
    """On 24 graphs, of which some change class and some do not."""
    from torch_geometric.explain import DummyExplainer, Explanation
    from torch_geometric.explain.metric import fidelity

    model = network("gin", seed=3)
    graphs = [random_graph(6, 8, seed=seed, undirected=False) for seed in range(24)]
    with torch.no_grad():
        # Around their mean the logits of random weights differ in class.
        said = torch.cat([model(*tensors(graph)) for graph in graphs])
        model.out.bias -= said.mean(dim=0)
    seen = set()
    for seed, graph in enumerate(graphs):
        maps, mask = _parted(graph, seed)
        gated = GraphNetwork(model, [graph])
        batch = _batch(gated, mask, maps)
        ours = tuple(
            float(create_metric(name).measure(batch)[name].values[0])
            for name in ("fidelity_plus", "fidelity_minus")
        )
        x, edges, index = tensors(graph)
        explanation = Explanation(
            x=x,
            edge_index=edges,
            edge_mask=mask[0, 0].float(),
            target=batch.targets,
            batch=index,
        )
        explanation._model_args = ["batch"]
        assert ours == fidelity(_peer(model, DummyExplainer()), explanation)
        seen.add(ours)
    assert len(seen) >= 3


def test_fidelity_of_probabilities_is_comprehensiveness_and_sufficiency() -> None:
    """What those two cards say: p of the whole minus p of the changed graph."""
    model = network("gcn", seed=1)
    graph = random_graph(7, 9, seed=1)
    maps, mask = _parted(graph, 1)
    gated = GraphNetwork(model, [graph])
    batch = _batch(gated, mask, maps)

    def probability(gates: Tensor) -> float:
        with torch.no_grad():
            return float(gated(gates).double().softmax(1)[0, int(batch.targets[0])])

    whole = probability(gated.open_gates())
    without = whole - probability((~mask).float()[None])
    alone = whole - probability(mask.float()[None])
    for name, expected in (("comprehensiveness", without), ("sufficiency", alone)):
        found = float(create_metric(name).measure(batch)[name].values[0])
        assert found == pytest.approx(expected, abs=1e-6)


def test_fidelity_of_an_empty_mask_is_absent() -> None:
    """Nothing kept says nothing."""
    graph = random_graph(6, 8)
    gated = GraphNetwork(network("gin"), [graph])
    maps, _mask = _parted(graph, 0)
    batch = _batch(gated, torch.zeros(1, 1, 8, dtype=torch.bool), maps)
    column = create_metric("fidelity_plus").measure(batch)["fidelity_plus"]
    assert column.absent == ("empty_mask",)
