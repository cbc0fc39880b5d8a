# SPDX-License-Identifier: Apache-2.0
"""A table in S3, copied to disk to be listed."""

from contextlib import closing
from pathlib import Path
from typing import Any

from pipeline.errors import AuditError, SourceError
from pipeline.s3_objects import (
    S3_FAILURES,
    away,
    error_code,
    etag_version,
    is_missing,
    is_refused,
    split_s3_uri,
)

_CHUNK_BYTES = 1_048_576


def fetch_object(client: Any, uri: str, file: Path) -> str | None:
    """The object's bytes are in the file; return its version.

    Raises:
        SourceError: there is no such object, or it may not be read.
        InfrastructureError: the object store is away.
    """
    bucket, key = split_s3_uri(uri)
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body, file.open("wb") as copy:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                copy.write(chunk)
        return etag_version(answer.get("ETag"))
    except S3_FAILURES as exc:
        raise listing_failure(exc, uri) from exc


def listing_failure(error: Exception, uri: str) -> AuditError:
    """Return what a failure to list or fetch means for who wrote the spec."""
    if is_missing(error):
        return SourceError(
            f"There is nothing at {uri}; check the bucket's name and the key."
        )
    if is_refused(error):
        return SourceError(
            f"S3 refuses to show {uri} ({error_code(error)}); check that the"
            " credentials may list and read it."
        )
    return away(error)
