# SPDX-License-Identifier: Apache-2.0
"""Which of our errors each answer of botocore means.

Source: Amazon S3 API reference, "Error responses"; botocore.exceptions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as botocore_exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
)

from storage.objects.errors import (
    ObjectNotFoundError,
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)

_MISSING_OBJECT = {"NoSuchKey", "NotFound", "404"}
_MISSING_BUCKET = {"NoSuchBucket"}
_CREDENTIALS = {
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "401",
    "403",
}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_BUSY = {
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_UNREACHABLE = (
    botocore_exceptions.ConnectionError,  # unlike the built-in of the same name
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)


@contextmanager
def translating(bucket: str, key: str) -> Iterator[None]:
    """Let none of botocore's errors out: each leaves as one of ours, with its cause."""
    try:
        yield
    except (ClientError, BotoCoreError) as exc:
        raise translated(exc, bucket, key) from exc


def translated(
    exc: ClientError | BotoCoreError, bucket: str, key: str
) -> ObjectStoreError:
    """Return our error for botocore's, with a message that says what to do."""
    if isinstance(exc, ClientError):
        return _from_answer(exc, bucket, key)
    if isinstance(exc, SSLError):
        return StoreRefusedError(
            "the S3 server's certificate was not accepted: set AFFIDAVIT_S3_CA to the "
            "CA that signed it, or correct the endpoint URL"
        )
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return StoreRefusedError(
            "no complete S3 credentials were found: "
            "set the access key id and the secret access key"
        )
    if isinstance(exc, _UNREACHABLE):
        return StoreUnavailableError(
            f"the S3 server does not answer ({type(exc).__name__}): "
            "check that it runs and that the endpoint URL is right"
        )
    return StoreRefusedError(
        f"the S3 request could not be made ({type(exc).__name__}: {exc}): "
        "check the S3 settings"
    )


def error_code(exc: ClientError) -> str:
    """Return S3's code, or the HTTP status where the answer had no body."""
    return str(exc.response.get("Error", {}).get("Code", ""))


def http_status(exc: ClientError) -> int:
    """Return the HTTP status of the answer, 0 when there was none."""
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _from_answer(exc: ClientError, bucket: str, key: str) -> ObjectStoreError:
    code = error_code(exc)
    status = http_status(exc)
    if code in _BUSY or status == 429 or status in {500, 502, 503, 504}:
        return StoreUnavailableError(
            f"the S3 server cannot serve the request now ({code}): try again later"
        )
    if code in _MISSING_OBJECT:
        return ObjectNotFoundError(f"no object lies under {key!r}")
    return _refusal(code, status, bucket)


def _refusal(code: str, status: int, bucket: str) -> StoreRefusedError:
    if code in _MISSING_BUCKET:
        return missing_bucket(bucket)
    if code in _CLOCK:
        return StoreRefusedError(
            f"the S3 server finds this machine's clock wrong ({code}): set the clock"
        )
    if code in _CREDENTIALS or status in {401, 403}:
        return StoreRefusedError(
            f"the S3 server refuses access to bucket {bucket!r} ({code}): correct the "
            "access key id and the secret access key, or their rights on the bucket"
        )
    if status == 501 or code == "NotImplemented":
        return StoreRefusedError(
            f"the S3 server does not know a request that was made ({code}): turn "
            "conditional writes off and set request_checksum_calculation=when_required"
        )
    return StoreRefusedError(
        f"the S3 server refuses the request ({code}, HTTP {status}): "
        "check the S3 settings"
    )


def missing_bucket(bucket: str) -> StoreRefusedError:
    """Return the error for a bucket that is not there."""
    return StoreRefusedError(
        f"the S3 bucket {bucket!r} does not exist: "
        "create it or correct the object store URL"
    )
