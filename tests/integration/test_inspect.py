# SPDX-License-Identifier: Apache-2.0
"""`affidavit inspect`: what would be explained of a network, and what is refused."""

from pathlib import Path

import pytest

from tests.support.workspace import SIDE, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A folder with the tiny network's weights."""
    return Workspace(folder=tmp_path / "work").lay_out(1)


def test_a_network_is_told_of_with_its_reasons(workspace: Workspace) -> None:
    """The document has the decision, reasons and self-test; nothing is stored."""
    answer = workspace.call(
        "inspect", "torchvision:resnet18", "--size", str(SIDE), "--json"
    )
    assert answer.code == 0, answer.err
    found = answer.document
    assert found["family"] == "convolutional network"
    assert (found["layer"], found["map"]) == ("layer4", [SIDE // 32] * 2)
    assert (found["method"], found["baseline"]) == ("gradcam", "zero")
    assert found["weights"] is None
    assert found["attention"] is None
    assert found["self_test"]["passed"]
    assert all(check["passed"] for check in found["self_test"]["checks"])
    assert any("layer4" in reason for reason in found["reasons"])
    assert workspace.rows("runs") == []


def test_a_person_reads_the_same(workspace: Workspace) -> None:
    """Without --json the same is said in lines."""
    answer = workspace.call("inspect", "torchvision:resnet18", "--size", str(SIDE))
    assert answer.code == 0
    assert "convolutional network of 1,000 classes" in answer.out
    assert "seeded numbers" in answer.out
    assert "FAILED" not in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torchvision:fasterrcnn_resnet50_fpn"], "detector, segmenter"),
        (["torchvision:resnet19"], "did you mean"),
        (["nowhere:net"], "names no network"),
        (["torchvision:resnet18", "--size", "wide"], "expected HEIGHTxWIDTH"),
        (["torchvision:resnet18", "--size", "0"], "expected HEIGHTxWIDTH"),
        (["torchvision:vit_b_16", "--size", "100"], "takes no image of 100x100"),
        (["torchvision:squeezenet1_1", "--weights", "/etc/passwd"], "outside"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    workspace: Workspace, arguments: list[str], words: str
) -> None:
    """Each gets one sentence and exit code 2."""
    answer = workspace.call("inspect", *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert words in answer.err
    assert answer.err.count("\n") == 1
