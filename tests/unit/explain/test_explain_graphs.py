# SPDX-License-Identifier: Apache-2.0
"""Graph networks behind gates: against graphs that are cut, and against peers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.graphs.content import make_graph, marked_units
from explain.graphs.gated import GraphNetwork
from explain.methods import create_method
from explain.methods.method import Attribution
from tests.support.graph_samples import (
    FEATURES,
    PlainGnn,
    network,
    random_graph,
    tensors,
)

KINDS = ("gin", "gcn", "gat")


def _features(nodes: int) -> Any:
    return np.random.default_rng(0).normal(size=(nodes, FEATURES)).astype(np.float32)


def _explained(
    model: nn.Module, graphs: list[Any], method: str, **parameters: Any
) -> Attribution:
    gated = GraphNetwork(model, graphs)
    return create_method(method, gated, **parameters).explain(gated.open_gates(), None)


def test_an_undirected_edge_is_one_unit() -> None:
    """Stored once, twice or in parallel, it is one unit; directions are completed."""
    edges = np.array([[0, 1, 2, 1, 3], [1, 0, 1, 2, 3]])
    graph = make_graph(_features(4), edges, undirected=True)
    assert graph.units == (1, 3)
    assert graph.unit_of_edge.tolist() == [0, 0, 1, 1, 2]
    assert graph.pairs.tolist() == [[0, 2, 3], [1, 1, 3]]
    assert graph.edges.tolist() == edges.tolist()
    once = make_graph(_features(4), edges[:, [0, 2, 4]], undirected=True)
    assert once.edges.tolist() == [[0, 2, 3, 1, 1], [1, 1, 3, 0, 2]]
    assert once.unit_of_edge.tolist() == [0, 1, 2, 0, 1]
    directed = make_graph(_features(4), edges, undirected=False)
    assert directed.units == (1, 5)
    assert make_graph(_features(4), edges, undirected=True, per="node").units == (1, 4)


def test_marks_of_stored_edges_are_marks_of_units() -> None:
    """One marked direction marks the edge."""
    edges = np.array([[0, 1, 2], [1, 0, 1]])
    graph = make_graph(_features(3), edges, undirected=True)
    assert marked_units(graph, np.array([False, True, False])).tolist() == [
        [True, False]
    ]
    nodes = dataclasses.replace(graph, per="node")
    assert marked_units(nodes, np.array([True, False, True])).tolist() == [
        [True, False, True]
    ]


@pytest.mark.parametrize(
    ("features", "edges"),
    [((0, 5), [[], []]), ((2, 5), [[0], [2]]), ((2, 5), [[-1], [0]])],
)
def test_what_is_no_graph_is_refused(features: Any, edges: Any) -> None:
    """No node, and edges to nowhere."""
    index = np.array(edges, dtype=np.int64).reshape(2, -1)
    with pytest.raises(InvalidInputError):
        make_graph(np.zeros(features, dtype=np.float32), index, undirected=False)


@pytest.mark.parametrize("kind", KINDS)
def test_open_gates_are_the_graphs_themselves(kind: str) -> None:
    """Behind open gates the network says what it says of each graph, bit for bit."""
    model = network(kind)
    graphs = [random_graph(6, 8), random_graph(9, 5, seed=1), random_graph(3, 1)]
    gated = GraphNetwork(model, graphs)
    with torch.no_grad():
        found = gated(gated.open_gates())
        expected = torch.cat([model(*tensors(graph)) for graph in graphs])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("loops", [False, True])
def test_a_closed_gate_is_a_missing_edge(loops: bool) -> None:
    """In sums of messages, a graph without the edge says the same."""
    model = network("gin")
    graph = random_graph(7, 9, loops=loops)
    gated = GraphNetwork(model, [graph])
    for unit in range(graph.units[1]):
        gates = gated.open_gates()
        gates[0, 0, 0, unit] = 0
        stays = graph.unit_of_edge != unit
        x, edges, batch = tensors(graph)
        with torch.no_grad():
            cut = model(x, edges[:, torch.from_numpy(stays)], batch)
            assert torch.allclose(gated(gates), cut, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_half_open_gates_are_masks_of_torch_geometric(kind: str) -> None:
    """The same messages are scaled as by its own explainers, loops added or not."""
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

    model = network(kind)
    graph = random_graph(9, 14, seed=2)
    gates = torch.rand(graph.units[1], generator=torch.Generator().manual_seed(3))
    x, edges, batch = tensors(graph)
    with torch.no_grad():
        found = GraphNetwork(model, [graph])(gates[None, None, None])
        mask = gates[torch.from_numpy(graph.unit_of_edge)]
        set_masks(model, mask, edges, apply_sigmoid=False)
        expected = model(x, edges, batch)
        clear_masks(model)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("SAGEConv", {}),
        ("GraphConv", {}),
        ("GATv2Conv", {"heads": 2, "concat": False}),
        ("TransformerConv", {"heads": 2, "concat": False}),
        ("TAGConv", {"K": 2}),
        ("ChebConv", {"K": 3}),
        ("SGConv", {"K": 2}),
        ("LEConv", {}),
        ("ARMAConv", {"num_layers": 2}),
        ("ResGatedGraphConv", {}),
    ],
)
def test_other_layers_are_gated_alike(layer: str, options: dict[str, Any]) -> None:
    """Whatever a layer does with edges before its messages: two of each in a row."""
    import torch_geometric.nn
    from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

    build = getattr(torch_geometric.nn, layer)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = build(FEATURES, 8, **options)
            self.second = build(8, 3, **options)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            x = self.second(self.first(x, edge_index).relu(), edge_index)
            return torch_geometric.nn.global_add_pool(x, batch)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Two().eval()
    graph = random_graph(8, 12, seed=1)
    gates = torch.rand(graph.units[1], generator=torch.Generator().manual_seed(3))
    x, edges, batch = tensors(graph)
    with torch.no_grad():
        gated = GraphNetwork(model, [graph])
        found = gated(gates[None, None, None])
        mask = gates[torch.from_numpy(graph.unit_of_edge)]
        set_masks(model, mask, edges, apply_sigmoid=False)
        expected = model(x, edges, batch)
        clear_masks(model)
        assert torch.allclose(found, expected, atol=1e-6)
        assert not torch.allclose(found, gated(gated.open_gates()), atol=1e-4)


@pytest.mark.parametrize("kind", ["gcn", "gat"])
def test_a_loop_that_the_layer_adds_anyway_stays_open(kind: str) -> None:
    """Without its loop a node gets one from the layer, so the gate changes nothing."""
    nodes = 4
    edges = np.array([[0, 1, 2, *range(nodes)], [1, 2, 3, *range(nodes)]])
    graph = make_graph(_features(nodes), edges, undirected=True)
    model = network(kind)
    gated = GraphNetwork(model, [graph])
    gates = gated.open_gates()
    gates[0, 0, 0, 3:] = 0
    bare = make_graph(graph.features, edges[:, :3], undirected=True)
    with torch.no_grad():
        assert torch.equal(gated(gates), gated(gated.open_gates()))
        # The other gates still meet their own edges.
        gates[0, 0, 0, 0] = 0
        other = GraphNetwork(model, [bare])
        shut = other.open_gates()
        shut[0, 0, 0, 0] = 0
        assert torch.allclose(gated(gates), other(shut), atol=1e-6)


def test_node_gates_scale_features_and_may_close_edges() -> None:
    """Zero features, or zero features and no edges."""
    model = network("gin")
    graph = random_graph(6, 9, loops=True, per="node")
    x, edges, batch = tensors(graph)
    gates = torch.ones(1, 1, 1, 6)
    gates[..., 2] = 0
    seen = x.clone()
    seen[2] = 0
    stays = (edges != 2).all(dim=0)
    with torch.no_grad():
        kept = GraphNetwork(model, [graph])(gates)
        assert torch.allclose(kept, model(seen, edges, batch), atol=1e-6)
        removed = GraphNetwork(model, [dataclasses.replace(graph, remove=True)])(gates)
        expected = model(seen, edges[:, stays], batch)
    assert torch.allclose(removed, expected, atol=1e-6)
    assert not torch.allclose(kept, removed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per", ["edge", "node"])
def test_sum_of_integrated_gradients_is_the_change(kind: str, per: str) -> None:
    """f(graph) - f(graph behind closed gates), per class."""
    graphs = [random_graph(6, 8, per=per), random_graph(8, 12, seed=4, per=per)]
    model = network(kind)
    found = _explained(model, graphs, "integrated_gradients", steps=200)
    gated = GraphNetwork(model, graphs)
    with torch.no_grad():
        change = gated(gated.open_gates()) - gated(torch.zeros_like(gated.open_gates()))
    expected = change.gather(1, found.targets[:, None])[:, 0]
    assert torch.allclose(found.maps.sum(dim=(1, 2)), expected, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("gradient_x_input", "InputXGradient", {}),
        ("integrated_gradients", "IntegratedGradients", {"n_steps": 50}),
    ],
)
def test_gates_have_the_gradients_that_captum_finds(
    kind: str, ours: str, theirs: str, options: dict[str, Any]
) -> None:
    """As torch-geometric's CaptumExplainer says for edges."""
    from torch_geometric.explain import CaptumExplainer, Explainer

    model = network(kind)
    graph = random_graph(8, 12, seed=5, undirected=False)
    explainer = Explainer(
        model,
        CaptumExplainer(theirs, **options),
        explanation_type="model",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "graph",
            "return_type": "raw",
        },
    )
    x, edges, batch = tensors(graph)
    expected = explainer(x, edges, batch=batch).edge_mask
    parameters = {"steps": 50} if options else {}
    found = _explained(model, [graph], ours, **parameters).maps[0, 0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradient_at_the_nodes_is_gradient_x_input() -> None:
    """The gate of a node sums input x gradient over its features."""
    model = network("gcn")
    graph = random_graph(7, 10, seed=6, per="node")
    found = _explained(model, [graph], "gradient_x_input")
    x, edges, batch = tensors(graph)
    x.requires_grad_()
    score = model(x, edges, batch)[0, int(found.targets[0])]
    (gradient,) = torch.autograd.grad(score, x)
    assert torch.allclose(found.maps[0, 0], (x * gradient).sum(dim=1), atol=1e-6)


def test_kernelshap_of_three_edges_is_shapley() -> None:
    """With every coalition asked, the values are those of the definition."""
    from itertools import permutations

    graph = make_graph(_features(4), np.array([[0, 1, 2], [1, 2, 3]]), undirected=True)
    model = network("gin")
    gated = GraphNetwork(model, [graph])
    found = create_method("kernelshap", gated, segmentation="units", baseline="zero")
    shares = found.explain(gated.open_gates(), torch.tensor([1])).maps[0, 0]
    expected = torch.zeros(3, dtype=torch.float64)
    orders = list(permutations(range(3)))

    def score(units: list[int]) -> Tensor:
        gates = torch.zeros(1, 1, 1, 3)
        gates[..., units] = 1
        with torch.no_grad():
            return gated(gates)[0, 1].double()

    for order in orders:
        for place, unit in enumerate(order):
            gain = score(list(order[: place + 1])) - score(list(order[:place]))
            expected[unit] += gain / len(orders)
    assert torch.allclose(shares.double(), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["gradient_x_input", "gnn_explainer"])
def test_neighbours_in_the_batch_change_no_bit(method: str) -> None:
    """A graph's map is the same alone, first, or behind larger ones."""
    from explain.context import ItemContext
    from explain.draws import ItemDraws

    model = network("gat")
    graphs = [random_graph(5 + 3 * n, 6 + 4 * n, seed=n) for n in range(4)]

    def maps(places: list[int]) -> list[Tensor]:
        gated = GraphNetwork(model, [graphs[place] for place in places])
        context = ItemContext(draws=ItemDraws(7, tuple(places)))
        parameters = {"steps": 20} if method == "gnn_explainer" else {}
        made = create_method(method, gated, **parameters)
        found = made.explain(gated.open_gates(), None, context)
        return [
            found.maps[row, 0, : graphs[place].units[1]]
            for row, place in enumerate(places)
        ]

    alone = [maps([place])[0] for place in range(4)]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        for place, found in zip(order, maps(order), strict=True):
            assert torch.equal(found, alone[place])
    longest = max(graph.units[1] for graph in graphs)
    gated = GraphNetwork(model, graphs)
    found = create_method("gradient_x_input", gated).explain(gated.open_gates(), None)
    for graph, row in zip(graphs, found.maps, strict=True):
        assert not row[0, graph.units[1] : longest].any()


def test_many_copies_are_many_graphs() -> None:
    """Row r is of graph r // copies, each with its own gates."""
    model = network("gcn")
    graphs = [random_graph(5, 6), random_graph(6, 7, seed=1)]
    gated = GraphNetwork(model, graphs)
    rows = torch.rand(6, 1, *gated.field, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = gated(rows)
        for row in range(6):
            one = GraphNetwork(model, [graphs[row // 3]])
            expected = one(rows[row : row + 1, :, :, : one.field[1]])
            assert torch.allclose(found[row], expected[0], atol=1e-6)


def test_edge_weights_gate_a_network_without_message_layers() -> None:
    """A network of plain torch is gated where it takes weights."""
    model = PlainGnn().eval()
    graph = random_graph(6, 8)
    gates = torch.rand(1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    x, edges, batch = tensors(graph)
    weights = gates[0, 0, 0, torch.from_numpy(graph.unit_of_edge)]
    with torch.no_grad():
        found = GraphNetwork(model, [graph])(gates)
        assert torch.equal(found, model(x, edges, batch, weights))


def test_edges_that_cannot_be_gated_are_refused() -> None:
    """Nodes still can be."""

    class Blind(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            del edge_index
            graphs = int(batch.max()) + 1
            return x.new_zeros(graphs, x.shape[1]).index_add(0, batch, x)

    graph = random_graph(4, 3)
    with pytest.raises(UnsupportedModelError, match="no edge_weight"):
        GraphNetwork(Blind(), [graph])
    nodes = GraphNetwork(Blind(), [dataclasses.replace(graph, per="node")])
    assert nodes(nodes.open_gates()).shape == (1, FEATURES)


def test_a_network_that_pools_between_layers_is_refused() -> None:
    """Its later edges are none of the graph's."""
    from torch_geometric.nn import GCNConv, TopKPooling, global_mean_pool

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = GCNConv(FEATURES, 8)
            self.pool = TopKPooling(8, ratio=0.5)
            self.second = GCNConv(8, 2)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            x = self.first(x, edge_index).relu()
            x, edge_index, _, batch, *_ = self.pool(x, edge_index, batch=batch)
            return global_mean_pool(self.second(x, edge_index), batch)

    gated = GraphNetwork(Pooling().eval(), [random_graph(8, 12)])
    with pytest.raises(UnsupportedModelError, match="drops or merges nodes"):
        gated(gated.open_gates())


def test_a_layer_with_edges_of_its_own_is_refused() -> None:
    """What travels where the graph has no edge cannot be given to an edge."""
    from torch_geometric.nn import GINConv, global_add_pool

    class Complete(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = GINConv(nn.Linear(FEATURES, 2))

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            del edge_index
            every = torch.cartesian_prod(*[torch.arange(len(x))] * 2).T
            return global_add_pool(self.layer(x, every), batch)

    gated = GraphNetwork(Complete(), [random_graph(4, 3)])
    with pytest.raises(UnsupportedModelError, match="does not have"):
        gated(gated.open_gates())


def test_no_hook_is_left_behind() -> None:
    """After success, and after a forward pass that broke."""
    model = network("gat")
    graph = random_graph(5, 6)
    gated = GraphNetwork(model, [graph])
    gated(gated.open_gates())
    broken = GraphNetwork(model, [dataclasses.replace(graph, features=_features(4))])
    with pytest.raises((RuntimeError, IndexError)):
        broken(broken.open_gates())
    for layer in model.layers:
        assert not layer._message_forward_hooks
        assert not layer._propagate_forward_pre_hooks
        assert not layer._forward_pre_hooks


def test_edges_touch_at_nodes_and_nodes_at_edges() -> None:
    """A path of three edges, and a loop at its end."""
    edges = np.array([[0, 1, 2, 3], [1, 2, 3, 3]])
    graph = make_graph(_features(5), edges, undirected=True)
    model = network("gin")
    touching = GraphNetwork(model, [graph]).neighbours()
    assert touching.nonzero().tolist() == [
        [0, 1],
        [1, 0],
        [1, 2],
        [2, 1],
        [2, 3],
        [3, 2],
    ]
    nodes = GraphNetwork(model, [dataclasses.replace(graph, per="node")]).neighbours()
    assert nodes.nonzero().tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]


def test_gates_of_another_size_are_refused() -> None:
    """Rather than read as those of some other graph."""
    gated = GraphNetwork(network("gin"), [random_graph(5, 6)])
    with pytest.raises(InvalidInputError, match="Expected gates"):
        gated(torch.ones(1, 1, 1, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_isolated_nodes_and_edge_features_are_taken(kind: str) -> None:
    """A node without edges is a node; node units need no edge at all."""
    graph = make_graph(
        _features(3), np.zeros((2, 0), dtype=np.int64), undirected=True, per="node"
    )
    found = _explained(network(kind), [graph], "gradient_x_input")
    assert torch.isfinite(found.maps).all()
    lonely = make_graph(_features(4), np.array([[0], [1]]), undirected=True)
    assert _explained(network(kind), [lonely], "gradient_x_input").maps.shape == (
        1,
        1,
        1,
    )


def test_edge_features_follow_their_edges() -> None:
    """Those of an added direction are those of the stored one."""
    seen: list[Tensor] = []

    class Sees(PlainGnn):
        def forward(
            self,
            x: Tensor,
            edge_index: Tensor,
            batch: Tensor,
            edge_weight: Tensor | None = None,
            edge_attr: Tensor | None = None,
        ) -> Tensor:
            assert edge_attr is not None
            seen.append(edge_attr)
            return super().forward(x, edge_index, batch, edge_weight)

    graph = make_graph(
        _features(3),
        np.array([[0, 1], [1, 2]]),
        undirected=True,
        edge_features=np.array([[1.0], [2.0]], dtype=np.float32),
    )
    GraphNetwork(Sees(), [graph])(torch.ones(2, 1, 1, 2))
    assert seen[0][:, 0].tolist() == [1, 2, 1, 2, 1, 2, 1, 2]
