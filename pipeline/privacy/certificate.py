# SPDX-License-Identifier: Apache-2.0
"""The signed certificate of an erasure: counts and digests, and nobody's identity."""

import hashlib
from typing import Final

import sqlalchemy as sa

from ledger.checkpoint import VerifierKey, verify_note
from ledger.entries import Action
from ledger.key_file import load_signing_key
from ledger.note import Note
from pipeline.digests import document_digest
from pipeline.services import Services
from storage.engine import epoch_now, transaction
from storage.events import record
from storage.privacy_states import ErasureState
from storage.tables import ErasureTable

#: The first line, which no checkpoint has: one cannot be taken for the other.
SCHEMA: Final = "affidavit.erasure/1"


def certificate_text(erasure: ErasureTable) -> str:
    """Return what is signed: which erasure, of whom by digest, and what was done."""
    counts = erasure.counts or {}
    lines = [
        SCHEMA,
        f"erasure {erasure.id}",
        f"subject sha256 {hashlib.sha256(erasure.subject_token.encode()).hexdigest()}",
        f"plan sha256 {document_digest(erasure.plan or {})}",
        *(f"{name} {counts[name]}" for name in sorted(counts)),
        "found afterwards 0",
    ]
    return "\n".join(lines) + "\n"


def certify(services: Services, erasure: ErasureTable) -> ErasureTable:
    """Return the erasure, certified where the signing key is at hand, else as it is.

    Raises:
        ledger.errors.KeyFileError: the key is exposed or unreadable.
    """
    settings = services.settings
    if not settings.resolved_signing_key.exists():
        return erasure
    key = load_signing_key(settings.resolved_signing_key, settings.ledger_origin)
    note = key.sign_text(certificate_text(erasure))
    with transaction(services.engine) as session:
        row = session.get_one(ErasureTable, erasure.id)
        row.state = ErasureState.CERTIFIED
        row.certificate = note
        row.finished_at = session.scalar(sa.select(epoch_now()))
        record(
            session,
            Action.ERASURE_CERTIFIED,
            f"subject/{row.subject_token}",
            actor=services.actor,
            digest=hashlib.sha256(note.encode()).hexdigest(),
            details={"erasure": row.id},
        )
    return row


def open_certificate(note: str, key: VerifierKey) -> list[str]:
    """Return the lines of a certificate that the key has signed.

    Raises:
        ledger.errors.FormatError: it is no signed note, or no certificate.
        ledger.errors.SignatureError: the key has not signed it.
    """
    from ledger.errors import FormatError  # noqa: PLC0415

    parsed = Note.parse(note)
    verify_note(parsed, key)
    lines = parsed.text.splitlines()
    if lines[0] != SCHEMA:
        raise FormatError(f"expected a note that begins with {SCHEMA}")
    return lines
