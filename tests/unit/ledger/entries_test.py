# SPDX-License-Identifier: Apache-2.0
"""Ledger entries: what may be written, and that reading gives the same bytes."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.actions import Action
from ledger.canonical import canonical_bytes
from ledger.entries import MAX_ENTRY_BYTES, Entry, rfc3339
from ledger.errors import FormatError, UnknownSchemaError

GOOD: dict[str, Any] = {
    "at": "2026-11-23T08:00:00.123456Z",
    "actor": "worker:w1",
    "action": Action.SHARD_FINISHED,
    "object": "run/r1/shard/3",
    "digest": "ab" * 32,
    "details": {"key": "runs/r1/3.parquet", "size": 12, "ok": True, "why": None},
}

texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
details = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    scalars | st.lists(scalars, max_size=4),
    max_size=5,
)


def fields(**changes: object) -> dict[str, Any]:
    """Return the JSON fields of the good entry with some of them changed."""
    return {"schema": "affidavit.entry/1", **GOOD, **changes}


@given(details, st.sampled_from(Action), texts.filter(bool))
def test_an_entry_reads_back_as_it_was(
    content: dict[str, Any], action: Action, actor: str
) -> None:
    """Parsing the bytes of an entry gives an equal entry with equal bytes."""
    entry = Entry(**{**GOOD, "details": content, "action": action, "actor": actor})
    again = Entry.parse(entry.to_bytes())
    assert again == entry
    assert again.to_bytes() == entry.to_bytes()


printable = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), printable)
)
def test_the_fast_way_to_canonical_bytes_is_the_general_one(
    content: dict[str, str],
) -> None:
    """Whatever text an entry holds, its bytes are RFC 8785's of its fields."""
    entry = Entry(**{**GOOD, "details": content})
    assert entry.to_bytes() == canonical_bytes(fields(details=content))


def test_the_bytes_are_canonical_json_with_a_schema() -> None:
    """The stored form is RFC 8785 and names its schema, so it can be read in years."""
    assert Entry(**GOOD).to_bytes() == canonical_bytes(fields())


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026-11-23 08:00:00Z"},
        {"at": "2026-11-23T08:00:00"},
        {"at": "2026-11-23T08:00:00+00:00"},
        {"at": "2026-02-30T08:00:00Z"},
        {"at": "2026-11-23T08:00:00.1234567Z"},
        {"at": "२०२६-11-23T08:00:00Z"},
        {"at": 5},
        {"actor": ""},
        {"actor": "a\nb"},
        {"actor": "a\u202eb"},
        {"actor": "x" * 301},
        {"actor": None},
        {"object": "Run/1"},
        {"object": "run//1"},
        {"object": "run/a b"},
        {"object": "run/1/"},
        {"object": "run/" + "x" * 300},
        {"digest": "AB" * 32},
        {"digest": "ab"},
        {"digest": 7},
        {"details": {"a": 0.5}},
        {"details": {"a": [0.5]}},
        {"details": {"a": {"b": 1}}},
        {"details": {"a": [[1]]}},
        {"details": {"A": 1}},
        {"details": {"": 1}},
        {"details": {"a": 2**53}},
        {"details": {"a": "\x1b[2J"}},
        {"details": {"a": "\ud800"}},
        {"details": {"a": "x" * 1001}},
        {"details": {"a": [1] * 1001}},
        {"details": {f"k{number}": 1 for number in range(51)}},
        {"details": [1]},
        {"action": "shard:finished"},
    ],
)
def test_what_an_entry_must_not_hold_is_refused(change: dict[str, Any]) -> None:
    """A field outside its rules raises before anything can be written."""
    with pytest.raises(FormatError):
        Entry(**{**GOOD, **change})


def test_an_entry_longer_than_16_bits_is_refused() -> None:
    """An entry that a tile could not hold is never written."""
    long = {f"k{number}": ["x" * 1000] * 10 for number in range(10)}
    with pytest.raises(FormatError, match=str(MAX_ENTRY_BYTES)):
        Entry(**{**GOOD, "details": long}).to_bytes()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{",
        b"[" * 60_000,
        b" " + canonical_bytes(fields()),
        canonical_bytes(fields()) + b"\n",
        json.dumps(fields()).encode(),
        canonical_bytes(fields()).replace(b'"actor":', b'"actor":"x","actor":'),
        canonical_bytes(fields(extra=1)),
        canonical_bytes({k: v for k, v in fields().items() if k != "actor"}),
        canonical_bytes(fields(digest=["a"])),
        canonical_bytes(fields(details={"a": 1})).replace(b":1}", b":1.0}"),
        b"x" * 70_000,
    ],
)
def test_bytes_that_are_no_entry_are_refused(body: bytes) -> None:
    """Malformed, doubled or re-spaced bytes end in FormatError and nothing else."""
    with pytest.raises(FormatError):
        Entry.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "affidavit.entry/2"},
        {"schema": None},
        {"action": "run:teleported"},
        {"action": 1},
    ],
)
def test_entries_of_another_version_are_told_apart(change: dict[str, Any]) -> None:
    """An unknown schema or action is reported as such, not as damage."""
    with pytest.raises(UnknownSchemaError):
        Entry.parse(canonical_bytes(fields(**change)))


def test_later_changes_by_the_caller_do_not_reach_the_entry() -> None:
    """An entry keeps what it was given even when the caller's mapping changes."""
    inner = [1]
    content: dict[str, Any] = {"a": inner}
    entry = Entry(**{**GOOD, "details": content})
    before = entry.to_bytes()
    content["b"] = 2
    inner.append(2)
    assert entry.to_bytes() == before


def test_moments_are_written_in_utc_with_microseconds() -> None:
    """Any aware moment becomes the same instant in UTC, naive ones are refused."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-01-02T01:04:05.000006Z"
    entry = Entry(**{**GOOD, "at": rfc3339(moment)})
    assert entry.moment == moment.astimezone(UTC)
    with pytest.raises(FormatError):
        rfc3339(datetime(2026, 1, 2))  # noqa: DTZ001 - that is the point


def test_every_action_is_a_subject_and_a_past_verb() -> None:
    """Tags all have the form subject:verb, so that they sort and filter by subject."""
    assert all(re.fullmatch(r"[a-z]+:[a-z]+", action) for action in Action)
