# SPDX-License-Identifier: Apache-2.0
"""Every answer of an S3 server and every failure of its client has a reaction."""

import pytest
from botocore import exceptions as vendor
from botocore.exceptions import BotoCoreError, ClientError

from storage.objects.errors import (
    ObjectNotFoundError,
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from storage.objects.s3_errors import translated, translating

ANSWERS = [
    ("NoSuchKey", 404, ObjectNotFoundError),
    ("404", 404, ObjectNotFoundError),
    ("NoSuchBucket", 404, StoreRefusedError),
    ("403", 403, StoreRefusedError),
    ("AccessDenied", 403, StoreRefusedError),
    ("InvalidAccessKeyId", 403, StoreRefusedError),
    ("SignatureDoesNotMatch", 403, StoreRefusedError),
    ("ExpiredToken", 400, StoreRefusedError),
    ("RequestTimeTooSkewed", 403, StoreRefusedError),
    ("NotImplemented", 501, StoreRefusedError),
    ("InvalidArgument", 400, StoreRefusedError),
    ("SlowDown", 503, StoreUnavailableError),
    ("RequestTimeout", 400, StoreUnavailableError),
    ("InternalError", 500, StoreUnavailableError),
    ("502", 502, StoreUnavailableError),
    ("TooManyRequests", 429, StoreUnavailableError),
    ("ConditionalRequestConflict", 409, StoreUnavailableError),
]
FAILURES = [
    (vendor.EndpointConnectionError(endpoint_url="http://x"), StoreUnavailableError),
    (vendor.ConnectTimeoutError(endpoint_url="http://x"), StoreUnavailableError),
    (vendor.ReadTimeoutError(endpoint_url="http://x"), StoreUnavailableError),
    (vendor.ConnectionClosedError(endpoint_url="http://x"), StoreUnavailableError),
    (vendor.ProxyConnectionError(proxy_url="http://x"), StoreUnavailableError),
    (vendor.HTTPClientError(error="broken"), StoreUnavailableError),
    (
        vendor.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        StoreUnavailableError,
    ),
    (vendor.SSLError(endpoint_url="http://x", error="expired"), StoreRefusedError),
    (vendor.NoCredentialsError(), StoreRefusedError),
    (
        vendor.PartialCredentialsError(provider="env", cred_var="secret"),
        StoreRefusedError,
    ),
    (vendor.ParamValidationError(report="bucket"), StoreRefusedError),
]


@pytest.mark.parametrize(("code", "status", "expected"), ANSWERS)
def test_answer_has_a_reaction(
    code: str, status: int, expected: type[ObjectStoreError]
) -> None:
    """Each error code of the server becomes the error of its reaction."""
    answer = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )
    with pytest.raises(expected) as caught, translating("bucket", "key"):
        raise answer
    assert type(caught.value) is expected
    assert caught.value.__cause__ is answer


@pytest.mark.parametrize(("failure", "expected"), FAILURES)
def test_client_failure_has_a_reaction(
    failure: BotoCoreError, expected: type[ObjectStoreError]
) -> None:
    """Each failure of the client becomes the error of its reaction."""
    assert type(translated(failure, "bucket", "key")) is expected


def test_no_error_of_the_vendor_gets_through() -> None:
    """Whatever botocore defines, also in later versions, leaves as one of ours."""
    classes = [
        error
        for error in vars(vendor).values()
        if isinstance(error, type) and issubclass(error, BotoCoreError)
    ]
    assert len(classes) > 50
    for error in classes:
        bare = error.__new__(error)
        assert isinstance(translated(bare, "bucket", "key"), ObjectStoreError), error
