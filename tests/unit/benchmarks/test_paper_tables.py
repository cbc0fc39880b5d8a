# SPDX-License-Identifier: Apache-2.0
"""The paper's tables come out right where the right answer is known."""

import json
import math
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.thresholds import FixedKeep

BENCHMARKS = str(Path(__file__).resolve().parents[3] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    from paper_tables import methods, thresholds, truth
    from paper_tables.curve_picture import picture
    from paper_tables.figures import mean_of, median_of, shown
    from paper_tables.memory import peak_bytes
    from paper_tables.results import OutOfTimeError, Results
    from paper_tables.rounds import interleaved, ratio
    from paper_tables.setting import Setting, explained, gathered
finally:
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def given() -> Setting:
    """Return six frames of three sequences and a tiny network, without truth."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=8, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    images = torch.rand(6, 3, 224, 224)
    return Setting(
        model=model,
        layer=resolve_layer(model, example=images[:1]),
        inputs=images - 0.5,
        images=images,
        truth=torch.zeros(6, 224, 224, dtype=torch.bool),
        sequences=tuple("aabbcc"),
    )


def test_truth_that_is_the_mask_is_found(given: Setting) -> None:
    """Where the object is the top 10 %, that row is perfect and 5 % finds half."""
    masks = [
        FixedKeep(0.10).apply(explained(given, place).found.maps).mask
        for place in given.parts()
    ]
    results = Results(path=None, about={})
    truth.measure(replace(given, truth=torch.cat(masks)), results)
    rows = results.tables[truth.TABLE]
    for key in truth.VALUES:
        assert rows["10 %"][key]["value"] == pytest.approx(1)
    assert rows["5 %"]["localisation_precision"]["value"] == pytest.approx(1)
    assert rows["5 %"]["localisation_recall"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert rows["object's share"]["share"]["value"] == pytest.approx(0.10, abs=1e-3)
    (curve,) = results.tables[truth.CURVE].values()
    at_ten = next(p for p in curve["points"] if abs(p["keep"] - 0.10) < 1e-9)
    assert at_ten["precision"]["value"] == at_ten["recall"]["value"] == pytest.approx(1)
    drawn = ET.fromstring(picture(curve["points"]))  # noqa: S314 - made here
    assert [text.text for text in drawn.iter() if "%" in (text.text or "")] == [
        "1 %",
        "5 %",
        "10 %",
        "20 %",
        "50 %",
    ]


def test_what_is_known_is_what_would_be_made_again(given: Setting) -> None:
    """Sharing maps and passes between thresholds changes no value."""
    how: dict[str, Any] = {"policy": "fixed", "threshold": {"keep": 0.2}}
    shared = replace(given, known={})
    gathered(shared, thresholds.METRICS, threshold={"keep": 0.05})
    after = gathered(shared, thresholds.METRICS, **how)
    alone = gathered(replace(given, known={}), thresholds.METRICS, **how)
    assert set(thresholds.VALUES) <= set(alone)
    for key, column in alone.items():
        assert after[key] == pytest.approx(column, nan_ok=True), key


def test_every_threshold_has_cost_and_quality(given: Setting) -> None:
    """Both tables name all rows, and keeping all retains what keeping 1 % does not."""
    results = Results(path=None, about={})
    thresholds.measure(replace(given, known={}), results, rounds=1)
    rows = results.tables[thresholds.TABLE]
    cost, quality = thresholds.tables(rows)
    assert [row[0] for row in cost[1:]] == list(thresholds.ROWS)
    assert [row[0] for row in quality[1:]] == list(thresholds.ROWS)
    assert rows["1 %"]["kept"]["value"] == pytest.approx(0.01, abs=1e-4)
    energy = [rows[f"{keep} %"]["completeness_energy"]["value"] for keep in (1, 5, 20)]
    assert energy == sorted(energy)
    assert all(len(row) == len(table[0]) for table in (cost, quality) for row in table)


def test_a_cost_is_shown_beside_what_is_not_measured(given: Setting) -> None:
    """A method's cost is a row of its own, and rows that lack a part say so."""
    with frozen(given.model):
        cost = methods._cost(given, methods.OURS, 1)
    assert cost["over_forward"]["value"] > 0
    assert 1 <= cost["passes"] < 2
    assert cost["peak_bytes"] > 0
    found = {key: mean_of([0.5], ["a"]) for key in methods.VALUES}
    (table,) = methods.tables({methods.LIME: found}, {methods.OURS: cost})
    header, ours, lime = table
    assert ours[0] == methods.OURS
    assert lime[1:5] == ["not measured"] * 4
    assert lime[5:8] == ["0.500"] * 3
    assert len(header) == len(ours) == len(lime)


def test_means_draw_whole_sequences() -> None:
    """Frames that are all alike within sequences count as one draw each."""
    sequences = [name for name in "abcdefghij" for _ in range(10)]
    values = [float(ord(name)) for name in sequences]
    clustered = mean_of(values, sequences)
    single = mean_of(values, [str(number) for number in range(100)])
    assert clustered["n"] == single["n"] == 100
    assert clustered["value"] == single["value"] == pytest.approx(101.5)

    def width(figure: dict[str, Any]) -> float:
        return float(figure["high"] - figure["low"])

    assert width(clustered) > 2 * width(single)


def test_absent_values_are_left_out_and_said() -> None:
    """A NaN takes no part, and no values at all give no figure."""
    assert mean_of([1.0, math.nan, 3.0], ["a", "b", "c"])["value"] == 2
    assert mean_of([1.0, math.nan, 3.0], ["a", "b", "c"])["n"] == 2
    assert shown(mean_of([math.nan], ["a"])) == "none"


@pytest.mark.parametrize(("rounds", "low"), [(5, None), (6, 0.0), (9, 1.0), (20, 5.0)])
def test_medians_lie_between_order_statistics(rounds: int, low: float | None) -> None:
    """The ranks are those of the sign test at 95 %, and five rounds have none."""
    figure = median_of([float(value) for value in reversed(range(rounds))])
    assert figure["low"] == low
    assert figure["high"] == (None if low is None else rounds - 1 - low)


def test_rounds_warm_up_and_pair() -> None:
    """Each call runs once a round and once before; ratios pair the rounds."""
    calls: list[str] = []
    found = interleaved(
        {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}, 3
    )
    assert {name: len(times) for name, times in found.items()} == {"one": 3, "two": 3}
    assert calls == ["one", "two", "two", "one", "one", "two", "two", "one"]
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0])["value"] == 3


def test_peak_is_what_lives_at_once() -> None:
    """Dead storages, views and changes in place add nothing."""
    there = torch.ones(1000)

    def chain() -> torch.Tensor:
        first = there + 1
        second = first * 2
        del first
        return (second * 3).view(10, 100).add_(1)

    assert peak_bytes(chain) == 2 * 4000

    def loop() -> None:
        for _ in range(50):
            there.clone()

    assert peak_bytes(loop) == 4000


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Rows that were kept are taken over; those of another setting are not."""
    path = tmp_path / "results.json"
    first = Results(path=path, about={"frames": 2})
    first.row("t", "a", lambda: {"x": 1})
    late = Results(path=path, about={"frames": 2}, until=time.monotonic() - 1)
    late.load()
    assert late.row("t", "a", lambda: {"x": 2}) == {"x": 1}
    with pytest.raises(OutOfTimeError):
        late.row("t", "b", lambda: {"x": 2})
    assert json.loads(path.read_text())["tables"] == {"t": {"a": {"x": 1}}}
    other = Results(path=path, about={"frames": 3})
    other.load()
    assert other.row("t", "a", lambda: {"x": 3}) == {"x": 3}
