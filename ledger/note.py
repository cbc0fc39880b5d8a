# SPDX-License-Identifier: Apache-2.0
"""The C2SP signed note: text, a blank line, and one line for each signature.

Source: C2SP signed-note v1 (https://c2sp.org/signed-note). Nothing here knows what
the text means or how a signature is checked.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from ledger.errors import FormatError

#: The specification asks for at least 16; the caps bound what a stranger can send.
MAX_SIGNATURES: Final = 64
MAX_NOTE_BYTES: Final = 1 << 20

_DASH: Final = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
#: Half a character: JSON and command lines can bring one, UTF-8 cannot hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: which key, by name and id, signed the text how."""

    name: str
    key_id: bytes
    signature: bytes

    def to_line(self) -> str:
        """Return the line, without its newline."""
        blob = base64.b64encode(self.key_id + self.signature).decode("ascii")
        return f"{_DASH}{self.name} {blob}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and the signatures over its UTF-8 bytes."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_text(self) -> str:
        """Return the whole note."""
        lines = "".join(f"{sig.to_line()}\n" for sig in self.signatures)
        return f"{self.text}\n{lines}"

    @classmethod
    def parse(cls, note: str) -> "Note":
        """Return the note's parts; no signature has been checked.

        Raises:
            FormatError: not a signed note, or larger than a note may be.
        """
        if len(note) > MAX_NOTE_BYTES:
            raise FormatError(f"note is longer than {MAX_NOTE_BYTES} characters")
        if _CONTROL.search(note):
            raise FormatError("note holds a control character other than newline")
        if _SURROGATE.search(note):
            raise FormatError("note is no valid Unicode text")
        text, blank, block = note.rpartition("\n\n")
        if not blank or not block.endswith("\n"):
            raise FormatError(
                "note has no blank line followed by signature lines, or is cut off"
            )
        lines = block[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise FormatError(
                f"note has {len(lines)} signatures, at most {MAX_SIGNATURES} are read"
            )
        return cls(f"{text}\n", tuple(_parse_line(line) for line in lines))


def check_key_name(name: str) -> None:
    """Return only if a key may have this name.

    Raises:
        FormatError: it is empty, or holds a space, a plus, a control character or half
            a character.
    """
    if _SURROGATE.search(name):
        raise FormatError("key name is no valid Unicode text")
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise FormatError(
            f"key name {name!r} is empty or holds a space, a plus sign or a control "
            "character; use a name such as example.com/log"
        )


def key_id(name: str, signature_type: int, public: bytes) -> bytes:
    """Return the four bytes that tell which key signed.

    Source: signed-note, "Signatures": SHA-256(name, newline, type, key)[:4].
    """
    data = name.encode("utf-8") + b"\n" + bytes([signature_type]) + public
    return hashlib.sha256(data).digest()[:4]


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes of strict standard base64 (RFC 4648 section 4).

    Raises:
        FormatError: other characters, or padding or stray bits that are not canonical.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise FormatError(f"{what} is not standard base64") from exc
    # One value must have one spelling, or a note could change without notice.
    if base64.b64encode(data).decode("ascii") != text:
        raise FormatError(f"{what} is not canonical base64")
    return data


def _parse_line(line: str) -> NoteSignature:
    name, space, blob = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise FormatError(f"signature line {line[:80]!r} is not '\u2014 name base64'")
    check_key_name(name)
    data = decode_base64(blob, "signature")
    if len(data) <= 4:
        raise FormatError(f"signature of {name} has {len(data)} bytes, expected over 4")
    return NoteSignature(name, data[:4], data[4:])
