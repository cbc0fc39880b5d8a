# SPDX-License-Identifier: Apache-2.0
"""The page that people read, drawn from the JSON report and nothing else.

One static file: no script, no remote asset, and a policy in its head that forbids both.
Every list is cut at a stated length, so that the page stays under five megabytes
whatever the run's size; the JSON report says the rest.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reports import change_plot, curve_plot, formats, fraction_plot, plots
from pipeline.reports.inputs import Picture
from pipeline.reports.sections import SECTIONS
from pipeline.reports.wording import absence_sentence, reason_sentence, title_of

#: The page may not be larger, in bytes.
MOST_BYTES = 5_000_000
#: What of that pictures may take; later entries of the gallery go without.
PICTURE_BYTES = 3_500_000
#: Rows of a table and parts of a section; what is left out is counted on the page.
LISTED = 40
#: Characters of a name and of the spec.
NAME_CHARACTERS = 120
SPEC_CHARACTERS = 20_000

#: Facts of the plan that other sections of the page show, or that are only estimates.
SHOWN_ELSEWHERE = frozenset(
    {
        "method",
        "method_arguments",
        "remedies",
        "target",
        "policy",
        "policy_arguments",
        "metrics",
        "forwards_per_item",
        "layer",
        "mean",
        "std",
        "item_seconds",
    }
)

#: Parts that reports of earlier versions do not have.
_OF_LATER_VERSIONS: Mapping[str, Any] = dict.fromkeys(
    ("use", "model_record", "groups", "review", "reverified", "privacy", "signatures")
)

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_TEMPLATES = Path(__file__).parent / "templates"


def render_html(
    document: Mapping[str, Any],
    pictures: Mapping[int, Sequence[Picture]] | None = None,
) -> str:
    """Return the page of a JSON report.

    Args:
        document: As `document.build_document` returns it, or as read from its bytes.
        pictures: Item index to the pictures of that item.

    Raises:
        ValueError: the report states no limits, or the page would be too large.
    """
    if not document["limits"]:
        raise ValueError("expected a report with its limits, got one without any")
    template = environment().get_template("report.html.j2")
    page = ""
    for budget in (PICTURE_BYTES, 0):
        page = template.render(
            report={**_OF_LATER_VERSIONS, **document},
            heads=_heads(document),
            pictures=_within(pictures or {}, budget, document),
            listed=LISTED,
            shown_elsewhere=SHOWN_ELSEWHERE,
            policy=CONTENT_POLICY,
            families=families(document["metrics"][:LISTED]),
            spec_text=_spec_text(document["spec"]),
        )
        if len(page.encode()) < MOST_BYTES:
            return page
    raise ValueError(
        f"expected a page below {MOST_BYTES} bytes, got {len(page.encode())} without "
        "any picture; ask for fewer metrics or criteria"
    )


def _heads(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the sections' heads; reports of earlier versions say nothing of them."""
    return document.get("sections") or [
        {
            "number": number,
            "name": name,
            "title": title,
            "has_records": None,
            "says": None,
        }
        for number, (name, title) in enumerate(SECTIONS, start=1)
    ]


def _within(
    pictures: Mapping[int, Sequence[Picture]],
    budget: int,
    document: Mapping[str, Any],
) -> dict[int, Sequence[Picture]]:
    """Return the pictures of as many gallery entries as fit, in the gallery's order."""
    chosen: dict[int, Sequence[Picture]] = {}
    for entry in document["gallery"]["entries"]:
        index = entry["item_index"]
        size = sum(
            len(picture.data_uri) + len(picture.fragment)
            for picture in pictures.get(index, ())
        )
        if size and size <= budget:
            chosen[index] = pictures[index]
            budget -= size
    return chosen


def _spec_text(spec: Mapping[str, Any]) -> str:
    text = json.dumps(spec, indent=2, ensure_ascii=False)
    if len(text) <= SPEC_CHARACTERS:
        return text
    return text[:SPEC_CHARACTERS] + "\n... the rest is in the JSON report"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates with the filters that every page has."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=_number,
        beside=_number_beside,
        pct=_as_data(formats.percent),
        cnt=_as_data(formats.count),
        moment=_as_data(formats.moment),
        duration=_as_data(formats.duration),
        title_of=title_of,
        reason=reason_sentence,
        absence=absence_sentence,
        shortened=shortened,
        plain=plain,
        slug=slug,
        by_reason=by_reason,
        rate=_as_data(formats.rate),
        signed=_as_data(formats.signed),
        points=_as_data(formats.points),
        exact=_as_data(formats.exact),
        lower_first=lower_first,
    )
    environment.globals.update(
        distribution=plots.distribution,
        keep_bar=plots.keep_bar,
        change_plot=change_plot.change_plot,
        parts_bar=plots.parts_bar,
        number_of=formats.number_of,
        class_name=class_name,
        level_plot=curve_plot.level_plot,
        fraction_plot=fraction_plot.fraction_plot,
    )
    return environment


def families(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the values that share one metric, and so one definition, together.

    `absent` is what they all lack for the same reasons, None where these differ.
    """
    found = []
    for _, group in groupby(parts, key=lambda part: part["metric"]):
        members = list(group)
        absent = members[0]["absent"]
        same = all(part["absent"] == absent for part in members)
        found.append({"parts": members, "absent": absent if same else None})
    return found


def class_name(report: Mapping[str, Any], index: int) -> str:
    """Return what the report calls a class."""
    listed = report["scope"]["classes"]["listed"]
    names = (row["name"] for row in listed if row["index"] == index)
    return next(names, f"class {index}")


def shortened(text: str, most: int = NAME_CHARACTERS) -> str:
    """Return the text, its middle left out where it is longer than that."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]}…{text[head + 1 - most :]}"


def slug(name: str) -> str:
    """Return a name as it may stand in an identifier of the page."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:NAME_CHARACTERS]


def plain(value: object) -> str:
    """Return a setting as text: what it would be in the spec's file."""
    if isinstance(value, Mapping) and value.keys() == {"count", "sha256"}:
        return f"{formats.count(value['count'])} values, SHA-256 {value['sha256']}"
    if isinstance(value, str):
        return shortened(value)
    text = json.dumps(value, ensure_ascii=False)
    return shortened(text.strip('"'), 4 * NAME_CHARACTERS)


def by_reason(absences: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Return the titles of the values that are absent, together by their reason."""
    found: dict[str, list[str]] = {}
    for name, code in absences.items():
        found.setdefault(code, []).append(title_of(name))
    return list(found.items())


def lower_first(sentence: str) -> str:
    """Return a sentence as it stands inside another one: small, without its stop."""
    return (sentence[:1].lower() + sentence[1:]).rstrip(".")


def _as_data(write: Callable[[Any], str]) -> Callable[[Any], Markup]:
    """Return a filter that keeps the exact number beside the one people read."""

    def filtered(value: float | None) -> Markup:
        return _data(value, write(value))

    return filtered


def _number(value: float | None, reason: str | None = None) -> Markup:
    return _data(value, formats.number(value, reason))


def _number_beside(value: float | None, other: float | None) -> Markup:
    return _data(value, formats.number_beside(value, other))


def _data(value: float | None, text: str) -> Markup:
    if value is None:
        return Markup('<span class="absent">{}</span>').format(text)
    return Markup('<data value="{}">{}</data>').format(repr(value), text)
