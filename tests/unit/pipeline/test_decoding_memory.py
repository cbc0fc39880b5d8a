# SPDX-License-Identifier: Apache-2.0
"""Decoding takes the memory that it says, and all threads together a bounded amount."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.decoding import decode, decoded
from pipeline.domain import ManifestItem
from pipeline.errors import ItemError, Reason
from pipeline.labels import ClassNames
from pipeline.limits import Limits
from pipeline.memory_budget import MemoryBudget
from pipeline.paths import AllowedRoots
from pipeline.picture_files import decoding_bytes, open_picture, webp_decoding_bytes
from pipeline.preparing import ItemPreparer
from pipeline.reading import ItemReader
from pipeline.reading_ahead import ReadAhead
from pipeline.spec import PreprocessSpec

SIDE = 3000

#: Prints how far memory rose above what was there before, in bytes.
_MEASURE = """
import resource, sys
from pathlib import Path
from pipeline.decoding import decode, preprocess
from pipeline.errors import ItemError
from pipeline.spec import PreprocessSpec
try:
    decode(b"imports what it needs")
except ItemError:
    pass
data = Path(sys.argv[1]).read_bytes()
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = rss()
preprocess(decode(data), PreprocessSpec())
print(rss() - before)
"""


def noisy(channels: int) -> np.ndarray:
    """Return a large 16-bit picture that compresses a little."""
    small = np.random.default_rng(0).integers(0, 65536, (60, 60, channels), np.uint16)
    repeated = np.repeat(np.repeat(small, SIDE // 60, axis=0), SIDE // 60, axis=1)
    return repeated.squeeze()


def saved(kind: str) -> bytes:
    """Return a large picture as a file."""
    if kind in {"png 16 bit", "png 16 bit alpha", "png 16 bit grey"}:
        channels = {"png 16 bit": 3, "png 16 bit alpha": 4}.get(kind, 1)
        return cv2.imencode(".png", noisy(channels))[1].tobytes()
    stream = BytesIO()
    picture = Image.fromarray((noisy(3) >> 8).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"JPEG": {"progressive": True, "exif": exif}, "WEBP": {"method": 0}}
    picture.save(stream, kind, **options.get(kind, {}))
    return stream.getvalue()


@pytest.mark.skipif(sys.platform == "darwin", reason="ru_maxrss counts otherwise")
@pytest.mark.parametrize(
    "kind", ["png 16 bit", "png 16 bit alpha", "png 16 bit grey", "JPEG", "WEBP"]
)
def test_a_picture_takes_no_more_memory_than_it_says(tmp_path: Path, kind: str) -> None:
    """The peak of decoding and preprocessing stays within the estimate."""
    data = saved(kind)
    path = tmp_path / "picture"
    path.write_bytes(data)
    said = webp_decoding_bytes(data) or decoding_bytes(open_picture(data, Limits()))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    # Some megabytes of the allocator's own and of the file.
    assert int(done.stdout) < said + 12_000_000 + len(data)


def test_the_largest_picture_stays_below_a_gigabyte() -> None:
    """With the default limits, whatever the format."""
    limits = Limits()
    assert limits.max_pixels * 18 < 1_000_000_000
    assert limits.max_pixels * 18 <= limits.decoding_bytes


def test_a_budget_is_never_overdrawn() -> None:
    """Threads wait for their turn, all get it, and one that wants too much is alone."""
    budget = MemoryBudget(10)
    lock = threading.Lock()
    held: list[int] = []
    peaks: list[int] = []

    def work(size: int) -> None:
        with budget.hold(size):
            with lock:
                held.append(size)
                peaks.append(sum(min(part, 10) for part in held))
            threading.Event().wait(0.002)
            with lock:
                held.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 5, 99, 1, 10, 2, 6] * 8))
    assert len(peaks) == 64
    assert max(peaks) == 10
    assert held == []


def test_what_fails_gives_its_memory_back() -> None:
    """After a damaged picture the budget is whole again."""
    stream = BytesIO()
    Image.new("RGB", (10, 10)).save(stream, "PNG")
    limits, budget = Limits(), MemoryBudget(1100)
    with (
        pytest.raises(ItemError),
        decoded(stream.getvalue()[:-30], limits=limits, budget=budget),
    ):
        pass
    with decoded(stream.getvalue(), limits=limits, budget=budget) as picture:
        assert picture.size == (10, 10)


def test_threads_that_prepare_share_one_budget(
    tmp_path: Path,
) -> None:
    """Eight threads with room for two pictures hold two at most, masks included."""
    for number in range(12):
        Image.new("RGB", (40, 40), (number, 9, 9)).save(tmp_path / f"{number}.png")
        Image.new("L", (40, 40), 255).save(tmp_path / f"m{number}.png")
    reader = ItemReader(AllowedRoots((tmp_path,)))
    open_now, most = 0, 0
    lock = threading.Lock()

    class Watched(MemoryBudget):
        """Counts the loans."""

        @contextmanager
        def hold(self, size: int) -> Iterator[None]:
            """As the parent, and slowly."""
            nonlocal open_now, most
            assert size == 40 * 40 * 11
            with super().hold(size):
                with lock:
                    open_now += 1
                    most = max(most, open_now)
                yield
                threading.Event().wait(0.002)
                with lock:
                    open_now -= 1

    preparer = ItemPreparer(
        reader=reader,
        preprocess=PreprocessSpec(resize=20, crop=20),
        classes=ClassNames(None, count=2),
        label_required=False,
        strict_labels=False,
        budget=Watched(2 * 40 * 40 * 11 + 1),
    )
    items = [
        ManifestItem(
            item_index=number,
            item_id=str(number),
            uri=str(tmp_path / f"{number}.png"),
            size_bytes=None,
            version=None,
            label=None,
            mask_uri=str(tmp_path / f"m{number}.png"),
            subject_token=None,
            groups={},
            salt=None,
            duplicate_of=None,
        )
        for number in range(12)
    ]
    with ReadAhead(preparer, items, batch_size=6, threads=8, stage=list) as reading:
        batches = list(reading)
    prepared = [slot for batch in batches for slot in batch]
    assert [slot.reason for slot in prepared] == [None] * 12
    assert all(slot.truth is not None and slot.truth.all() for slot in prepared)
    assert most == 2


def test_a_sixteen_bit_picture_is_the_same_in_blocks() -> None:
    """Over the border of a block of rows the values are those of the whole."""
    values = noisy(3)[:700, :300]
    data = cv2.imencode(".png", values)[1].tobytes()
    expected = ((values.astype(np.float64) + 128) // 257).astype(np.uint8)[..., ::-1]
    assert np.array_equal(decode(data), expected)


def test_a_picture_over_the_default_limit_is_refused() -> None:
    """A file of 583 kB that becomes 100 million pixels is an item with a reason."""
    stream = BytesIO()
    Image.new("1", (8000, 6251)).save(stream, "PNG")
    with pytest.raises(ItemError) as caught:
        decode(stream.getvalue())
    assert caught.value.reason is Reason.IMAGE_TOO_LARGE
