# SPDX-License-Identifier: Apache-2.0
"""What can come of an audit, foreseen from its items before any is explained.

An audit whose every item must fail is refused; one that asks for numbers that no item
can have is warned of. Both would otherwise show after hours of work.
"""

from collections.abc import Iterator
from functools import lru_cache

from explain.kinds import IMAGE
from explain.metrics.cards import METRICS
from pipeline.domain import SourceItem
from pipeline.errors import ItemError, SpecError
from pipeline.labels import ClassNames
from pipeline.sources.source import Source
from pipeline.spec import AuditSpec

#: Distinct labels whose class is remembered; data sets of more have them looked up.
REMEMBERED_LABELS = 10_000

_TABLES = frozenset({"csv", "jsonl", "parquet"})


def refuse_without_labels(spec: AuditSpec, source: Source) -> None:
    """Nothing happens if the items can have the labels that the audit needs.

    Raises:
        SpecError: the label is to be explained, and nothing says where labels are.
    """
    if spec.explain.target != "label":
        return
    if source.kind in _TABLES and spec.data.columns.label is None:
        raise SpecError(
            "explain.target is label, but no column holds labels, so every item would "
            "fail; name it under data.columns.label."
        )
    if source.kind not in _TABLES and spec.data.labels == "none":
        raise SpecError(
            "explain.target is label, but data.labels is none, so every item would "
            "fail; set data.labels to folders, or give a manifest with labels."
        )


def refuse_without_masks(spec: AuditSpec) -> None:
    """Nothing happens if the items can have the masks that the audit needs.

    Raises:
        SpecError: masks give the regions to keep, and nothing says where they are.
    """
    if spec.threshold.keeps_given_regions and spec.data.columns.mask is None:
        raise SpecError(
            "threshold.segments is given, which takes the regions from the ground-truth"
            " masks, but no column holds masks, so every item would fail; name it under"
            " data.columns.mask, or choose slic or felzenszwalb."
        )


class ForeseenSource:
    """A source whose items are counted as they are listed.

    Listing ends with SpecError where every item would have to fail, so that whoever
    lists in a transaction writes nothing; else `warnings` says what it has seen.

    Args:
        source: Where the items come from.
        spec: The audit.
        classes: The network's classes.
    """

    def __init__(self, source: Source, spec: AuditSpec, classes: ClassNames) -> None:
        self._source = source
        self._spec = spec
        self._classes = classes
        # A file of another kind may hold the marks itself.
        columns = spec.data.columns
        self._marks_inside = spec.data.kind != IMAGE and columns.mask is not None
        self._is_class = lru_cache(REMEMBERED_LABELS)(self._looked_up)
        self._total = self._labelled = self._usable = self._masked = 0

    @property
    def kind(self) -> str:
        """What sort of source it is."""
        return self._source.kind

    def items(self) -> Iterator[SourceItem]:
        """Yield every item of the source.

        Raises:
            SpecError: it is through, and every item would have to fail.
        """
        self._total = self._labelled = self._usable = self._masked = 0
        for item in self._source.items():
            self._total += 1
            if item.label:
                self._labelled += 1
                self._usable += self._is_class(item.label)
            self._masked += bool(item.mask_uri) or self._marks_inside
            yield item
        self._refuse_hopeless()

    def warnings(self) -> list[str]:
        """Return one sentence about each thing that will come to nothing."""
        wanting = [
            name
            for name in self._spec.metric_names
            if name in METRICS and METRICS[name].needs_truth
        ]
        if self._masked or not self._total or not wanting:
            return []
        named = ", ".join(wanting)
        if self._spec.data.columns.mask is None:
            mend = "name their column under data.columns.mask"
        else:
            mend = f"fill the column '{self._spec.data.columns.mask}'"
        sentence = (
            f"The metric {named} compares with ground-truth masks and no item has one, "
            f"so that no item will have a value; {mend}, or leave the metric out."
        )
        return [sentence]

    def _looked_up(self, label: str) -> bool:
        try:
            self._classes.index_of(label)
        except ItemError:
            return False
        return True

    def _refuse_hopeless(self) -> None:
        spec, wanted = self._spec, self._spec.explain.target == "label"
        if self._usable:
            return
        if not self._labelled:
            if not wanted:
                return
            mend = (
                f"fill the column '{spec.data.columns.label}'"
                if self.kind in _TABLES
                else "put the pictures into one subfolder a class, or give a manifest "
                "with labels"
            )
            raise SpecError(
                f"explain.target is label, but none of the {self._total:,} items has a "
                f"label, so every one would fail; {mend}."
            )
        # A label that stands in a column must be right; a folder's name need not.
        strict = spec.data.columns.label is not None and self._labelled == self._total
        if wanted or strict:
            raise SpecError(
                f"No label of the {self._total:,} items is the name or index of one of "
                f"the model's {self._classes.count:,} classes, so every item would "
                "fail (label_unknown); mend the labels, or model.classes."
            )
