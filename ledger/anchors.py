# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that were copied out of the reach of whoever could rewrite the ledger.

An anchor's file is a signed note, or lines of JSON with a note each (`{"note": ...}`),
as the append-only anchor file has them.
"""

import json
from pathlib import Path
from typing import Final

from ledger.errors import FormatError, KeyFileError
from ledger.note import MAX_NOTE_BYTES, Note

_MAX_FILE_BYTES: Final = 256 << 20


def read_notes(path: Path) -> list[str]:
    """Return the signed notes of a file, which nobody has checked yet.

    Raises:
        KeyFileError: the file cannot be read or holds no signed note.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyFileError(f"the file {path} of checkpoints cannot be read.") from exc
    try:
        notes = parse_lines(text) if text.startswith("{") else [text]
        for note in notes:
            Note.parse(note)
    except FormatError as exc:
        raise KeyFileError(f"the file {path} holds no signed checkpoint.") from exc
    return notes


def parse_lines(text: str) -> list[str]:
    """Return the notes of lines of JSON; a half line at the end is left out.

    Raises:
        FormatError: another line is no JSON object with a note.
    """
    notes = []
    lines = text.split("\n")
    for line in lines[:-1]:
        try:
            note = json.loads(line)["note"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise FormatError("a line is no JSON object with a note") from exc
        if not isinstance(note, str) or len(note) > MAX_NOTE_BYTES:
            raise FormatError("a note is no text, or too long")
        notes.append(note)
    return notes
