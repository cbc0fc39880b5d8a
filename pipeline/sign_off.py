# SPDX-License-Identifier: Apache-2.0
"""A reviewer signs a run's report: the ledger keeps who, when, what and which report.

What is signed is the digest of the canonical JSON report, after its bytes were held
against the ledger. Who made the run does not sign it. The comment stays in the
database, where it can be deleted; the ledger has its salted digest, so that it can be
proven as long as it is there and not guessed once it is gone.
"""

import hashlib
import secrets
from typing import Any

import sqlalchemy as sa

from ledger.entries import Action, Detail
from pipeline.access.authentication import refused
from pipeline.access.policy import Denial, Right
from pipeline.errors import SpecError
from pipeline.run_entries import RunEntries, entries_of
from pipeline.services import Services
from pipeline.shard_reading import open_artifact, sha256_of
from pipeline.signing import seal
from storage.engine import epoch_now, transaction
from storage.errors import StateConflictError
from storage.events import record
from storage.objects.errors import DigestMismatchError, ObjectNotFoundError
from storage.review_states import SignOffVerdict
from storage.reviews import sign_offs_of
from storage.subjects import new_token
from storage.tables import RunTable, SignOffTable

#: Characters of a comment.
MOST_COMMENT = 1000
_SALT_BYTES = 16


def sign_off(
    services: Services,
    run: RunTable,
    verdict: SignOffVerdict,
    *,
    comment: str | None = None,
) -> SignOffTable:
    """Return the sign-off, which the ledger tells of.

    Args:
        services: Who is at work.
        run: A finished run.
        verdict: What the reviewer says.
        comment: Why; needed to reject.

    Raises:
        SpecError: the comment is missing, too long or no plain text.
        StateConflictError: the run has no report.
        AccessRefusedError: the principal made the run.
        DigestMismatchError: the report is not the one that the ledger names.
    """
    text = _checked(comment, verdict)
    said = entries_of(services, run.id, by_index=True)
    digest = _report_digest(services, run, said)
    _require_other(services, said)
    salt = None if text is None else secrets.token_bytes(_SALT_BYTES)
    row = SignOffTable(
        id=new_token(),
        run_id=run.id,
        verdict=verdict.value,
        report_verdict=str((run.summary or {})["verdict"]["overall"]),
        report_sha256=digest,
        signed_by=services.actor,
        comment=text,
        comment_salt=salt,
    )
    details: dict[str, Detail] = {
        "sign_off": row.id,
        "verdict": row.verdict,
        "report_verdict": row.report_verdict,
    }
    if text is not None and salt is not None:
        details["comment_sha256"] = comment_digest(text, salt)
    if services.purpose is not None:
        details["purpose"] = services.purpose.value
    with transaction(services.engine) as session:
        row.signed_at = session.scalar(sa.select(epoch_now())) or 0.0
        session.add(row)
        record(
            session,
            Action.REPORT_SIGNED,
            f"run/{run.id}",
            actor=services.actor,
            digest=digest,
            details=details,
        )
    seal(services)
    return row


def signed_by(services: Services, run: RunTable) -> list[dict[str, Any]]:
    """Return the sign-offs of a run for who may read its report, the oldest first."""
    return [
        {
            "verdict": row.verdict,
            "report_verdict": row.report_verdict,
            "report_sha256": row.report_sha256,
            "signed_by": row.signed_by,
            "signed_at": row.signed_at,
            "comment": row.comment,
        }
        for row in sign_offs_of(services.engine, run.id)
    ]


def comment_digest(text: str, salt: bytes) -> str:
    """Return what the ledger holds of a comment: SHA-256 over salt and UTF-8."""
    return hashlib.sha256(salt + text.encode()).hexdigest()


def _checked(comment: str | None, verdict: SignOffVerdict) -> str | None:
    text = (comment or "").strip()
    if not text:
        if verdict is SignOffVerdict.REJECT:
            raise SpecError(
                "A rejection needs a reason; give it with --comment, without the name "
                "of any person."
            )
        return None
    if len(text) > MOST_COMMENT or not text.isprintable():
        raise SpecError(
            f"--comment takes one line of at most {MOST_COMMENT:,} characters; put the "
            "rest into a document and name it."
        )
    return text


def _report_digest(services: Services, run: RunTable, said: RunEntries) -> str:
    """Return the digest of the JSON report, once its bytes were held against it."""
    report = (run.summary or {}).get("report")
    if said.report is None or said.finalised is None or not report:
        raise StateConflictError(
            f"The run {run.id} is {run.state} and has no report yet; follow it with "
            f"'affidavit status {run.id} --watch'."
        )
    expected = said.report.digest
    try:
        with open_artifact(services.store, report["json"]) as stream:
            found = sha256_of(stream)
    except ObjectNotFoundError:
        found = None
    if expected is None or found != expected:
        raise DigestMismatchError(
            f"The report of run {run.id} is not the one that the ledger names, so it "
            f"was not signed; 'affidavit verify {run.id}' says what else is wrong."
        )
    return expected


def _require_other(services: Services, said: RunEntries) -> None:
    """Nothing happens if who is at work is another one than who made the run."""
    if services.principal is None or said.planned is None:
        return
    if said.planned.actor == services.actor:
        raise refused(services, Right.SIGN_OFF, Denial.OWN_RUN)
