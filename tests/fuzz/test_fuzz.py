# SPDX-License-Identifier: Apache-2.0
"""Each parser answers whatever a stranger hands it, in the words that it documents."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import BundleError
from pipeline.errors import SourceError
from pipeline.paths import AllowedRoots
from pipeline.sources.table import TableSource
from pipeline.spec import ColumnsSpec
from tests.fuzz import targets
from tests.fuzz.seeds import KEY, bundle_members, flattened, seeds, unflattened, zipped
from tests.fuzz.targets import TARGETS

#: Each target makes a file or none; files take longer.
EXAMPLES = {"checkpoint": 400, "entry": 400, "tiles": 400}


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Draw a well-formed input with some of its bytes changed, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=500))
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 2, 8, 64, 4096))))
        put = draw(
            st.binary(max_size=8)
            | st.sampled_from((b'"', b"{", b"[" * 3000, b"\n\n", b"1e999", b"\xff"))
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + put + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right_is_answered(name: str) -> None:
    """Damaged inputs are read or refused; no other exception comes out."""

    @settings(
        max_examples=EXAMPLES.get(name, 80),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(damaged(seeds()[name]))
    def answered(data: bytes) -> None:
        TARGETS[name](data)

    answered()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_right(name: str) -> None:
    """A fuzzer starts from inputs that are taken, or it would try the doorstep only."""
    taken: list[str] = []
    accepting: dict[str, Callable[[bytes], None]] = {
        "zip": lambda data: taken.append(_verdict(data)),
        "bundle": lambda data: taken.append(_verdict(zipped(unflattened(data)))),
    }
    for seed in seeds()[name]:
        accepting.get(name, TARGETS[name])(seed)
    assert set(taken) <= {"ok"}


def _verdict(data: bytes) -> str:
    with targets._file("bundle.zip", data) as path:
        try:
            verdict = targets.verify_bundle(path, KEY.verifier)
        except BundleError as exc:
            return str(exc)
    return "ok" if verdict.ok else verdict.to_text()


def test_flattened_members_come_back() -> None:
    """What the fuzzer chops is the bundle itself."""
    assert unflattened(flattened(bundle_members())) == bundle_members()


def test_a_target_that_crashes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that a parser does not document is not swallowed by its target."""

    def crash(_body: bytes) -> None:
        raise KeyError("schema")

    monkeypatch.setattr("tests.fuzz.targets.Entry.parse", crash)
    with pytest.raises(KeyError):
        TARGETS["entry"](b"{}")


def test_a_local_name_that_is_no_text_is_a_damaged_bundle() -> None:
    """Found by atheris: zipfile decodes the name in front of each member again."""
    data = bytearray(zipped(bundle_members()))
    name = b"artifacts/runs/r1/0.parquet"
    local = data.rindex(b"PK\x03\x04", 0, data.index(name))
    data[local + 7] |= 0x08  # the name is UTF-8
    data[data.index(name)] = 0xFF
    TARGETS["zip"](bytes(data))
    assert "damaged" in _verdict(bytes(data))


def test_a_column_name_that_is_no_text_is_a_source_error(tmp_path: Path) -> None:
    """Found by atheris: pyarrow decodes the names of columns when it opens a file."""
    path = tmp_path / "items.parquet"
    path.write_bytes(seeds()["parquet"][0].replace(b"who", b"\xffho"))
    source = TableSource(path, ColumnsSpec(), AllowedRoots((tmp_path,)))
    with pytest.raises(SourceError, match="not a Parquet file"):
        next(source.items())
