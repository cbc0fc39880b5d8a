# SPDX-License-Identifier: Apache-2.0
"""What must come to nothing is refused or warned of once the items are listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.domain import SourceItem
from pipeline.errors import SpecError
from pipeline.labels import ClassNames
from pipeline.outlook import ForeseenSource, refuse_without_labels
from pipeline.spec import AuditSpec

CLASSES = ClassNames(["cat", "cup"], count=2)


@dataclass(frozen=True)
class Listed:
    """A source of given items."""

    kind: str
    listed: Sequence[SourceItem] = ()

    def items(self) -> Iterator[SourceItem]:
        """Yield them."""
        yield from self.listed


def spec_of(**sections: Any) -> AuditSpec:
    """Return a spec with these sections."""
    data = {"source": "x", **sections.pop("data", {})}
    return AuditSpec.model_validate(
        {"audit": "a", "model": {"source": "m"}, "data": data, **sections}
    )


def items_of(labels: Sequence[str | None], *, masks: int = 0) -> list[SourceItem]:
    """Return items with these labels, the first of them with masks."""
    return [
        SourceItem(
            uri=f"/{number}.png",
            size_bytes=1,
            version=None,
            label=label,
            mask_uri="/mask.png" if number < masks else None,
        )
        for number, label in enumerate(labels)
    ]


def foreseen(
    labels: Sequence[str | None], spec: AuditSpec, kind: str = "folder", masks: int = 0
) -> ForeseenSource:
    """Return a source of these labels, not listed yet."""
    listed = Listed(kind, items_of(labels, masks=masks))
    return ForeseenSource(listed, spec, CLASSES)


LABEL = {"explain": {"target": "label"}}
COLUMN = {"data": {"columns": {"label": "finding"}}}


@pytest.mark.parametrize(
    ("labels", "sections", "kind", "says"),
    [
        ([None, None], LABEL, "folder", "one subfolder a class"),
        (["", None], {**LABEL, **COLUMN}, "csv", "fill the column 'finding'"),
        (["dog", "7"], LABEL, "folder", "2 classes"),
        (["dog", None], LABEL, "s3", "model.classes"),
        (["dog", "cow"], COLUMN, "csv", "label_unknown"),
    ],
)
def test_an_audit_whose_every_item_must_fail_is_refused(
    labels: Sequence[str | None], sections: dict[str, Any], kind: str, says: str
) -> None:
    """Listing ends in one sentence that says what to mend and quotes no label."""
    source = foreseen(labels, spec_of(**sections), kind)
    listing = source.items()
    assert [next(listing) for _ in labels] == items_of(labels)
    with pytest.raises(SpecError, match=says) as caught:
        next(listing)
    assert "every" in str(caught.value)
    assert "dog" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "sections", "kind"),
    [
        (["cat", None, "dog"], LABEL, "folder"),
        (["1", "dog"], {**LABEL, **COLUMN}, "csv"),
        ([None, None], {}, "folder"),
        (["dog", "cow"], {}, "folder"),
        ([None, "dog"], COLUMN, "csv"),
    ],
)
def test_an_audit_of_which_something_comes_is_listed(
    labels: Sequence[str | None], sections: dict[str, Any], kind: str
) -> None:
    """One item that can be explained is enough, and it can be listed again."""
    source = foreseen(labels, spec_of(**sections), kind)
    assert source.kind == kind
    assert list(source.items()) == list(source.items()) == items_of(labels)
    assert source.warnings() == []


def test_a_metric_that_no_item_can_have_is_warned_of() -> None:
    """Without any mask a comparison with masks is named, with what to do."""
    spec = spec_of(metrics=["deletion", "localisation"])
    source = foreseen([None, None], spec)
    assert source.warnings() == []
    list(source.items())
    (warning,) = source.warnings()
    assert warning.startswith("The metric localisation compares")
    assert "data.columns.mask" in warning

    named = spec_of(metrics=["localisation"], data={"columns": {"mask": "outline"}})
    source = foreseen([None, None], named, "csv")
    list(source.items())
    assert "fill the column 'outline'" in source.warnings()[0]

    source = foreseen([None, None], named, "csv", masks=1)
    list(source.items())
    assert source.warnings() == []
    source = foreseen([None], spec_of(metrics=["deletion"]))
    list(source.items())
    assert source.warnings() == []


def test_labels_that_nothing_can_give_are_refused_before_listing() -> None:
    """A table without a label column, and folders that are not to be read as labels."""
    with pytest.raises(SpecError, match=r"data\.columns\.label"):
        refuse_without_labels(spec_of(**LABEL), Listed("csv"))
    unread = spec_of(**LABEL, data={"labels": "none"})
    with pytest.raises(SpecError, match=r"data\.labels"):
        refuse_without_labels(unread, Listed("s3"))
    refuse_without_labels(spec_of(**LABEL), Listed("folder"))
    refuse_without_labels(spec_of(**LABEL, **COLUMN), Listed("csv"))
    refuse_without_labels(spec_of(data={"labels": "none"}), Listed("folder"))
