# SPDX-License-Identifier: Apache-2.0
"""What a spec may hand to the code that builds a network."""

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision import models

from pipeline.errors import ModelError
from pipeline.models.arguments import TIMM, TORCHVISION
from pipeline.models.loading import load_model
from pipeline.spec import ModelSpec


class _Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (self.path,))


def refused(source: str, **arguments: Any) -> str:
    """Return the sentence with which arguments are refused."""
    spec = ModelSpec(source=source, weights="hub", arguments=arguments)
    with pytest.raises(ModelError) as caught:
        load_model(spec, weights=None)
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    "name",
    ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"],
)
def test_timm_never_opens_a_file_that_an_argument_names(
    tmp_path: Path, name: str
) -> None:
    """A pickle with code, named by an argument, is refused and does not run."""
    canary = tmp_path / "canary"
    evil = tmp_path / "evil.pth"
    torch.save({"state_dict": _Canary(canary)}, evil)
    assert name in refused("timm:test_resnet", **{name: str(evil)})
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["weights", "weights_backbone", "pretrained", "pretrained_backbone"]
)
def test_torchvision_fetches_nothing_because_of_an_argument(name: str) -> None:
    """Weights come from model.weights alone, not through a builder's own names."""
    assert name in refused("torchvision:squeezenet1_1", **{name: True})


def test_no_builder_name_that_leads_to_files_is_allowed() -> None:
    """No allowed name says where something lies or comes from."""
    suspicious = ("path", "file", "url", "dir", "hub", "pretrained", "cfg", "weights")
    # These say whether tensors are initialised, and how often a path is dropped.
    harmless = {"init_weights", "drop_path_rate"}
    for name in (TIMM | TORCHVISION) - harmless:
        assert not any(part in name for part in suspicious), name


@pytest.mark.parametrize(
    "value",
    ["/etc/passwd", "evil.pth", "http://host", "a" * 41, "two words", float("inf")],
)
def test_values_are_plain(value: str | float) -> None:
    """Paths, addresses, long text and infinity are no values of an argument."""
    assert "expected a number" in refused("timm:test_resnet", act_layer=value)


def test_a_misspelt_argument_is_answered_with_the_nearest() -> None:
    """The sentence names what was probably meant."""
    assert "did you mean 'num_classes'" in refused("timm:test_resnet", num_clases=3)


def test_what_shapes_a_network_is_passed_on(tmp_path: Path) -> None:
    """Numbers, flags and words reach the builder as they were written."""
    path = tmp_path / "w.pt"
    built = timm.create_model(
        "test_resnet", num_classes=4, in_chans=1, act_layer="gelu", global_pool="max"
    )
    torch.save(built.state_dict(), path)
    spec = ModelSpec(
        source="timm:test_resnet",
        arguments={
            "num_classes": 4,
            "in_chans": 1,
            "act_layer": "gelu",
            "global_pool": "max",
        },
    )
    loaded = load_model(spec, weights=path).module.eval()
    picture = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(picture), built.eval()(picture))


def test_arguments_that_need_more_memory_than_there_is_are_a_sentence() -> None:
    """A builder's own complaint, of whatever kind, is told and not raised."""
    assert "refuses model.arguments" in refused(
        "torchvision:squeezenet1_1", num_classes=2**50
    )
    assert "refuses model.arguments" in refused("timm:test_resnet", num_classes=2**50)


def test_torchvision_takes_what_its_builders_document(tmp_path: Path) -> None:
    """The usual arguments of different families are on the list."""
    path = tmp_path / "w.pt"
    for name, arguments in [
        ("mobilenet_v2", {"num_classes": 3, "width_mult": 0.25, "dropout": 0.1}),
        ("resnet18", {"num_classes": 3, "zero_init_residual": True}),
    ]:
        built = models.get_model(name, weights=None, **arguments)
        torch.save(built.state_dict(), path)
        spec = ModelSpec(source=f"torchvision:{name}", arguments=arguments)
        assert load_model(spec, weights=path).module.state_dict().keys()
