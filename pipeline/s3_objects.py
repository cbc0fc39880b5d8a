# SPDX-License-Identifier: Apache-2.0
"""What an answer of S3 means for an audit: a bad item, or a server that is away.

A failure that another attempt may not see again never counts against an item: it would
make the result depend on the weather.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from pipeline.errors import AuditError, InfrastructureError, ItemError, Reason

#: Makes a boto3 S3 client; called once a thread or process, never stored in a message.
S3ClientFactory = Callable[[], Any]

#: What a call to S3 can raise, sockets included.
S3_FAILURES = (ClientError, BotoCoreError, OSError)

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "404", "NoSuchVersion"})
_REFUSED = frozenset({"AccessDenied", "403", "InvalidObjectState", "InvalidBucketName"})


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key (or prefix) of an `s3://` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def error_code(error: Exception) -> str:
    """Return the code that S3 gave, or the name of the failure below it."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def is_missing(error: Exception) -> bool:
    """Return whether S3 says that there is no such object or bucket."""
    return error_code(error) in _MISSING


def is_refused(error: Exception) -> bool:
    """Return whether S3 will go on refusing this very object or bucket."""
    return error_code(error) in _REFUSED or isinstance(error, ParamValidationError)


def away(error: Exception) -> InfrastructureError:
    """Return the error that says that the object store did not answer properly."""
    return InfrastructureError(
        f"The object store did not answer a read ({error_code(error)}); check its"
        " address, its credentials and that it is up, then resume."
    )


def item_failure(error: Exception) -> AuditError:
    """Return what a failed read of one object means."""
    if is_missing(error):
        return ItemError(Reason.FILE_MISSING)
    if is_refused(error):
        return ItemError(Reason.FILE_UNREADABLE)
    return away(error)


def etag_version(etag: str | None) -> str | None:
    """Return an ETag as the version text of an item.

    It only ever tells one content from another: it is no digest, since uploads in
    parts make it something else than MD5.
    """
    return None if not etag else f"etag:{etag.strip(chr(34))}"
