# SPDX-License-Identifier: Apache-2.0
"""The picture of a sequence: curves, a strip of importance, what is kept."""

import xml.etree.ElementTree as ET
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.kinds.kind import UnitMap
from pipeline.kinds.sequence_picture import drawn


def unit_map(values: npt.ArrayLike, mask: npt.ArrayLike, target: str = "walk") -> Any:
    """Return an explanation; its row is not looked at."""
    return UnitMap(
        values=np.asarray(values, dtype=np.float32),
        mask=np.asarray(mask, dtype=bool),
        result=Mock(),
        target=target,
    )


def parsed(fragment: str) -> ET.Element:
    """Return the SVG, which is well-formed XML."""
    return ET.fromstring(fragment)  # noqa: S314 - our own output


def kept_boxes(tree: ET.Element) -> list[tuple[float, float]]:
    """Return left edge and width of each outline of kept steps."""
    return [
        (float(one.attrib["x"]), float(one.attrib["width"]))
        for one in tree.iter("rect")
        if one.attrib.get("class") == "kept"
    ]


def test_steps_have_a_curve_a_feature_and_one_strip() -> None:
    """Kept steps are outlined where they are; for and against have two colours."""
    found = drawn(
        unit_map([[0.5, -1.0, 0.25, 0.0]], [[True, False, True, False]]),
        np.array([[1.0, 2], [2, 1], [3, 0], [4, 4]]),
        ["pulse", "temperature"],
        "step",
    )
    tree = parsed(found.fragment)
    assert len(list(tree.iter("polyline"))) == 2
    boxes = kept_boxes(tree)
    assert len(boxes) == 2
    width = boxes[0][1]
    assert boxes[1][0] - boxes[0][0] == pytest.approx(2 * width, abs=0.2)
    assert "fill:var(--pass)" in found.fragment
    assert "fill:var(--fail)" in found.fragment
    assert found.description == "Importance of 4 steps; 2 kept: steps 1, 3."
    texts = [text.text for text in tree.iter("text")]
    assert texts[:3] == ["pulse", "temperature", "importance"]
    assert "step 4" in texts


def test_without_the_item_the_strip_alone_is_drawn() -> None:
    """Nothing of the item's values is in it."""
    found = drawn(unit_map([[1, 2]], [[False, True]]), None, ["pulse"], "step")
    tree = parsed(found.fragment)
    assert not list(tree.iter("polyline"))
    assert "pulse" not in found.fragment
    assert len(kept_boxes(tree)) == 1


@pytest.mark.parametrize("per", ["feature", "both"])
def test_features_have_strips_of_their_own(per: str) -> None:
    """Where features are told apart each has its strip."""
    steps = 1 if per == "feature" else 5
    values = np.array([[1.0] * steps, [-2.0] * steps])
    mask = np.array([[True] * steps, [False] * steps])
    found = drawn(unit_map(values, mask), np.ones((5, 2)), ["a", "b"], per)
    assert len(kept_boxes(parsed(found.fragment))) == 1
    said = "kept: a." if per == "feature" else "5 kept: steps 1 to 5."
    assert said in found.description


def test_names_and_classes_are_escaped() -> None:
    """A column called like a tag is text."""
    found = drawn(
        unit_map([[1.0]], [[True]], target="<b>"),
        np.ones((1, 1)),
        ["<script>alert(1)</script>"],
        "step",
    )
    assert "<script" not in found.fragment
    parsed(found.fragment)


def test_long_sequences_stay_small() -> None:
    """Ten thousand steps of thirty features take bounded bytes and lose no peak."""
    values = np.zeros((1, 10_000))
    values[0, 7777] = 1
    mask = values > 0
    noise = np.random.default_rng(0).standard_normal((10_000, 30))
    names = [f"f{number}" for number in range(30)]
    found = drawn(unit_map(values, mask), noise, names, "step")
    assert len(found.fragment) < 100_000
    tree = parsed(found.fragment)
    assert len(kept_boxes(tree)) == 1
    assert "and 18 more" in [text.text for text in tree.iter("text")]
    assert "steps 7778" in found.description


def test_constant_values_are_a_level_line() -> None:
    """No division by a span of zero."""
    found = drawn(
        unit_map(np.zeros((1, 3)), np.zeros((1, 3))), np.ones((3, 1)), ["a"], "step"
    )
    assert "nan" not in found.fragment
    assert "kept: steps none" in found.description
