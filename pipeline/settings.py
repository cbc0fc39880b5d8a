# SPDX-License-Identifier: Apache-2.0
"""Where this installation keeps things, read from `AFFIDAVIT_*` variables.

This is the only reader of the environment. Values are passed on by argument.
"""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.access.policy import Purpose
from pipeline.errors import SpecError


class Settings(BaseSettings):
    """The settings of one installation; frozen, secrets masked in print."""

    model_config = SettingsConfigDict(
        env_prefix="AFFIDAVIT_", frozen=True, extra="ignore"
    )

    home: Path = Field(
        default=Path(".affidavit"),
        description="Folder for the default database, object store and signing key.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="sqlite:///... or postgresql://...; default: SQLite in the home.",
    )
    keys_database_url: SecretStr | None = Field(
        default=None,
        description="Database of identities and their keys, which can have backups of "
        "its own; default: keys.db beside the SQLite database, or a schema of its own "
        "(affidavit_keys) in PostgreSQL.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="Keys that wrap the keys of subjects (0600); default: "
        "subjects.keys in the home. Every host that plans runs with subjects needs it; "
        "keep it out of backups of the databases.",
    )
    erasure_journal: Path | None = Field(
        default=None,
        description="File that lists erasures, to be repeated after a restore; "
        "default: erasures.jsonl in the home. Keep it apart from the database.",
    )
    breach_hours: int = Field(
        default=72,
        ge=1,
        description="Hours from awareness of an incident to its deadline.",
    )
    object_store_url: str | None = Field(
        default=None,
        description="A folder or s3://bucket/prefix; default: a folder in the home.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="redis://... of the queue; without it only embedded runs work.",
    )
    broker_prefix: str = Field(
        default="affidavit:",
        description="Prefix of every Redis key, so that deployments may share one.",
    )
    broker_ca: FilePath | None = Field(
        default=None,
        description="CA certificates (PEM) that a rediss:// broker must be signed by; "
        "default: the system's.",
    )
    broker_certificate: FilePath | None = Field(
        default=None, description="Client certificate (PEM) shown to the broker."
    )
    broker_key: FilePath | None = Field(
        default=None,
        description="Key (PEM) of that certificate, where it is in another file.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="Ed25519 key of the ledger (PEM, 0600); default: in the home. "
        "Only the process that writes checkpoints needs it.",
    )
    ledger_origin: str = Field(
        default="affidavit.local/ledger",
        pattern=r"^[^\s+]+$",
        max_length=200,
        description="Name of this ledger, the first line of each checkpoint.",
    )
    anchors: str = Field(
        default="",
        description="Places out of reach that get copies of checkpoints, separated by "
        "spaces: s3://bucket/prefix (with Object Lock), file:///file or "
        "git+ssh://host/repository (also git+https, git+file); default: none.",
    )
    anchor_interval_s: float = Field(
        default=3600,
        gt=0,
        description="Seconds between anchors while nothing ends; a run's end is "
        "anchored at once. This is the exposure window.",
    )
    anchor_retention_days: int = Field(
        default=2192,
        ge=1,
        description="Days for which an anchor in a bucket is locked; six years.",
    )
    anchor_s3_endpoint_url: str | None = Field(
        default=None, description="Endpoint of the anchors' server; default: the same."
    )
    anchor_s3_access_key_id: SecretStr | None = Field(
        default=None, description="Access key for anchors; default: the same."
    )
    anchor_s3_secret_access_key: SecretStr | None = Field(
        default=None, description="Secret key for anchors; default: the same."
    )
    tiles: bool = Field(
        default=False,
        description="Whether the process that signs also publishes the ledger as "
        "static files (C2SP tlog-tiles) under ledger/ of the object store, when a run "
        "ends and every AFFIDAVIT_ANCHOR_INTERVAL_S.",
    )
    allowed_roots: str | None = Field(
        default=None,
        description="Folders that specs may read from, separated like PATH; default: "
        "the spec's folder and the working directory, for workers the latter alone.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="Token of the principal who is at work; needed once there are "
        "principals.",
    )
    purpose: Purpose | None = Field(
        default=None,
        description="Why data is looked at; principals must say it: treatment, "
        "payment, operations, research, public_health, model_validation, audit, "
        "legal, subject_request or incident.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="The device that this process offers.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe events to log; libraries are heard from warning on.",
    )
    s3_endpoint_url: str | None = Field(
        default=None, description="Endpoint of an S3-compatible server."
    )
    s3_ca: FilePath | None = Field(
        default=None,
        description="CA certificates (PEM) that the S3 server must be signed by; "
        "default: botocore's.",
    )
    s3_region: str = Field(default="us-east-1", description="Region name.")
    s3_access_key_id: SecretStr | None = Field(
        default=None, description="Access key; default: boto3's own search."
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, description="Secret key; default: boto3's own search."
    )
    s3_path_style: bool = Field(
        default=True, description="Address buckets by path rather than by host name."
    )
    s3_request_checksum_calculation: Literal["when_required", "when_supported"] = Field(
        default="when_required",
        description="Whether requests carry checksums that some servers refuse.",
    )
    s3_read_timeout_s: float = Field(
        default=60,
        gt=0,
        description="Seconds that an S3 server may be silent in mid-answer.",
    )
    s3_conditional_writes: bool = Field(
        default=False, description="Whether the server honours If-None-Match on PUT."
    )
    lease_s: float = Field(
        default=60, gt=0, description="Seconds a worker holds a shard unseen."
    )
    stall_s: float = Field(
        default=300, gt=0, description="Seconds without a batch before giving up."
    )
    backoff_s: float = Field(
        default=5,
        ge=0,
        description="Seconds, times the attempts so far, before a shard whose attempt "
        "ended badly is tried again.",
    )
    orphan_age_h: float = Field(
        default=48,
        ge=0,
        description="Hours after which an object that no shard names is collected.",
    )
    tick_s: float = Field(
        default=5, gt=0, description="Seconds between the control worker's rounds."
    )
    hint_timeout_s: float = Field(
        default=60,
        gt=0,
        description="Seconds until an unclaimed hint is sent again; each further time "
        "takes twice as long.",
    )
    dispatch_window: int = Field(
        default=16, ge=1, description="Most shards of a queue hinted at a time."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port on which a worker serves /metrics for Prometheus; 0 takes a "
        "free one, which `affidavit workers` shows; default: none.",
    )
    metrics_bind: str = Field(
        default="127.0.0.1",
        description="Address on which metrics are served; they hold no secrets and no "
        "personal data, but the port has no password.",
    )
    max_item_bytes: int = Field(
        default=268_435_456, ge=1, description="Largest input file, in bytes."
    )
    max_item_pixels: int = Field(
        default=50_000_000, ge=1, description="Largest picture, in pixels."
    )
    decoding_bytes: int = Field(
        default=1_073_741_824,
        ge=1,
        description="Memory that the threads of a process take together to decode "
        "pictures, 11 to 18 bytes a pixel; others wait for their turn.",
    )
    model_cache_mb: int | None = Field(
        default=None,
        ge=0,
        description="Megabytes of networks that a worker process keeps loaded; "
        "default: 2048, on a GPU a quarter of its memory.",
    )
    plugins: bool = Field(
        default=False,
        description="Whether architectures registered by other packages may run their "
        "code; an administrator's decision, recorded in the ledger.",
    )

    @property
    def resolved_database_url(self) -> str:
        """The database URL with its default applied, password included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.home / 'affidavit.db').absolute()}"

    @property
    def resolved_keys_database_url(self) -> str:
        """The URL of the keys' database with its default applied."""
        if self.keys_database_url is not None:
            return self.keys_database_url.get_secret_value()
        url = self.resolved_database_url
        if not url.startswith("sqlite:"):
            return url
        folder, _, _ = url.rpartition("/")
        return f"{folder}/keys.db"

    @property
    def resolved_keys_file(self) -> Path:
        """Where the keys of subjects are, or would be made."""
        return self.keys_file or self.home / "subjects.keys"

    @property
    def resolved_erasure_journal(self) -> Path:
        """Where erasures are listed outside the database."""
        return self.erasure_journal or self.home / "erasures.jsonl"

    @property
    def resolved_object_store_url(self) -> str:
        """The object store URL with its default applied."""
        return self.object_store_url or str((self.home / "objects").absolute())

    @property
    def resolved_signing_key(self) -> Path:
        """Where the ledger's signing key is, or would be made."""
        return self.signing_key or self.home / "ledger.key"

    @property
    def anchor_urls(self) -> tuple[str, ...]:
        """The places that get copies of checkpoints."""
        return tuple(self.anchors.split())

    @property
    def extra_roots(self) -> tuple[Path, ...] | None:
        """The allowed roots as paths, or None for the default."""
        if self.allowed_roots is None:
            return None
        parts = [part for part in self.allowed_roots.split(os.pathsep) if part]
        return tuple(Path(part).resolve() for part in parts)


def misspelt_variables() -> dict[str, str]:
    """Return variables that look like one of ours but are none, and which one.

    Unknown variables are ignored, because compose files and plugins use the prefix
    too; a misspelt one is found by asking here.
    """
    known = [name.upper() for name in Settings.model_fields]
    found = {}
    for variable in sorted(os.environ):
        prefix, name = variable[:10].upper(), variable[10:].upper()
        if prefix == "AFFIDAVIT_" and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.75)
            if near:
                found[variable] = f"AFFIDAVIT_{near[0]}"
    return found


def load_settings(*, home: Path | None = None) -> Settings:
    """Return the settings from the environment, the home replaced when given.

    Raises:
        SpecError: a variable has a value that is not allowed.
    """
    try:
        return Settings() if home is None else Settings(home=home)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = f"AFFIDAVIT_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise SpecError(
            f"The setting {name} is not usable: {first['msg'].lower()}."
        ) from exc
