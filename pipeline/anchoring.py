# SPDX-License-Identifier: Apache-2.0
"""Copying checkpoints out of our reach, and what of the ledger lies there.

Whatever was recorded since the newest anchor could still be exchanged without a trace
by somebody who has the database and the key. The interval between anchors is therefore
the exposure window, and it is printed wherever evidence is judged.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ledger.checkpoint import read_unverified
from pipeline.services import Services
from storage.anchor_rows import newest_anchor, note_anchor
from storage.anchoring.places import AnchorPlace, open_place
from storage.errors import StorageError
from storage.ledger_writer import latest_checkpoint
from storage.objects.s3_config import S3Config


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorState:
    """How far one place vouches for the ledger, as the installation remembers it."""

    place: str
    #: Entries that its newest checkpoint covers; 0 before the first.
    entries: int
    #: Seconds since then; None before the first.
    age_s: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)


def open_places(services: Services) -> list[AnchorPlace]:
    """Return the places that the settings name; none has been contacted.

    Raises:
        StoreRefusedError: a URL names no place of a known kind.
    """
    settings = services.settings
    config = _anchor_s3(services)
    return [
        open_place(url, config, retention_days=settings.anchor_retention_days)
        for url in settings.anchor_urls
    ]


def _anchor_s3(services: Services) -> S3Config:
    """Return how anchors' buckets are reached: by keys of their own, where given."""
    settings, base = services.settings, services.s3_config
    key, secret = settings.anchor_s3_access_key_id, settings.anchor_s3_secret_access_key
    return S3Config(
        endpoint_url=settings.anchor_s3_endpoint_url or base.endpoint_url,
        region=base.region,
        access_key_id=key.get_secret_value() if key else base.access_key_id,
        secret_access_key=secret.get_secret_value()
        if secret
        else base.secret_access_key,
        path_style=base.path_style,
        request_checksum_calculation=base.request_checksum_calculation,
        conditional_writes=True,
        read_timeout_s=base.read_timeout_s,
        ca=base.ca,
    )


def anchor_names(services: Services) -> tuple[str, ...]:
    """Return the kinds of the places, for reports: a URL may say where somebody is."""
    return tuple(url.partition("://")[0] for url in services.settings.anchor_urls)


def anchor_states(services: Services) -> list[AnchorState]:
    """Return how far each place vouches, by what was noted of it."""
    states = []
    for place in open_places(services):
        newest = newest_anchor(services.engine, place.name)
        size, age = newest if newest is not None else (0, None)
        states.append(AnchorState(place=place.name, entries=size, age_s=age))
    return states


def anchor_ledger(services: Services, *, at_once: bool = False) -> list[str]:
    """Every place where it is due holds the newest checkpoint.

    Args:
        services: Database and settings.
        at_once: Whether it is due before the interval is over, as at a run's end.

    Returns:
        The places that could not be written; the next round tries again.

    Raises:
        BrokenLedgerError: a place holds another checkpoint of that size.
        StoreRefusedError: a URL names no place of a known kind.
    """
    if not services.settings.anchor_urls:
        return []
    note = latest_checkpoint(services.engine)
    if note is None:
        return []
    size = read_unverified(note).size
    failed = []
    for place in open_places(services):
        newest = newest_anchor(services.engine, place.name)
        if newest is not None and newest[0] >= size:
            continue
        due = newest is None or newest[1] >= services.settings.anchor_interval_s
        if not due and not at_once:
            continue
        try:
            place.keep(note)
        except StorageError:
            failed.append(place.name)
        else:
            note_anchor(services.engine, place.name, size)
    return failed


def anchored_notes(services: Services) -> Iterator[tuple[str, str]]:
    """Yield (place, note) of what the places hold.

    Raises:
        StorageError: a place cannot be read.
    """
    for place in open_places(services):
        for note in place.notes():
            yield place.name, note
