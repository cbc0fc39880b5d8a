# SPDX-License-Identifier: Apache-2.0
"""A shard's slice of the manifest, as the pipeline's own nouns."""

from pipeline.domain import ManifestItem
from pipeline.services import Services
from storage.leases import Claim
from storage.manifests import read_locations
from storage.tables import LocationTable


def load_items(services: Services, claim: Claim) -> list[ManifestItem]:
    """Return the shard's slice of the manifest."""
    rows = read_locations(
        services.engine,
        claim.run_id,
        first_item=claim.first_item,
        item_count=claim.item_count,
    )
    return [as_manifest_item(row) for row in rows]


def as_manifest_item(row: LocationTable) -> ManifestItem:
    """Return the row as the pipeline's own noun."""
    return ManifestItem(
        item_index=row.item_index,
        item_id=row.item_id,
        uri=row.uri,
        size_bytes=row.size_bytes,
        version=row.version,
        label=row.label,
        mask_uri=row.mask_uri,
        subject_token=row.subject_token,
        groups=row.groups or {},
        salt=row.salt,
        duplicate_of=row.duplicate_of,
    )
