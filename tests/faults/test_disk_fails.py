# SPDX-License-Identifier: Apache-2.0
"""The disk under a folder store is full for a while; the result stays the same."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.objects.errors import StoreUnavailableError
from storage.objects.folder import FolderStore
from tests.support.fault_audit import SHARDS
from tests.support.fault_deployment import rig_with_a_folder_store
from tests.support.fault_rig import FaultRig
from tests.support.small_disk import LIMIT, LimitedWriters, SmallDisk, small_disk

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A folder whose disk can be filled."""
    with small_disk(tmp_path / "disk") as found:
        yield found


def test_the_disk_of_the_folder_store_is_full(
    rig: FaultRig, disk: SmallDisk, tmp_path: Path
) -> None:
    """Shards fail their attempt while nothing can be stored; later all are done."""
    objects = disk.folder / "objects"
    with rig_with_a_folder_store(rig, tmp_path / "deployment", objects) as own:
        run = own.submit()
        own.wait_for_done(run, SHARDS // 6)
        worker = own.child("cpu-3")
        assert worker is not None
        disk.fill(worker.pid)
        own.wait_until(
            lambda: any(shard.error in disk.errors for shard in own.shards(run)),
            "no shard notices that the disk is full",
        )
        assert own.done(run) < SHARDS, "everything was stored before the disk was full"
        disk.free()
        own.require_exact(run)
        assert own.attempts(run) >= 2
        # Nothing half-written is left either, and nothing killed the worker.
        assert list(own.services.store.leftovers()) == []
        assert own.child("cpu-3") == worker


def test_a_writer_that_is_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    """The object is not there, no part of it is, and a second try stores it."""
    store, content = FolderStore(tmp_path / "objects"), bytes(LIMIT + 1)
    sha256 = hashlib.sha256(content).hexdigest()
    disk = LimitedWriters(folder=tmp_path)
    disk.fill(os.getpid())
    try:
        with pytest.raises(StoreUnavailableError, match="check its disk"):
            store.put("a/b", io.BytesIO(content), sha256=sha256)
    finally:
        disk.free()
    assert [*store.keys(""), *store.leftovers()] == []
    store.put("a/b", io.BytesIO(content), sha256=sha256)
    assert store.stat("a/b").size_bytes == len(content)
