# SPDX-License-Identifier: Apache-2.0
"""Closed lists about privacy: how far an erasure is, why something is held, and so on.

Free text could name a person, so there is none.
"""

from enum import StrEnum


class ErasureState(StrEnum):
    """How far an erasure is; each state is reached once, in this order."""

    REQUESTED = "requested"
    #: Somebody vouches for who asks.
    VERIFIED = "verified"
    #: A legal hold outranks it; it goes on once that is released.
    HELD = "held"
    #: What is to be rewritten and deleted is listed, and nothing has changed yet.
    PLANNED = "planned"
    EXECUTED = "executed"
    #: It was looked for again, and nothing was found.
    CHECKED = "checked"
    #: The signed certificate is stored.
    CERTIFIED = "certified"


class HoldReason(StrEnum):
    """Why nothing may be deleted."""

    LITIGATION = "litigation"
    INVESTIGATION = "investigation"
    REGULATOR = "regulator"
    PUBLIC_INTEREST = "public_interest"


class RequestState(StrEnum):
    """How far a change is that needs a second word."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    #: The change was made; another one needs another word.
    USED = "used"


class IncidentKind(StrEnum):
    """What may have happened to personal data."""

    DISCLOSURE = "disclosure"
    LOSS = "loss"
    ALTERATION = "alteration"
    UNAVAILABILITY = "unavailability"
