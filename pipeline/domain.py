# SPDX-License-Identifier: Apache-2.0
"""The nouns that travel between the parts of the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import Reason
from storage.states import ItemStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One line of a data source, before it has a place in a manifest.

    Attributes:
        uri: Absolute path, or `s3://bucket/key`.
        size_bytes: As the source reports it, or None.
        version: Version id, ETag or modification time as text, or None.
        label: Class name or index as written, or None.
        mask_uri: Ground-truth mask, absolute, or None.
        subject: The person or account that the item is about, or None.
        groups: Group column to value.
    """

    uri: str
    size_bytes: int | None = None
    version: str | None = None
    label: str | None = None
    mask_uri: str | None = None
    subject: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestItem:
    """One item of a run, as a worker needs it."""

    item_index: int
    item_id: str
    uri: str
    size_bytes: int | None
    version: str | None
    label: str | None
    mask_uri: str | None
    subject_token: str | None
    groups: Mapping[str, str]
    salt: bytes | None
    duplicate_of: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One of several nested masks of an explanation, rebuilt from its cut."""

    keep_requested: float
    keep_achieved: float
    cut: float
    energy_retained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What is known of one item once its shard is done.

    The map is `map_height` x `map_width` float16 values in row order, relative to
    `map_scale`; it is empty for a failed item.
    """

    item_index: int
    item_id: str
    #: A token when the spec names a subject column, else the URI itself.
    uri: str
    #: Salted when the spec names a subject column.
    input_sha256: str | None
    subject_token: str | None
    groups: Mapping[str, str]
    status: ItemStatus
    reason: Reason | None
    method: str
    target_rule: str
    policy: str
    predicted: int | None = None
    target: int | None = None
    label: int | None = None
    score: float | None = None
    map_kind: str = "pixels"
    map_bytes: bytes = b""
    map_scale: float | None = None
    map_height: int = 0
    map_width: int = 0
    axis_labels: tuple[str, ...] = ()
    keep_requested: float | None = None
    keep_achieved: float | None = None
    cut: float | None = None
    #: Share of the map's positive energy inside the mask.
    energy_retained: float | None = None
    #: The mask, a bit a position in row order, where the cut does not describe it.
    mask_bits: bytes = b""
    #: The masks of a policy that makes several at once, the smallest first.
    levels: tuple[Level, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    absences: Mapping[str, str] = field(default_factory=dict)
    #: Of the ground-truth mask's bytes; salted like the input's.
    truth_sha256: str | None = None
    #: SHA-256 of the canonical record, see `pipeline.digests`.
    record_digest: bytes = b""
