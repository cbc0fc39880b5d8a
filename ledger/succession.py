# SPDX-License-Identifier: Apache-2.0
"""From one signing key to the next: the old key signs the new, in a ledger entry.

Whoever holds the public key of any time follows the links. Forward, the signature of
the key that is known already vouches for the next. Backward, a link is an entry that
the known key has signed together with everything before it; such a link counts only if
a checkpoint of the known key, or of a later one, covers it.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.actions import Action
from ledger.checkpoint import SigningKey, VerifierKey
from ledger.entries import Detail, Entry
from ledger.errors import FormatError, SignatureError
from ledger.note import decode_base64

SCHEMA: Final = "affidavit.succession/1"

#: Cheap to look for before an entry is parsed.
MARK: Final = b'"action":"key:rotated"'


@dataclass(frozen=True, slots=True)
class Link:
    """An entry by which one key has handed over to another."""

    index: int
    old: VerifierKey
    new: VerifierKey


def statement(old: VerifierKey, new: VerifierKey) -> bytes:
    """Return the text that both keys sign."""
    return f"{SCHEMA}\n{old}\n{new}\n".encode()


def link_details(old: SigningKey, new: SigningKey) -> dict[str, Detail]:
    """Return the details of the entry by which the old key hands over to the new."""
    text = statement(old.verifier, new.verifier)
    return {
        "old": str(old.verifier),
        "new": str(new.verifier),
        "signed_by_old": base64.b64encode(old.sign_bytes(text)).decode("ascii"),
        # So that nobody can have a key of somebody else's named as the next one.
        "signed_by_new": base64.b64encode(new.sign_bytes(text)).decode("ascii"),
    }


def read_link(index: int, body: bytes) -> Link | None:
    """Return the link that an entry is, None where it is another or a forged one."""
    if MARK not in body:
        return None
    try:
        entry = Entry.parse(body)
        if entry.action is not Action.KEY_ROTATED:
            return None
        return Link(index, *_checked(entry.details))
    except (FormatError, SignatureError):
        return None


def _checked(details: Mapping[str, Detail]) -> tuple[VerifierKey, VerifierKey]:
    old = VerifierKey.parse(str(details.get("old")))
    new = VerifierKey.parse(str(details.get("new")))
    text = statement(old, new)
    for key, name in ((old, "signed_by_old"), (new, "signed_by_new")):
        key.verify(decode_base64(str(details.get(name)), name), text)
    return old, new


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Which key a checkpoint of which size must be signed by.

    Attributes:
        spans: (size, key) in order: the key signs checkpoints larger than the size.
        vouched_from: A checkpoint of a trusted key must be larger than this, or the
            keys before it are nobody's; -1 where the trusted key is the first.
    """

    spans: tuple[tuple[int, VerifierKey], ...]
    vouched_from: int = -1

    @property
    def keys(self) -> frozenset[VerifierKey]:
        """Every key that the ledger has had, as far as the known one tells."""
        return frozenset(key for _above, key in self.spans)

    def key_for(self, size: int) -> VerifierKey:
        """Return the key that signs a checkpoint of that size."""
        fitting = [key for above, key in self.spans if size > above]
        return fitting[-1] if fitting else self.spans[0][1]

    @classmethod
    def of(cls, known: VerifierKey, links: Iterable[Link] = ()) -> "KeyRing":
        """Return the keys before and after the one that is known."""
        before = _chain_to(known, sorted(links, key=lambda link: link.index))
        after = _chain_from(known, sorted(links, key=lambda link: link.index))
        spans = [(-1, before[0].old if before else known)]
        spans += [(link.index, link.new) for link in (*before, *after)]
        return cls(tuple(spans), before[-1].index if before else -1)


def _chain_from(known: VerifierKey, links: Sequence[Link]) -> list[Link]:
    chain: list[Link] = []
    for link in links:
        last = chain[-1].new if chain else known
        if link.old == last:
            chain.append(link)
    return chain


def _chain_to(known: VerifierKey, links: Sequence[Link]) -> list[Link]:
    chain: list[Link] = []
    wanted = known
    for link in reversed(links):
        if link.new == wanted:
            chain.append(link)
            wanted = link.old
    chain.reverse()
    return chain
