# SPDX-License-Identifier: Apache-2.0
"""Plots: where marks stand, and that they can be read without seeing them."""

import xml.etree.ElementTree as ET
from array import array
from typing import Any

import pytest

from pipeline.aggregation import summarise
from pipeline.reports import plots
from pipeline.reports.columns import _numbers

NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'


def part_of(values: list[float], bounds: list[float | None] | None = None) -> Any:
    """Return a part of the report over the values."""
    return {
        "title": "A & B <c>",
        "definition": {"range": bounds},
        **_numbers(summarise(array("d", values))),
    }


def drawn(part: Any) -> ET.Element:
    """Return the plot as a tree; fails where it is not well-formed."""
    return ET.fromstring(str(plots.distribution(part, "p")))  # noqa: S314 - our own


def by_class(tree: ET.Element, name: str) -> list[ET.Element]:
    """Return the elements of that class."""
    return [one for one in tree.iter() if one.get("class") == name]


def test_bars_are_as_tall_as_their_counts() -> None:
    """The highest bar fills the plot and the others keep their proportion."""
    bars = by_class(drawn(part_of([0.0] * 8 + [1.0] * 4)), "bar")
    assert [float(str(bar.get("height"))) for bar in bars] == [96.0, 48.0]


def test_one_outlier_among_many_stays_visible() -> None:
    """A count too small for a pixel is drawn as a pixel."""
    bars = by_class(drawn(part_of([0.0] * 5000 + [1.0])), "bar")
    assert [float(str(bar.get("height"))) for bar in bars] == [96.0, 1.0]


def test_mean_and_median_stand_at_their_values() -> None:
    """On an axis from 0 to 1 places are proportional to values."""
    tree = drawn(part_of([0.0, 0.25, 1.0], [0.0, 1.0]))
    inner = plots.WIDTH - 24
    assert float(str(by_class(tree, "median")[0].get("x1"))) == 12 + inner / 4
    mean = float(str(by_class(tree, "mean")[0].get("x1")))
    assert mean == pytest.approx(12 + inner * 1.25 / 3, abs=0.01)


@pytest.mark.parametrize("values", [[0.5, 0.5000001], [-3.0, 1e9], [1e-15, 2e-15]])
def test_awkward_values_still_give_a_plot(values: list[float]) -> None:
    """Near-equal values and wild scales are drawn inside the frame."""
    for element in drawn(part_of(values)).iter():
        for name in ("x", "x1", "x2", "cx"):
            place = element.get(name)
            assert place is None or -1 <= float(place) <= plots.WIDTH + 1


@pytest.mark.parametrize(
    ("values", "upper"),
    [
        ([0.01, 0.02, 0.12], "median"),
        ([0.88, 0.98, 0.99], "median"),
        ([0.2, 0.5, 0.6], "mean"),
    ],
    ids=["left edge", "right edge", "middle"],
)
def test_a_name_never_stands_on_the_other_line(values: list[float], upper: str) -> None:
    """Where both names lean the same way, the one that passes over is above."""
    tree = drawn(
        part_of([*values, 0.0, 1.0] if upper == "mean" else values, [0.0, 1.0])
    )
    marks = {str(one.text).split()[0]: one for one in by_class(tree, "mark")}
    rows = {name: float(str(one.get("y"))) for name, one in marks.items()}
    assert min(rows, key=lambda name: rows[name]) == upper


def test_no_values_give_no_plot() -> None:
    """What has no distribution is said in words, not drawn as an odd frame."""
    assert plots.distribution(part_of([]), "p") == ""
    assert plots.distribution(part_of([0.1]), "p") == ""
    assert plots.distribution(part_of([0.1] * 9), "p") == ""


def test_the_description_says_what_the_plot_shows() -> None:
    """A reader who cannot see the plot gets its numbers; titles are escaped."""
    tree = drawn(part_of([0.1, 0.2, 0.3, 0.4]))
    title, desc = tree.find("title"), tree.find("desc")
    assert title is not None
    assert title.text == "Distribution of A & B <c>"
    assert desc is not None
    assert "4 values from 0.1000 to 0.4000; mean 0.2500" in str(desc.text)
    assert "95 % interval" in str(desc.text)
    assert tree.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"


def test_the_keep_bar_shows_achieved_and_requested() -> None:
    """The bar is as long as the fraction kept; a mark stands at what was asked."""
    tree = ET.fromstring(str(plots.keep_bar(0.5, 0.25, "k")))  # noqa: S314 - our own
    assert by_class(tree, "kept")[0].get("width") == "40.0"
    assert by_class(tree, "asked")[0].get("x1") == "80.0"
    assert plots.keep_bar(0.5, None, "k") == ""


def test_parts_fill_the_bar() -> None:
    """Parts without items are not drawn; a bar of nothing is no bar."""
    parts = [("done", 3), ("failed", 0), ("missing", 1)]
    tree = ET.fromstring(str(plots.parts_bar(parts, "b", "Items")))  # noqa: S314 - our own
    assert [one.get("class") for one in tree if one.tag == "rect"] == [
        "part-done",
        "part-missing",
    ]
    assert plots.parts_bar([("done", 0)], "b", "Items") == ""
