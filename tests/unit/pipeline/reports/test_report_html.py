# SPDX-License-Identifier: Apache-2.0
"""The page: inert, small, and saying what the JSON report says."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.item_row import ItemRow
from pipeline.reports import formats
from pipeline.reports.document import build_document, document_bytes
from pipeline.reports.html import MOST_BYTES, render_html, shortened
from pipeline.reports.inputs import (
    CriterionVerdict,
    DeadShard,
    FailedItem,
    Picture,
    ReportInputs,
)

MakeInputs = Callable[..., ReportInputs]
MakeRows = Callable[[int], list[ItemRow]]

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page into its elements, their attributes and the numbers on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[float, str]] = []
        self.text: list[str] = []
        self._number: float | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the element; remember the number of a data element."""
        self.elements.append((tag, dict(attrs)))
        if tag == "data":
            self._number = float(str(dict(attrs)["value"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that elements close in the order in which they opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text; join a number with what people read."""
        self.text.append(data)
        if self._number is not None:
            self.numbers.append((self._number, data))
            self._number = None

    @property
    def words(self) -> str:
        """Return the text of the page with single spaces."""
        return " ".join(" ".join(self.text).split())


def numbers_in(value: Any) -> Iterator[float]:
    """Yield every number of a JSON value."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict):
        for part in value.values():
            yield from numbers_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers_in(part)


def test_the_page_is_well_formed(make_inputs: MakeInputs, picture: Picture) -> None:
    """Every element closes, and no identifier is used twice."""
    page = Page(render_html(build_document(make_inputs()), {0: [picture] * 3}))
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_links_lead_to_places_on_the_page(make_inputs: MakeInputs) -> None:
    """Nothing on the page leads away from it."""
    page = Page(render_html(build_document(make_inputs())))
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    links = [str(attrs["href"]) for tag, attrs in page.elements if tag == "a"]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_the_page_loads_and_runs_nothing(
    make_inputs: MakeInputs, picture: Picture
) -> None:
    """No script, no remote asset, and a policy that forbids both."""
    text = render_html(build_document(make_inputs()), {0: [picture]})
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    sources = [str(a["src"]) for _, a in page.elements if "src" in a]
    assert sources == ["data:image/webp;base64,AAAA"]
    assert not [a for _, a in page.elements if any(k.startswith("on") for k in a)]
    policy = next(a for _, a in page.elements if "http-equiv" in a)
    assert policy["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert "@import" not in text
    assert "://" not in text


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_are_inert(make_inputs: MakeInputs, attack: str) -> None:
    """File names, labels, audit name, reasons and settings cannot become markup."""
    rows = [
        ItemRow(
            item_index=i,
            item_id=attack,
            status="done" if i < 4 else "failed",
            reason=attack,
            predicted=0,
            label=1,
            score=0.5,
            metrics={attack: 0.5 + i / 10},
            absences={attack + "x": attack},
        )
        for i in range(6)
    ]
    spec = {
        "audit": attack,
        "data": {"source": attack},
        "explain": {"method": attack, "target": attack, attack: attack},
        "threshold": {"policy": attack, attack: attack},
        "model": {"source": attack, "preprocess": {attack: attack}},
    }
    base = make_inputs()
    inputs = make_inputs(
        rows,
        audit=attack,
        run_id=attack,
        spec=spec,
        plan={attack: attack},
        item_names=dict.fromkeys(range(6), attack),
        class_names=(attack, attack),
        criteria=[
            CriterionVerdict(
                criterion=attack, verdict="incomplete", observed=None, reason=attack
            )
        ],
        dead_shards=[
            DeadShard(shard_index=0, first_item=0, item_count=1, error=attack)
        ],
        failed_items=[
            FailedItem(item_index=4, item_id=attack, name=attack, reason=attack)
        ],
        software={attack: attack},
        notes=[attack],
        ledger=dataclasses.replace(
            base.ledger, origin=attack, verify_command=attack, checkpoint=attack
        ),
    )
    picture = Picture(title=attack, description=attack, data_uri="data:,")
    page = Page(render_html(build_document(inputs), {0: [picture]}))
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags
    assert not [a for _, a in page.elements if any(k.startswith("on") for k in a)]
    assert attack in page.words
    assert {a.get("src") for tag, a in page.elements if tag == "img"} == {"data:,"}


def test_every_number_on_the_page_is_in_the_json(make_inputs: MakeInputs) -> None:
    """The page and the JSON report cannot disagree: same value, one way to write it."""
    document = json.loads(document_bytes(build_document(make_inputs())))
    known = set(numbers_in(document))
    # Sums over reasons are the only arithmetic of the page.
    known |= {
        float(sum(row["count"] for row in part["absent"]))
        for part in document["metrics"]
    }
    page = Page(render_html(document))
    assert len(page.numbers) > 100
    for value, text in page.numbers:
        assert value in known
        assert text in {
            formats.number(value),
            formats.exact(value),
            formats.percent(value),
            formats.count(int(value)),
            formats.moment(value),
            formats.duration(value),
            formats.rate(value),
        }


def test_every_metric_is_on_the_page_with_its_mean(make_inputs: MakeInputs) -> None:
    """No metric of the JSON report is left out of the page."""
    document = build_document(make_inputs())
    shown = set(Page(render_html(document)).numbers)
    for part in document["metrics"]:
        if part["n"]:
            assert (part["mean"], formats.number(part["mean"])) in shown


def test_a_missing_value_says_why(make_inputs: MakeInputs) -> None:
    """What was not measured is said in words, with the reason."""
    words = Page(render_html(build_document(make_inputs()))).words
    assert "not measured (the item came without a ground truth mask)" in words
    assert "explained items without a value" in words
    assert "None" not in words


def test_failed_items_are_named(make_inputs: MakeInputs) -> None:
    """Each listed item is on the page with its reason, and how many more failed."""
    failed = [
        FailedItem(
            item_index=index,
            item_id=f"{index:032x}",
            name=f"broken-{index}.png",
            reason="image_truncated",
        )
        for index in (11, 12)
    ]
    counts = dataclasses.replace(make_inputs().counts, failed=5)
    document = build_document(
        make_inputs(failed_items=failed, counts=counts, items_total=16)
    )
    words = Page(render_html(document)).words
    assert "11 broken-11.png The picture ends before its last row." in words
    assert "12 broken-12.png" in words
    assert "And 3 more items" in words
    assert "affidavit items run-1 --failed" in words


def test_a_page_read_from_bytes_is_the_same(make_inputs: MakeInputs) -> None:
    """The stored JSON report alone is enough to draw the page again."""
    document = build_document(make_inputs())
    again = json.loads(document_bytes(document))
    assert Page(render_html(again)).numbers == Page(render_html(document)).numbers


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"rows": [], "items_total": 4, "state": "incomplete"},
        {
            "rows": [
                ItemRow(item_index=i, item_id="x", status="failed", reason="file_empty")
                for i in range(3)
            ]
        },
        {"criteria": ()},
        {"spec": {}},
        {
            "spec": {"metrics": []},
            "rows": [ItemRow(item_index=0, item_id="x", status="done")],
        },
        {"class_names": None, "software": {}, "plan": {}, "item_names": {}},
        {"gallery_mode": "none"},
        {"gallery_mode": "maps"},
    ],
    ids=[
        "no items",
        "all missing",
        "all failed",
        "no criteria",
        "empty spec",
        "no metrics",
        "bare facts",
        "no gallery",
        "maps only",
    ],
)
def test_dark_corners_still_give_a_page(
    make_inputs: MakeInputs, changes: dict[str, Any]
) -> None:
    """Whatever is missing, the page is whole and says so."""
    page = Page(render_html(build_document(make_inputs(**changes))))
    assert page.open == []
    assert "Limits and known failures" in page.words


def test_a_report_without_limits_is_refused(make_inputs: MakeInputs) -> None:
    """The section on limits is mandatory."""
    document = build_document(make_inputs())
    document["limits"] = []
    with pytest.raises(ValueError, match="limits"):
        render_html(document)


def test_the_page_stays_small_however_large_the_run(make_inputs: MakeInputs) -> None:
    """Thousands of classes, reasons, criteria and long names stay under 5 MB."""
    classes = 5000
    rows = [
        ItemRow(
            item_index=i,
            item_id=str(i),
            status="done" if i % 2 else "failed",
            reason=f"reason {i} " * 20,
            predicted=i,
            label=i,
            score=0.5,
            metrics={f"metric {i % 100}": float(i)},
            absences={f"metric {i % 100}": f"absence {i} " * 20},
        )
        for i in range(classes)
    ]
    inputs = make_inputs(
        rows,
        class_names=[f"a long class name {i} " * 50 for i in range(classes)],
        item_names=dict.fromkeys(range(classes), "name" * 1000),
        criteria=[
            CriterionVerdict(
                criterion=f"c {i}" * 100, verdict="pass", observed=0.1, bound=0.2
            )
            for i in range(2000)
        ],
        plan={f"fact {i}": "x" * 5000 for i in range(500)},
        spec={"metrics": [], "model": {"classes": ["y" * 1000] * 40}},
        dead_shards=[
            DeadShard(shard_index=i, first_item=i, item_count=1, error="e" * 64)
            for i in range(3000)
        ],
    )
    huge = Picture(title="t", description="d", data_uri="data:," + "A" * 1_500_000)
    text = render_html(build_document(inputs), dict.fromkeys(range(classes), (huge,)))
    assert len(text.encode()) < MOST_BYTES
    page = Page(text)
    assert page.open == []
    # Two pictures fit; the other entries say that theirs were left out.
    assert sum(tag == "img" for tag, _ in page.elements) == 2
    assert "would make this page too large" in page.words
    assert "more criteria in the JSON report" in page.words


def test_long_names_keep_their_beginning_and_their_end() -> None:
    """The extension of a file name stays readable."""
    text = shortened("a" * 300 + ".jpeg", 50)
    assert len(text) == 50
    assert text.startswith("aaa")
    assert text.endswith("a.jpeg")
    assert shortened("short.jpg", 50) == "short.jpg"
