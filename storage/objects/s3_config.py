# SPDX-License-Identifier: Apache-2.0
"""How to reach an S3 server: plain values, so that settings need no boto3."""

from dataclasses import dataclass, field
from typing import Literal

ChecksumCalculation = Literal["when_required", "when_supported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """The address, the identity and the patience of an S3 client.

    Attributes:
        endpoint_url: the server's address; None means Amazon's own.
        region: part of every signature; most other servers take any name.
        access_key_id: None leaves both keys to boto3's own chain (a role, a profile).
        secret_access_key: never shown by `repr`.
        path_style: `http://host/bucket/key` rather than `http://bucket.host/key`;
            nearly every server other than Amazon's needs it.
        request_checksum_calculation: `when_required` leaves out the checksum headers
            that boto3 adds since 1.36 and that several servers refuse.
        conditional_writes: send `If-None-Match: *`, which closes the gap between the
            look and the write; Amazon and others know it, some refuse it.
        connect_timeout_s: how long to wait for a connection.
        read_timeout_s: how long to wait for the next bytes.
        max_attempts: calls in all, the first one included, with growing pauses.
        ca: file of the CA certificates to go by; None means botocore's own.
        max_pool_connections: at least the number of threads that share the client.
    """

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    path_style: bool = True
    request_checksum_calculation: ChecksumCalculation = "when_required"
    conditional_writes: bool = False
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    max_attempts: int = 4
    max_pool_connections: int = 16
    ca: str | None = None
