# SPDX-License-Identifier: Apache-2.0
"""What two runs must share to have one digest, and what each digest leaves out."""

from dataclasses import fields, replace
from typing import Any

import pytest

from explain.kinds import IMAGE
from explain.methods.cards import METHODS
from explain.metrics.cards import METRICS
from explain.parameters import resolved
from explain.thresholds.cards import POLICIES
from pipeline.digests import (
    ManifestDigest,
    document_digest,
    record_digest,
    result_digest,
    spec_digest,
)
from pipeline.domain import ItemResult, Level
from pipeline.errors import Reason
from pipeline.run_plan import RunPlan
from pipeline.spec import AuditSpec
from storage.states import ItemStatus

ITEM = ItemResult(
    item_index=3,
    item_id="a" * 32,
    uri="/photos/3.png",
    input_sha256="b" * 64,
    subject_token="c" * 32,
    groups={"sex": "d" * 32},
    status=ItemStatus.DONE,
    reason=None,
    method="gradcam",
    target_rule="predicted",
    policy="fixed:keep=0.1",
    predicted=7,
    target=7,
    label=2,
    score=0.25,
    map_bytes=b"\x00\x3c\x00\x00",
    map_scale=1.5e-15,
    map_height=1,
    map_width=2,
    keep_requested=0.1,
    keep_achieved=0.5,
    cut=1e-16,
    metrics={"deletion_auc": 0.125},
    absences={"localisation_iou": "no_ground_truth"},
    energy_retained=0.5,
)

#: Another value for every field that is in the record.
RECORDED: dict[str, Any] = {
    "item_index": 4,
    "status": ItemStatus.FAILED,
    "reason": Reason.FILE_EMPTY,
    "method": "other",
    "target_rule": "label",
    "policy": "fixed:keep=0.2",
    "predicted": None,
    "target": 8,
    "label": None,
    "score": 0.25 + 2**-54,
    "map_kind": "tokens",
    "map_bytes": b"\x01\x3c\x00\x00",
    "map_scale": 1.4e-15,
    "map_height": 2,
    "map_width": 1,
    "axis_labels": ("a",),
    "keep_requested": 0.2,
    "keep_achieved": 0.25,
    "cut": 0.0,
    "metrics": {"deletion_auc": 0.1250001},
    "absences": {"localisation_iou": "empty_mask"},
    "energy_retained": 0.25,
    "mask_bits": b"\x80",
    "levels": (
        Level(keep_requested=0.1, keep_achieved=0.1, cut=1.0, energy_retained=0.5),
    ),
}
#: Names, places and tokens, which say nothing about the result.
LEFT_OUT: dict[str, Any] = {
    "item_id": "e" * 32,
    "uri": "/elsewhere/3.png",
    "input_sha256": "f" * 64,
    "truth_sha256": "f" * 64,
    "subject_token": None,
    "groups": {},
    "record_digest": b"x",
}


def _result(records: list[ItemResult], *, spec: str = "1", model: str = "2") -> str:
    return result_digest(
        spec, model, (record_digest(r, content_sha256="0" * 64) for r in records)
    )


def test_every_field_is_either_recorded_or_left_out_on_purpose() -> None:
    """A field added to the result must be put on one of the two lists."""
    names = {each.name for each in fields(ItemResult)}
    assert names == RECORDED.keys() | LEFT_OUT.keys()


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_each_recorded_field_changes_the_result(name: str) -> None:
    """Another value in any recorded field of one item gives another result digest."""
    changed = replace(ITEM, **{name: RECORDED[name]})
    assert getattr(changed, name) != getattr(ITEM, name)
    assert _result([ITEM, changed]) != _result([ITEM, ITEM])


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_no_name_place_or_token_changes_the_result(name: str) -> None:
    """Item ids, URIs, tokens, groups and salted digests are not in the result."""
    changed = replace(ITEM, **{name: LEFT_OUT[name]})
    assert _result([ITEM, changed]) == _result([ITEM, ITEM])


def test_input_spec_model_order_and_count_change_the_result() -> None:
    """The input's bytes, the spec, the weights and the manifest's order all count."""
    other = replace(ITEM, item_index=4)
    digests = {
        _result([ITEM, other]),
        _result([other, ITEM]),
        _result([ITEM]),
        _result([ITEM, other], spec="3"),
        _result([ITEM, other], model="3"),
        result_digest(
            "1", "2", (record_digest(r, content_sha256="1" * 64) for r in (ITEM, other))
        ),
        result_digest(
            "1", "2", (record_digest(r, content_sha256=None) for r in (ITEM, other))
        ),
    }
    assert len(digests) == 7


def _spec(**sections: Any) -> AuditSpec:
    base: dict[str, Any] = {
        "audit": "a",
        "model": {"source": "torchvision:resnet18", "weights": "w.pt"},
        "data": {"source": "photos/"},
    }
    for key, value in sections.items():
        base[key] = base.get(key, {}) | value if isinstance(value, dict) else value
    return AuditSpec.model_validate(base)


def _digest(spec: AuditSpec, **changes: Any) -> str:
    plan = RunPlan(
        layer="layer4",
        layer_reason="",
        method=spec.explain.method,
        method_arguments=resolved(
            "m", METHODS[spec.explain.method].parameters, spec.explain.parameters
        ),
        target="predicted",
        policy=spec.threshold.policy,
        policy_arguments=resolved(
            "p", POLICIES[spec.threshold.policy].parameters, spec.threshold.parameters
        ),
        metrics=[],
        cards={},
        batch_size=16,
        threads=2,
        dtype="float32",
        device="cpu",
        seed=0,
        input_shape=[3, 224, 224],
        map_shape=[7, 7],
        std=[1.0],
        class_count=2,
        classes=["a", "b"],
        roots=[],
        forwards_per_item=0,
        item_seconds=None,
        shard_size=256,
    )
    return spec_digest(spec, replace(plan, **changes))


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"source": "/elsewhere/photos"}},
        {"model": {"weights": "/elsewhere/w.pt"}},
        {"model": {"sha256": "0" * 64}},
        {"model": {"layer": "layer4"}},
        {"model": {"classes": "names.txt"}},
        {"run": {"shard_size": 7}},
        {"run": {"device": "cpu"}},
        {"run": {"max_attempts": 9}},
        {"run": {"threads": 2}},
        {"threshold": {"keep": 0.10}},
        {"metrics": []},
    ],
    ids=str,
)
def test_places_and_shards_are_not_in_the_specs_digest(sections: Any) -> None:
    """Where things lie and how the work is cut does not change the spec's digest."""
    assert _digest(_spec(**sections)) == _digest(_spec())


@pytest.mark.parametrize(
    "sections",
    [
        {"run": {"batch_size": 8}},
        {"run": {"seed": 1}},
        {"run": {"chunk": 8}},
        {"threshold": {"keep": 0.2}},
        {"metrics": ["completeness"]},
        {"metrics": "quick"},
        {"explain": {"target": "label"}},
        {"explain": {"grid": 14}},
        {"model": {"preprocess": {"resize": 200}}},
        {"data": {"columns": {"label": "label"}}},
    ],
    ids=str,
)
def test_whatever_decides_results_is_in_the_specs_digest(sections: Any) -> None:
    """Batch size, seed, fraction kept and the like give another spec digest."""
    assert _digest(_spec(**sections)) != _digest(_spec())


@pytest.mark.parametrize(
    "written",
    [
        [{"name": "max_sensitivity"}],
        [{"name": "max_sensitivity", "samples": 10}],
        [{"name": "max_sensitivity", "radius": 0.02, "samples": 10}],
    ],
    ids=str,
)
def test_a_metric_at_its_defaults_is_in_the_specs_digest_by_name(written: Any) -> None:
    """A default that is written out changes nothing, any other parameter does."""
    plain = _digest(_spec(metrics=["max_sensitivity"]))
    assert _digest(_spec(metrics=written)) == plain
    changed = [{"name": "max_sensitivity", "samples": 11}]
    assert _digest(_spec(metrics=changed)) != plain


def test_a_profile_has_the_digest_of_the_metrics_that_it_stands_for() -> None:
    """`full` is a short way to write all of them down."""
    spelled = [
        name
        for name, card in METRICS.items()
        if not card.needs_truth and IMAGE in card.kinds
    ]
    assert _digest(_spec(metrics="full")) == _digest(_spec(metrics=spelled))


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": "layer3"},
        {"threads": 3},
        {"classes": ["b", "a"]},
        {"method_arguments": {"samples": 3}},
        {"remedies": {"fusion": {"scales": [0.5, 1.0]}}},
        {"remedies": {"smoothing": {}}},
        {"policy": "other"},
        {"policy_arguments": {"keep": 0.3}},
    ],
    ids=str,
)
def test_what_was_resolved_is_in_the_specs_digest(changes: Any) -> None:
    """Layer, threads, class names and every parameter enter as resolved."""
    assert _digest(_spec(), **changes) != _digest(_spec())


ROW: dict[str, Any] = {
    "uri": "/photos/anna.png",
    "size_bytes": 5,
    "version": "mtime:1",
    "label": "cat",
    "mask_uri": None,
    "subject_token": None,
    "groups": {"ward": "3"},
    "salt": None,
}


def _manifest(**changes: Any) -> str:
    digest = ManifestDigest()
    digest.add(ROW | changes)
    return digest.hexdigest()


@pytest.mark.parametrize("name", ManifestDigest.COLUMNS)
def test_each_column_of_the_manifest_is_in_its_digest(name: str) -> None:
    """A manifest row with another value in any column has another digest."""
    other = {"size_bytes": 6, "groups": {"ward": "4"}, "salt": b"s" * 16}
    assert _manifest(**{name: other.get(name, "other")}) != _manifest()


def test_a_salted_row_cannot_be_guessed() -> None:
    """Whoever guesses a file's name cannot confirm it without the row's salt."""
    digests = {_manifest(salt=bytes([n]) * 16) for n in range(3)}
    assert len(digests) == 3


def test_a_document_has_one_digest_before_and_after_a_database() -> None:
    """Tuples become lists in JSON columns, and the digest must not notice."""
    assert document_digest({"a": (1, 2.5)}) == document_digest({"a": [1, 2.5]})
    assert document_digest({"a": 2.5}) != document_digest({"a": 2.5000000000000004})


def test_what_earlier_versions_did_not_have_leaves_their_digests_alone() -> None:
    """A record without energy, bits and levels has the digest it always had."""
    old = replace(ITEM, energy_retained=None)
    assert record_digest(old, content_sha256="0" * 64).hex() == (
        "c8b3fe14e2a512de45db216389125e444e93b4e49ebf413287d10522ec6d8179"
    )
