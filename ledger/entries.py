# SPDX-License-Identifier: Apache-2.0
"""One ledger entry: what it may hold, how it is written and how it is read back.

Entries hold tokens, ids, digests, counts and codes. Text is capped and free of
control characters, so an entry can be printed anywhere; floats are refused, so any
verifier in any language agrees on the bytes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ledger.actions import Action
from ledger.canonical import MAX_SAFE_INTEGER
from ledger.errors import FormatError, UnknownSchemaError

__all__ = ["MAX_ENTRY_BYTES", "SCHEMA", "Action", "Detail", "Entry", "rfc3339"]

SCHEMA: Final = "affidavit.entry/1"

#: C2SP tlog-tiles prefixes an entry with a 16-bit length.
MAX_ENTRY_BYTES: Final = 65_535

MAX_NAME_LENGTH: Final = 300
MAX_TEXT_LENGTH: Final = 1_000
MAX_LIST_LENGTH: Final = 1_000
MAX_DETAILS: Final = 50

Scalar = str | int | bool | None
Detail = Scalar | Sequence[Scalar]

#: RFC 8785 for what an entry can hold, and several times faster than the general way:
#: keys are ASCII and so sort alike, numbers are safe integers, and the checks below let
#: no lone surrogate pass. A test holds both ways equal.
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode

_FIELDS = frozenset({"schema", "at", "actor", "action", "object", "digest", "details"})
_OBJECT = re.compile(r"[a-z][a-z0-9_-]*(/[A-Za-z0-9._:@=+-]+)*")
_DETAIL_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# RFC 3339 section 5.6 with the offset fixed to Z; leap seconds are left out because
# no clock that we read reports them.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
# Fixed ranges and not unicodedata, whose answers change with Python's version:
# controls, surrogates, line separators, and the invisible and bidirectional marks
# that make a line read as another.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


def rfc3339(moment: datetime) -> str:
    """Return an aware moment as RFC 3339 UTC text with microseconds.

    Raises:
        FormatError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise FormatError("a moment without a time zone cannot be written as UTC")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened: who did what to which object, and when.

    Raises:
        FormatError: a field is not allowed in an entry; the message says which.
    """

    #: RFC 3339, UTC, ending in Z.
    at: str
    #: The principal: a person's account, `worker:<id>`, `sequencer`.
    actor: str
    action: Action
    #: `run/<id>`, `run/<id>/shard/<n>`, `ledger`, `settings`.
    object: str
    #: SHA-256 in lower-case hexadecimal of what the action produced or touched.
    digest: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_moment(self.at)
        _check_text("actor", self.actor, MAX_NAME_LENGTH)
        if not self.actor:
            raise FormatError("actor is empty, expected who acted")
        _check_text("object", self.object, MAX_NAME_LENGTH)
        if not _OBJECT.fullmatch(self.object):
            raise FormatError(
                f"object {self.object!r} is not a name such as run/<id>/shard/<n>"
            )
        _check_digest(self.digest)
        if not isinstance(self.action, Action):
            raise FormatError(f"action {self.action!r} is not an Action")
        # A copy: what the caller does to its mapping later must not change history.
        object.__setattr__(self, "details", _checked_details(self.details))

    @property
    def moment(self) -> datetime:
        """When it happened, as an aware datetime."""
        return datetime.fromisoformat(self.at)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are stored and hashed.

        Raises:
            FormatError: they would be longer than 65,535 bytes.
        """
        body = _encode(
            {
                "schema": SCHEMA,
                "at": self.at,
                "actor": self.actor,
                "action": self.action,
                "object": self.object,
                "digest": self.digest,
                "details": self.details,
            }
        ).encode("utf-8")
        if len(body) > MAX_ENTRY_BYTES:
            raise FormatError(
                f"entry has {len(body)} bytes, at most {MAX_ENTRY_BYTES} are allowed; "
                "put the rest into an artifact and name its digest"
            )
        return body

    @classmethod
    def parse(cls, body: bytes) -> "Entry":
        """Return the entry that these exact bytes are.

        Raises:
            UnknownSchemaError: another schema, or an action this version lacks.
            FormatError: not canonical JSON, or a field is missing, unknown or bad.
        """
        fields = _json_object(body)
        schema = fields.get("schema")
        if schema != SCHEMA:
            raise UnknownSchemaError(f"entry has schema {schema!r}, expected {SCHEMA}")
        if fields.keys() != _FIELDS:
            odd = ", ".join(sorted(fields.keys() ^ _FIELDS))
            raise FormatError(f"entry has missing or unknown fields: {odd}")
        del fields["schema"]
        entry = cls(**{**fields, "action": _known_action(fields["action"])})
        # Two readers of a duplicate key or of odd spacing could see two entries.
        if entry.to_bytes() != body:
            raise FormatError("entry is not RFC 8785 canonical JSON")
        return entry


def _known_action(tag: object) -> Action:
    try:
        return Action(str(tag))
    except ValueError as exc:
        raise UnknownSchemaError(
            f"action {str(tag)[:80]!r} is not known to this version"
        ) from exc


# The fields of a parsed entry are whatever a stranger wrote, hence Any and the
# checks of types below.
def _json_object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_ENTRY_BYTES:
        raise FormatError(
            f"entry has {len(body)} bytes, at most {MAX_ENTRY_BYTES} are allowed"
        )
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise FormatError("entry is not JSON in UTF-8") from exc
    if not isinstance(value, dict):
        raise FormatError(f"entry is a JSON {type(value).__name__}, expected an object")
    return value


def _check_digest(digest: object) -> None:
    if digest is None or (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        return
    raise FormatError(
        f"digest {str(digest)[:80]!r} is not 64 lower-case hexadecimal digits"
    )


def _check_moment(at: object) -> None:
    if isinstance(at, str) and _MOMENT.fullmatch(at):
        try:
            datetime.fromisoformat(at)
        except ValueError:
            pass
        else:
            return
    raise FormatError(
        f"time {at!r} is not RFC 3339 in UTC, such as 2026-01-31T09:00:00Z"
    )


def _check_text(name: str, value: object, limit: int) -> None:
    if not isinstance(value, str):
        raise FormatError(f"{name} is {type(value).__name__}, expected text")
    if len(value) > limit:
        raise FormatError(
            f"{name} has {len(value)} characters, at most {limit} allowed"
        )
    found = _UNPRINTABLE.search(value)
    if found:
        raise FormatError(
            f"{name} holds the control character U+{ord(found[0]):04X}, "
            "which an entry must not"
        )


def _checked_details(details: object) -> dict[str, Detail]:
    if not isinstance(details, Mapping):
        raise FormatError(f"details is {type(details).__name__}, expected a mapping")
    if len(details) > MAX_DETAILS:
        raise FormatError(f"details has {len(details)} keys, at most {MAX_DETAILS}")
    checked: dict[str, Detail] = {}
    for key, value in details.items():
        if not isinstance(key, str) or not _DETAIL_KEY.fullmatch(key):
            raise FormatError(f"detail key {key!r} is not lower_snake_case text")
        if isinstance(value, list | tuple):
            if len(value) > MAX_LIST_LENGTH:
                raise FormatError(
                    f"detail {key} has {len(value)} items, at most {MAX_LIST_LENGTH}"
                )
            checked[key] = [_checked_scalar(key, item) for item in value]
        else:
            checked[key] = _checked_scalar(key, value)
    return checked


def _checked_scalar(key: str, value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(f"detail {key}", value, MAX_TEXT_LENGTH)
        return value
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise FormatError(f"detail {key} is beyond 2^53-1; write it as text")
        return value
    raise FormatError(
        f"detail {key} is {type(value).__name__}; entries hold text, integers, "
        "booleans, null and lists of them (write a float as decimal text)"
    )
