# SPDX-License-Identifier: Apache-2.0
"""C2SP checkpoints and the keys that sign and verify them.

Source: C2SP tlog-checkpoint and signed-note (https://c2sp.org/tlog-checkpoint).
`cryptography` is imported where a signature is made or checked, so that reading a
checkpoint costs nothing at start-up.
"""

import base64
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ledger.errors import FormatError, KeyFileError, SignatureError
from ledger.merkle import HASH_SIZE
from ledger.note import Note, NoteSignature, check_key_name, decode_base64, key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NAME_LINE: Final = "Name: "
_PEM_START: Final = "-----BEGIN "


class SignatureType(IntEnum):
    """The byte that says which algorithm a key and its signatures use.

    signed-note assigns the values; ML-DSA-44 and cosignatures would come here.
    """

    ED25519 = 0x01


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a ledger: which ledger, how many entries, and their root."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise FormatError("checkpoint origin must be one line that is not empty")
        if not 0 <= self.size < 1 << 63:
            raise FormatError(f"checkpoint size {self.size} is not in 0 .. 2^63-1")
        if len(self.root) != HASH_SIZE:
            raise FormatError(
                f"checkpoint root has {len(self.root)} bytes, expected {HASH_SIZE}"
            )

    def to_text(self) -> str:
        """Return the note text that is signed: three lines."""
        root = base64.b64encode(self.root).decode("ascii")
        return f"{self.origin}\n{self.size}\n{root}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Return the checkpoint that a note text states; extension lines are ignored.

        Raises:
            FormatError: fewer than three lines, an empty line, or a bad size or root.
        """
        lines = text.removesuffix("\n").split("\n")
        if len(lines) < 3 or not all(lines) or not text.endswith("\n"):
            raise FormatError(
                f"checkpoint text has {len(lines)} lines, expected origin, size and "
                "root, none of them empty"
            )
        origin, size, root = lines[:3]
        if not _SIZE.fullmatch(size):
            raise FormatError(f"checkpoint size {size[:40]!r} is not a decimal number")
        return cls(origin, int(size), decode_base64(root, "checkpoint root"))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name; `str()` and `parse` use the C2SP vkey text."""

    name: str
    signature_type: SignatureType
    public: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public) != 32:
            raise FormatError(
                f"Ed25519 public key has {len(self.public)} bytes, expected 32"
            )

    def __str__(self) -> str:
        blob = bytes([self.signature_type]) + self.public
        encoded = base64.b64encode(blob).decode("ascii")
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @property
    def key_id(self) -> bytes:
        """The four bytes that signature lines carry."""
        return key_id(self.name, self.signature_type, self.public)

    def format(self) -> str:
        """Return the vkey text: name+hash+base64."""
        return str(self)

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """Return the key that a vkey text names.

        Raises:
            FormatError: not `name+hash+base64`, the hash is of another key, or the
                algorithm is not supported.
        """
        # The base64 may hold plus signs of its own; names and hashes may not.
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise FormatError("verifier key is not of the form name+hash+base64")
        name, digest, encoded = parts
        blob = decode_base64(encoded, "verifier key")
        key = cls(name, _signature_type(blob), blob[1:])
        if key.key_id.hex() != digest:
            raise FormatError(
                f"verifier key hash is {digest[:16]!r}, expected {key.key_id.hex()}; "
                "the key was copied wrongly"
            )
        return key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return only if the signature over the message is this key's.

        Raises:
            SignatureError: it is not.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError) as exc:
            raise SignatureError(
                f"signature of key {self.name} does not fit the signed text"
            ) from exc


class SigningKey:
    """An Ed25519 private key under a name; it never prints its secret."""

    __slots__ = ("_private", "_verifier")

    def __init__(self, name: str, private: "Ed25519PrivateKey") -> None:
        public = private.public_key().public_bytes_raw()
        self._verifier = VerifierKey(name, SignatureType.ED25519, public)
        self._private = private

    def __repr__(self) -> str:
        return f"SigningKey({self._verifier})"

    @property
    def name(self) -> str:
        """The name that signature lines carry."""
        return self._verifier.name

    @property
    def verifier(self) -> VerifierKey:
        """The public half, to be handed to auditors."""
        return self._verifier

    @classmethod
    def generate(cls, name: str) -> "SigningKey":
        """Return a fresh key from the system's randomness.

        Raises:
            FormatError: the name may not be a key's.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        check_key_name(name)
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, name: str | None = None) -> "SigningKey":
        """Return the key of a PKCS #8 PEM, named by its `Name:` line or by `name`.

        Raises:
            KeyFileError: not an unencrypted Ed25519 PEM, or no name is to be had.
        """
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            load_pem_private_key,
        )

        preamble, start, block = pem.partition(_PEM_START.encode("ascii"))
        try:
            private = load_pem_private_key(start + block, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise KeyFileError("key is not an unencrypted PKCS #8 PEM") from exc
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFileError("key is of another algorithm, expected Ed25519")
        for line in preamble.decode("utf-8", "replace").splitlines():
            if line.startswith(_NAME_LINE):
                return cls(line.removeprefix(_NAME_LINE).strip(), private)
        if name is None:
            raise KeyFileError("key has no 'Name:' line; say which name it signs under")
        return cls(name, private)

    def to_pem(self) -> bytes:
        """Return the secret as unencrypted PKCS #8 PEM under a `Name:` line.

        The name goes with the key because it is part of the key's id: signed under
        another name, the same key is a stranger to every auditor. RFC 7468 section 2
        lets explanatory text stand before the block.
        """
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        block = self._private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        return f"{_NAME_LINE}{self.name}\n".encode() + block

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the bare signature over a message."""
        return self._private.sign(message)

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the signed note of a checkpoint."""
        return self.sign_text(checkpoint.to_text())

    def sign_text(self, text: str) -> str:
        """Return a signed note of any text that ends in a newline.

        Raises:
            FormatError: the text cannot be the text of a note.
        """
        signature = self._private.sign(text.encode("utf-8"))
        line = NoteSignature(self.name, self._verifier.key_id, signature)
        note = Note(text, (line,)).to_text()
        if Note.parse(note).text != text:
            raise FormatError("note text must end in exactly one newline")
        return note


def _signature_type(blob: bytes) -> SignatureType:
    try:
        return SignatureType(blob[0])
    except (IndexError, ValueError) as exc:
        raise FormatError(
            f"verifier key has algorithm byte '{blob[:1].hex()}'; this version knows "
            "01 (Ed25519)"
        ) from exc


def open_note(text: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint of a note that the key has signed.

    Raises:
        FormatError: not a signed checkpoint.
        SignatureError: the key has not signed it, or any of its signatures is bad.
    """
    note = Note.parse(text)
    verify_note(note, key)
    return Checkpoint.parse(note.text)


def read_unverified(text: str) -> Checkpoint:
    """Return the checkpoint that a note states; nobody vouches for it.

    Raises:
        FormatError: not a signed checkpoint.
    """
    return Checkpoint.parse(Note.parse(text).text)


def verify_note(note: Note, key: VerifierKey) -> None:
    """Return only if the key has signed the note and none of its lines is bad.

    Lines of other keys are ignored, as signed-note demands: witnesses add theirs.

    Raises:
        SignatureError: no line is of this key, or one of them does not verify.
    """
    mine = [
        line
        for line in note.signatures
        if line.name == key.name and line.key_id == key.key_id
    ]
    if not mine:
        signers = ", ".join(
            f"{line.name}+{line.key_id.hex()}" for line in note.signatures
        )
        raise SignatureError(
            f"note is not signed by {key.name}+{key.key_id.hex()}; it names {signers}"
        )
    message = note.text.encode("utf-8")
    for line in mine:
        key.verify(line.signature, message)
