# SPDX-License-Identifier: Apache-2.0
"""How a broker behind TLS is reached, for Celery and for our own client alike."""

import ssl
from collections.abc import Mapping
from typing import Any

from pipeline.errors import SpecError
from pipeline.settings import Settings

#: Options of redis-py's TLS connections.
Tls = Mapping[str, Any]


def broker_tls(settings: Settings) -> dict[str, Any]:
    """Return the TLS options of the broker's connections, none for redis://.

    The server's certificate and name are always checked: a broker that anybody may
    stand in for can be told to hand out any shard.

    Raises:
        SpecError: a certificate is set for a broker without TLS.
    """
    files = {
        "BROKER_CA": settings.broker_ca,
        "BROKER_CERTIFICATE": settings.broker_certificate,
        "BROKER_KEY": settings.broker_key,
    }
    url = settings.broker_url
    if url is None or not url.get_secret_value().startswith("rediss://"):
        named = [name for name, path in files.items() if path is not None]
        if url is not None and named:
            raise SpecError(
                f"AFFIDAVIT_{named[0]} is set, but AFFIDAVIT_BROKER_URL does not begin "
                "with rediss://, so nothing would be encrypted; correct the URL."
            )
        return {}
    options: dict[str, Any] = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": settings.broker_ca,
        "ssl_certfile": settings.broker_certificate,
        "ssl_keyfile": settings.broker_key or settings.broker_certificate,
    }
    return {
        key: value if isinstance(value, (int, bool)) else str(value)
        for key, value in options.items()
        if value is not None
    }
