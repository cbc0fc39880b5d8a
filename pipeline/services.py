# SPDX-License-Identifier: Apache-2.0
"""The servers and stores of an installation, opened once and passed along."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipeline.paths import AllowedRoots
from pipeline.settings import Settings
from pipeline.telemetry import SILENCE, Telemetry
from storage.engine import create_engine
from storage.objects.opening import open_store
from storage.objects.protocol import ObjectStore
from storage.objects.s3_config import S3Config

if TYPE_CHECKING:
    from pipeline.reading import ItemReader


@dataclass(frozen=True)
class Services:
    """What the functions of the pipeline need from outside.

    Attributes:
        settings: The installation's settings.
        actor: Who is at work, as the ledger names it.
        own_roots: Folders that a worker may read where no setting says so; None in
            other processes, which go by the spec.
        telemetry: Told what happens to shards.
    """

    settings: Settings
    actor: str
    own_roots: tuple[Path, ...] | None = None
    telemetry: Telemetry = SILENCE

    @cached_property
    def engine(self) -> sa.Engine:
        """The database."""
        return create_engine(self.settings.resolved_database_url)

    @cached_property
    def store(self) -> ObjectStore:
        """The object store."""
        return open_store(self.settings.resolved_object_store_url, self.s3_config)

    @cached_property
    def s3_config(self) -> S3Config:
        """How S3 servers are reached, for the store and for sources."""
        settings = self.settings
        key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
        return S3Config(
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            access_key_id=key.get_secret_value() if key else None,
            secret_access_key=secret.get_secret_value() if secret else None,
            path_style=settings.s3_path_style,
            request_checksum_calculation=settings.s3_request_checksum_calculation,
            conditional_writes=settings.s3_conditional_writes,
            read_timeout_s=settings.s3_read_timeout_s,
            ca=None if settings.s3_ca is None else str(settings.s3_ca),
        )

    @property
    def s3_client(self) -> Callable[[], Any]:
        """Returns the client of the installation's S3 server, made at first use."""
        return lambda: self._s3_client

    @cached_property
    def _s3_client(self) -> Any:
        from storage.objects.s3 import s3_client  # noqa: PLC0415

        return s3_client(self.s3_config)

    def roots(self, *defaults: Path) -> AllowedRoots:
        """Return the folders that may be read: those of this process, else these."""
        given = self.settings.extra_roots
        if given is None:
            given = self.own_roots
        return AllowedRoots(defaults if given is None else given)

    def roots_noted(self, noted: Iterable[str]) -> AllowedRoots:
        """Return the folders that may be read for a run whose row notes these.

        A row never widens what a worker may read: anybody who can submit wrote it.
        """
        return self.roots(*(Path(root) for root in noted))

    def reader(self, roots: AllowedRoots) -> "ItemReader":
        """Return a reader of inputs under those folders."""
        from pipeline.reading import ItemReader, Limits  # noqa: PLC0415

        limits = Limits(
            max_bytes=self.settings.max_item_bytes,
            max_pixels=self.settings.max_item_pixels,
            decoding_bytes=self.settings.decoding_bytes,
        )
        return ItemReader(
            roots, self.s3_client, limits, on_bytes=self.telemetry.bytes_read
        )

    def close(self) -> None:
        """Connections are given back."""
        if "engine" in self.__dict__:
            self.engine.dispose()
