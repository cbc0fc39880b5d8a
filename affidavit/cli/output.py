# SPDX-License-Identifier: Apache-2.0
"""How commands speak: one JSON document, or lines for people; errors as a sentence."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


def say(text: str = "") -> None:
    """A line for people is on standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A line beside the result is on standard error, so that pipes stay clean."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """Return text from outside as it may stand in a line: no control characters."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


def print_json(document: Any) -> None:
    """The one JSON document of a command is on standard output."""
    # ASCII, so that it passes any terminal and holds file names that are not UTF-8;
    # and NaN, which is no JSON, must not leave this program.
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What was said of an error, and of which kind it is."""

    kind: str
    message: str


#: The last complaint of this command, if there was one.
_complaints: list[Complaint] = []


def complain(message: str, *, kind: str = "fault") -> None:
    """An error is on standard error, as one sentence."""
    note(f"affidavit: {message}")
    _complaints.append(Complaint(kind, message))


def take_complaint() -> Complaint | None:
    """Return the last complaint, which is then forgotten, None where all went well."""
    last = _complaints[-1] if _complaints else None
    _complaints.clear()
    return last


def warn(messages: Iterable[str]) -> None:
    """Each warning is on standard error, as one sentence."""
    for message in messages:
        note(f"affidavit: warning: {message}")


def size_text(size_bytes: float) -> str:
    """Return a size as people write it: `12.3 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return (
                f"{size_bytes:.0f} {unit}"
                if unit == "bytes"
                else (f"{size_bytes:.1f} {unit}")
            )
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def time_text(seconds: float) -> str:
    """Return a duration as people write it: `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
