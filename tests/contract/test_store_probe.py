# SPDX-License-Identifier: Apache-2.0
"""A store that cannot be used is named before any work: missing, locked, read-only."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.store_probe import require_store
from storage.objects import ObjectStore, open_store
from storage.objects.errors import (
    ObjectStoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from tests.support.processes import free_port
from tests.support.servers import S3Server, serve_s3


def test_a_store_that_works_is_left_as_it_was(object_store: ObjectStore) -> None:
    """The probe leaves nothing behind, and may be made again."""
    require_store(object_store)
    require_store(object_store)
    assert list(object_store.keys("")) == []


def test_a_bucket_that_is_not_there_is_named(s3_server: S3Server) -> None:
    """Nothing makes a bucket on its own: it would be in the wrong place."""
    store = open_store("s3://no-such-bucket/audits", s3_server.config)
    with pytest.raises(StoreRefusedError, match="'no-such-bucket' does not exist"):
        require_store(store)


def test_wrong_keys_are_told_from_a_missing_bucket(s3_server: S3Server) -> None:
    """A refusal says that keys or rights are wrong, and shows none of them."""
    config = replace(s3_server.config, secret_access_key="wrong")
    store = open_store(f"s3://{s3_server.create_bucket()}/audits", config)
    with pytest.raises(StoreRefusedError, match="rights on the bucket") as caught:
        require_store(store)
    assert "wrong" not in str(caught.value)


def test_a_read_only_store_is_refused() -> None:
    """It can be read, so the sentence is about writing and not about an outage."""
    with serve_s3(read_only_bucket="locked") as server:
        store = open_store("s3://locked/audits", replace(server.config, max_attempts=1))
        with pytest.raises(StoreRefusedError, match="read but not written"):
            require_store(store)


def test_a_store_that_is_down_is_no_read_only_one(s3_server: S3Server) -> None:
    """Where nobody answers the sentence says just that."""
    config = replace(
        s3_server.config, endpoint_url=f"http://127.0.0.1:{free_port()}", max_attempts=1
    )
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        require_store(open_store("s3://any/audits", config))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A folder store that can never hold anything is no store."""
    place = tmp_path / "objects"
    place.write_text("no folder")
    with pytest.raises(ObjectStoreError):
        require_store(open_store(str(place), None))
