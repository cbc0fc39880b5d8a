# SPDX-License-Identifier: Apache-2.0
"""Criteria mean what they say, and no figure is no pass."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.criteria import AGGREGATES, OPERATORS, evaluate, parse_criterion
from pipeline.errors import SpecError

KNOWN = {"deletion_auc", "insertion_auc"}


def test_a_criterion_has_its_parts() -> None:
    """Value, aggregate, operator and number are taken apart, spaces or not."""
    for text in ("deletion_auc.mean <= 0.4", " deletion_auc.mean<=.4 "):
        found = parse_criterion(text, KNOWN)
        parts = (found.metric, found.aggregate, found.op, found.number)
        assert parts == ("deletion_auc", "mean", "<=", 0.4)
        assert found.text == text.strip()


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("op", OPERATORS)
def test_every_aggregate_and_operator_is_known(aggregate: str, op: str) -> None:
    """All aggregates go with all operators, for metrics and for the score."""
    for metric in ("insertion_auc", "score"):
        found = parse_criterion(f"{metric}.{aggregate} {op} -1.5e-3", KNOWN)
        assert (found.op, found.number) == (op, -0.0015)


@pytest.mark.parametrize("aggregate", ["fraction", "count"])
def test_failed_items_are_a_value(aggregate: str) -> None:
    """The share and the number of failed items can be bounded."""
    found = parse_criterion(f"items_failed.{aggregate} <= 3", KNOWN)
    assert found.aggregate == aggregate


@pytest.mark.parametrize(
    ("text", "metric", "aggregate"),
    [
        ("drift.prediction_changed <= 0.05", "drift", "prediction_changed"),
        ("drift.class_psi<=0.1", "drift", "class_psi"),
        ("drift.failed_change <= 0", "drift", "failed_change"),
        ("drift.deletion_auc.ks <= 0.1", "drift.deletion_auc", "ks"),
        ("drift.score.mean_change >= -0.02", "drift.score", "mean_change"),
    ],
)
def test_the_change_since_the_run_before_is_a_value(
    text: str, metric: str, aggregate: str
) -> None:
    """Change can be bounded for each value, for predictions, classes and failures."""
    found = parse_criterion(text, KNOWN)
    assert (found.metric, found.aggregate) == (metric, aggregate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a criterion"),
        ("deletion_auc <= 0.4", "not a criterion"),
        ("deletion_auc.mean <= much", "not a criterion"),
        ("deletion_auc.mean <= 0.4 and more", "not a criterion"),
        ("deletion_auc.mean = 0.4", "<=, >=, ==, <, >"),
        ("deletion_auc.mean != 0.4", "expected one of"),
        ("deletion_auc.mean <= 1e999", "too large"),
        ("deletoin_auc.mean <= 0.4", "did you mean 'deletion_auc'"),
        ("deletion_auc.maen <= 0.4", "did you mean 'mean'"),
        ("deletion_auc.count <= 0.4", "does not have"),
        ("items_failed.mean <= 0.4", "known are fraction, count"),
        ("drift.mean <= 0.4", "known are prediction_changed, class_psi, failed"),
        ("drift.score.mean <= 0.4", "did you mean 'mean_change'"),
        ("drift.deletoin_auc.ks <= 0.4", "did you mean 'drift.deletion_auc'"),
        ("drift.items_failed.ks <= 0.4", "does not measure"),
        ("zzz.mean <= 0.4", "known are deletion_auc, drift, insertion_auc"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    """A wrong criterion names what is wrong and what there is."""
    with pytest.raises(SpecError, match=message):
        parse_criterion(text, KNOWN)


def test_values_are_unchecked_while_unknown() -> None:
    """Without the list of values only the form and the aggregate are checked."""
    assert parse_criterion("zzz.mean <= 0.4").metric == "zzz"
    with pytest.raises(SpecError, match="aggregate"):
        parse_criterion("zzz.maen <= 0.4")


@given(text=st.text(max_size=40))
def test_junk_is_a_spec_error(text: str) -> None:
    """No text makes the parser fail otherwise."""
    try:
        parse_criterion(text, KNOWN)
    except SpecError:
        return


@pytest.mark.parametrize(
    ("op", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
        (">=", False, True, True),
        (">", False, False, True),
    ],
)
def test_operators_compare_the_value_with_the_number(
    op: str, below: bool, at: bool, above: bool
) -> None:
    """The value stands on the left, the number on the right."""
    criterion = parse_criterion(f"score.mean {op} 0.5")
    found = [
        evaluate(criterion, {"score": {"mean": value}}).passed
        for value in (0.25, 0.5, 0.75)
    ]
    assert found == [below, at, above]


@pytest.mark.parametrize(
    "summaries",
    [{}, {"score": {}}, {"score": {"mean": None}}, {"score": {"mean": math.nan}}],
)
def test_no_figure_is_no_pass(summaries: dict[str, dict[str, float | None]]) -> None:
    """A value that is missing or not finite is neither passed nor failed."""
    verdict = evaluate(parse_criterion("score.mean >= 0"), summaries)
    assert verdict.value is None
    assert verdict.passed is None
    assert "no value" in verdict.message


def test_verdicts_speak() -> None:
    """The message of a verdict holds the figure and what was required."""
    criterion = parse_criterion("score.p05 >= 0.5")
    failed = evaluate(criterion, {"score": {"p05": 0.25}})
    assert failed.message == "score.p05 is 0.25, required is >= 0.5."
    passed = evaluate(criterion, {"score": {"p05": 0.75}})
    assert passed.message == "score.p05 is 0.75, >= 0.5 as required."
