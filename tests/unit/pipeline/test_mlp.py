# SPDX-License-Identifier: Apache-2.0
"""The registered multilayer perceptron."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.loading import load_model
from pipeline.spec import ModelSpec


def spec(**arguments: Any) -> ModelSpec:
    """Return a spec of the perceptron."""
    return ModelSpec(source="mlp", weights="w.safetensors", arguments=arguments)


def test_a_sequential_network_loads_as_it_was_trained(tmp_path: Path) -> None:
    """Names and numbers are those of torch.nn.Sequential."""
    torch.manual_seed(0)
    trained = nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)
    )
    path = tmp_path / "w.safetensors"
    save_file(trained.state_dict(), path)
    found = load_model(spec(inputs=5, hidden="8,4", classes=3), weights=path).module
    rows = torch.randn(6, 5)
    assert torch.equal(found(rows), trained(rows))


@pytest.mark.parametrize(
    ("hidden", "layers"), [("", 1), (7, 3), ("7", 3), ("7, 6", 5), ("7,6,5", 7)]
)
def test_hidden_layers_are_a_list_of_widths(hidden: Any, layers: int) -> None:
    """One number, several, or none."""
    from pipeline.models.mlp import architecture

    assert len(architecture.build(inputs=3, hidden=hidden, classes=2)) == layers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inputs": 0, "classes": 2}, r"model\.arguments\.inputs: expected whole"),
        ({"inputs": True, "classes": 2}, r"model\.arguments\.inputs: expected whole"),
        ({"inputs": 3, "classes": 2, "hidden": "6,,5"}, r"model\.arguments\.hidden"),
        ({"inputs": 3, "classes": 2, "hidden": "6,x"}, r"model\.arguments\.hidden"),
        ({"inputs": 3, "classes": 2, "hidden": 99999999}, r"model\.arguments\.hidden"),
        ({"inputs": 3, "classes": 2, "activation": "sin"}, "one of relu, gelu"),
        ({"inputs": 3}, "mlp refuses model.arguments"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Each says which argument and what it may be."""
    path = tmp_path / "w.safetensors"
    save_file({"0.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=said):
        load_model(spec(**arguments), weights=path)
