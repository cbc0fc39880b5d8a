# SPDX-License-Identifier: Apache-2.0
"""The limits and known failures that every report must state.

What always holds comes first, then what this run in particular has to admit. A report
without this section cannot be made.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.reports.formats import count, number_of, percent
from pipeline.reports.inputs import ReportInputs

#: Below this many values, a mean says little and its interval is optimistic.
SMALL_SAMPLE = 30


Limit = dict[str, str]


def limits_of(inputs: ReportInputs, metrics: list[dict[str, Any]]) -> list[Limit]:
    """Return every limit as topic and sentence; never an empty list."""
    return [
        *_of_explanations(inputs),
        *_of_this_run(inputs),
        *_of_numbers(inputs, metrics),
        *(_limit("Noted by the operator of the run", note) for note in inputs.notes),
    ]


def _limit(topic: str, text: str) -> Limit:
    return {"topic": topic, "text": text}


def _of_explanations(inputs: ReportInputs) -> Iterator[Limit]:
    yield _limit(
        "What a map is",
        "A map shows where a small change of the input would have moved this model's "
        "score. It does not show that the model is right, fair or fit for a purpose, "
        "nor what a person should conclude about one case.",
    )
    method = inputs.method_cards.get(_explain(inputs).get("method", ""))
    if method is not None:
        yield _limit(f"What {method.title} does not show", method.does_not_show)
    yield _limit(
        "Resolution",
        "Maps are measured as stored, in float16: at the resolution of the tapped "
        "layer, or pooled to a grid where the method gives one value a pixel. They are "
        "enlarged bilinearly with pixel centres at half-integers (align_corners=False);"
        " another convention moves small masks noticeably.",
    )


def _of_this_run(inputs: ReportInputs) -> Iterator[Limit]:
    counts = inputs.counts
    missing = inputs.items_total - counts.done - counts.failed
    if missing > 0:
        yield _limit(
            "Missing items",
            f"{number_of(missing, 'item')} of {count(inputs.items_total)} lie in "
            f"{number_of(len(inputs.dead_shards), 'shard')} whose attempts are "
            "exhausted. No number of this report knows them.",
        )
    if counts.failed:
        yield _limit(
            "Failed items",
            f"{number_of(counts.failed, 'item')} "
            f"({percent(counts.failed / max(1, inputs.items_total))}) could not be "
            "explained and are in no mean. If they fail for a reason that goes with "
            "their content, the means are too kind.",
        )
    if counts.reservations:
        many = sum(counts.reservations.values())
        yield _limit(
            "Smaller masks than asked for",
            f"{number_of(many, 'item')} kept less than was asked for. Their masked "
            "metrics compare a smaller area than the others'.",
        )
    if inputs.incremental is not None and inputs.incremental["base_count"]:
        yield _limit(
            "Only what is new or changed",
            f"{number_of(inputs.incremental['unchanged'], 'item')} of the source "
            "were as an earlier run had explained them and are in no number of this "
            "report. Its means are about the others.",
        )
    if inputs.parent is not None:
        yield _limit(
            "Only what failed before",
            f"The items are those that failed in run {inputs.parent} and could come "
            "out otherwise. They are no sample of the source, and no number of this "
            "report is about the rest of it.",
        )
    if inputs.not_comparable:
        yield _limit(
            "Not comparable",
            "A batch had to be halved for lack of memory. The last bits may differ "
            "from another run of the same audit, and so does the result digest.",
        )
    if inputs.gallery.picks:
        yield _limit(
            "The gallery is not a sample",
            "Best and worst are extremes by one value. Only the items drawn at random "
            "say something about the rest, and they are few.",
        )


def _of_numbers(inputs: ReportInputs, metrics: list[dict[str, Any]]) -> Iterator[Limit]:
    small = [m["title"] for m in metrics if 0 < m["n"] < SMALL_SAMPLE]
    if small:
        yield _limit(
            "Few values",
            f"Fewer than {SMALL_SAMPLE} values stand behind: {', '.join(small)}. "
            "Their intervals are too narrow to be taken at their word.",
        )
    if metrics:
        yield _limit(
            "Intervals",
            "An interval says how far the mean would move with other items drawn "
            "from the same source, as if they were independent. It knows nothing of "
            "other sources, and repeated photographs of one subject narrow it "
            "wrongly.",
        )
        yield _limit(
            "Metrics overlap",
            "Several metrics look at the same map and mask, so that agreement among "
            "them is not independent confirmation.",
        )
    if inputs.change is not None:
        yield _limit(
            "Change is not cause",
            "A difference from the run before may come from the model, from the data "
            "or from chance. Where the two runs have few items in common, it is a "
            "difference between two sets of items.",
        )
    if inputs.counts.done and not inputs.counts.labelled:
        yield _limit(
            "No labels",
            "No item has both a label and a prediction, so nothing is known here of "
            "how often the model is right.",
        )


def _explain(inputs: ReportInputs) -> Mapping[str, Any]:
    section = inputs.spec.get("explain")
    return section if isinstance(section, Mapping) else {}
