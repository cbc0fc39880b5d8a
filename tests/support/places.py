# SPDX-License-Identifier: Apache-2.0
"""An empty place for objects, as settings, subprocesses and stores name it."""

from dataclasses import dataclass

from storage.objects import S3Config


@dataclass(frozen=True, kw_only=True)
class StorePlace:
    """An empty place for objects, as the settings name it."""

    url: str
    s3: S3Config | None

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a subprocess to this place."""
        variables = {"AFFIDAVIT_OBJECT_STORE_URL": self.url}
        if self.s3 is not None:
            variables |= {
                "AFFIDAVIT_S3_ENDPOINT_URL": str(self.s3.endpoint_url),
                "AFFIDAVIT_S3_REGION": self.s3.region,
                "AFFIDAVIT_S3_ACCESS_KEY_ID": str(self.s3.access_key_id),
                "AFFIDAVIT_S3_SECRET_ACCESS_KEY": str(self.s3.secret_access_key),
                "AFFIDAVIT_S3_PATH_STYLE": str(self.s3.path_style).lower(),
                "AFFIDAVIT_S3_REQUEST_CHECKSUM_CALCULATION": (
                    self.s3.request_checksum_calculation
                ),
            }
        return variables
