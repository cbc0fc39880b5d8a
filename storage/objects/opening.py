# SPDX-License-Identifier: Apache-2.0
"""The one place that knows which store a URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.objects.errors import StoreRefusedError
from storage.objects.folder import FolderStore
from storage.objects.protocol import ObjectStore
from storage.objects.s3_config import S3Config


def open_store(url: str, s3: S3Config | None) -> ObjectStore:
    """Return the store behind `file:///folder`, a plain path or `s3://bucket/prefix`.

    Nothing is touched or contacted yet: a store that is down fails at its first use.

    Raises:
        StoreRefusedError: the URL is none of the three.
    """
    if "://" not in url and not url.startswith("file:"):
        if not url:
            raise StoreRefusedError(
                "the object store URL is empty: give a folder or s3://bucket/prefix"
            )
        return FolderStore(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        # boto3 is slow to import and large: only those who use it shall pay.
        from storage.objects.s3 import S3Store, s3_client  # noqa: PLC0415

        config = s3 or S3Config()
        return S3Store(
            parts.netloc,
            parts.path,
            s3_client(config),
            conditional_writes=config.conditional_writes,
        )
    raise StoreRefusedError(
        f"the object store URL has the form {parts.scheme}://..., expected a folder, "
        "file:///folder or s3://bucket/prefix"
    )
