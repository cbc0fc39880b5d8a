# SPDX-License-Identifier: Apache-2.0
"""Sources list every item once, in the same order, in little memory."""

import csv
import os
import tracemalloc
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.domain import SourceItem
from pipeline.errors import ItemError, Reason, SourceError
from pipeline.paths import AllowedRoots, PathEscapeError
from pipeline.reading import ItemReader, mtime_version
from pipeline.sources.opening import open_source
from pipeline.sources.sorting import Entry, sorted_entries
from pipeline.sources.source import Source
from pipeline.spec import ColumnsSpec, DataSpec


def opened(folder: Path, source: str, **options: object) -> Source:
    """Return the source under that folder."""
    wanted = bool(options.pop("label_wanted", False))
    data = DataSpec(source=source, **options)
    roots = AllowedRoots((folder,))
    return open_source(data, base=folder, roots=roots, label_wanted=wanted)


def put(folder: Path, *names: str) -> None:
    """Files of those names are in the folder."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def names(folder: Path, items: list[SourceItem]) -> list[str]:
    """Return the items' paths below the folder."""
    return [item.uri.removeprefix(f"{folder}/") for item in items]


def test_a_folder_lists_pictures_in_byte_order(tmp_path: Path) -> None:
    """Order is that of the path's bytes; hidden and other files are no items."""
    put(
        tmp_path, "b/x.png", "b.png", "B.JPG", "é.webp", "a/2.tif", "a/10.tiff", "Z.gif"
    )
    put(tmp_path, ".h/x.png", "a/.x.png", "a/readme.txt", "a/x", "._b.png", "c.bmp")
    source = opened(tmp_path, ".")
    expected = ["B.JPG", "Z.gif", "a/10.tiff", "a/2.tif", "b.png", "b/x.png", "c.bmp"]
    assert names(tmp_path, list(source.items())) == [*expected, "é.webp"]
    assert list(source.items()) == list(source.items())
    assert source.kind == "folder"


def test_a_folder_notes_size_and_time(tmp_path: Path) -> None:
    """An item carries what tells its content from a later one."""
    put(tmp_path, "a.png")
    os.utime(tmp_path / "a.png", ns=(5, 1_700_000_000_123_456_789))
    [item] = opened(tmp_path, ".").items()
    assert item == SourceItem(
        uri=f"{tmp_path}/a.png",
        size_bytes=5,
        version=mtime_version(1_700_000_000_123_456_789),
    )
    reader = ItemReader(AllowedRoots((tmp_path,)))
    assert reader.read(item.uri, item.size_bytes, item.version) == b"a.png"


@pytest.mark.parametrize(
    ("labels", "wanted", "expected"),
    [
        ("auto", True, [None, "cat", "dog"]),
        ("auto", False, [None, None, None]),
        ("folders", False, [None, "cat", "dog"]),
        ("none", True, [None, None, None]),
    ],
)
def test_the_first_subfolder_labels_when_asked(
    tmp_path: Path, labels: str, wanted: bool, expected: list[str | None]
) -> None:
    """Labels come from folders when the spec or the target asks for them."""
    put(tmp_path, "a.png", "cat/deep/1.png", "dog/1.png")
    source = opened(tmp_path, ".", labels=labels, label_wanted=wanted)
    assert [item.label for item in source.items()] == expected


def test_linked_folders_are_followed_once_round(tmp_path: Path) -> None:
    """A linked folder under the roots is listed; a loop ends."""
    put(tmp_path, "pool/1.png", "set/cat/2.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "pool")
    (tmp_path / "pool" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "self").symlink_to(tmp_path / "set")
    source = opened(tmp_path, "set", labels="folders")
    found = list(source.items())
    assert names(tmp_path, found) == ["set/cat/2.png", "set/dog/1.png"]
    assert [item.label for item in found] == ["cat", "dog"]


def test_a_folder_linked_from_outside_is_refused(tmp_path: Path) -> None:
    """A listing does not leave the allowed roots, and says so instead of skipping."""
    put(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "out")
    source = opened(tmp_path / "in", ".")
    with pytest.raises(SourceError, match="AFFIDAVIT_ALLOWED_ROOTS"):
        list(source.items())


def test_dangling_links_are_items_that_fail(tmp_path: Path) -> None:
    """A broken link is listed, so that it is counted when it cannot be read."""
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    [item] = opened(tmp_path, ".").items()
    assert (item.size_bytes, item.version) == (None, None)
    with pytest.raises(ItemError) as caught:
        ItemReader(AllowedRoots((tmp_path,))).read(item.uri)
    assert caught.value.reason is Reason.FILE_MISSING


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """A name that no database can hold is named in a sentence."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    with pytest.raises(SourceError, match="not UTF-8"):
        list(opened(tmp_path, ".").items())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """No picture means no audit."""
    put(tmp_path, "readme.txt")
    with pytest.raises(SourceError, match=r"holds no picture .* at least one item"):
        list(opened(tmp_path, ".").items())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none", "There is no file or folder 'none'"),
        ("none.csv", "paths count from the spec's folder"),
        ("a.txt", "neither a folder nor a .csv or .parquet"),
        ("s3://bucket/x", "no S3 connection is set up"),
    ],
)
def test_a_missing_or_strange_source_is_refused(
    tmp_path: Path, source: str, message: str
) -> None:
    """What cannot be listed is refused before the model is loaded."""
    put(tmp_path, "a.txt")
    with pytest.raises(SourceError, match=message):
        opened(tmp_path, source)


def test_a_source_outside_the_roots_is_refused(tmp_path: Path) -> None:
    """The source itself obeys the allowed roots."""
    (tmp_path / "in").mkdir()
    with pytest.raises(PathEscapeError):
        opened(tmp_path / "in", "..")


ROWS = pd.DataFrame(
    {
        "file": ["x/a.png", "x/b.png"],
        "class": [3, 4],
        "truth": ["m/a.png", None],
        "who": ["p1", "p2"],
        "sex": ["f", None],
        "age": [40, 50],
    }
)
COLUMNS = ColumnsSpec(
    uri="file", label="class", mask="truth", subject="who", groups=["sex", "age"]
)


def table(folder: Path, kind: str, rows: pd.DataFrame = ROWS) -> Path:
    """Return a manifest of that kind in a subfolder."""
    file = folder / "lists" / f"m.{kind}"
    file.parent.mkdir(exist_ok=True)
    if kind == "csv":
        rows.to_csv(file, index=False, encoding="utf-8-sig")
    else:
        rows.to_parquet(file)
    return file


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_lists_its_rows(tmp_path: Path, kind: str) -> None:
    """Every column has its role, and paths count from the manifest's folder."""
    table(tmp_path, kind)
    put(tmp_path, "lists/x/a.png")
    source = opened(tmp_path, f"lists/m.{kind}", columns=COLUMNS)
    assert source.kind == kind
    first, second = source.items()
    assert first == SourceItem(
        uri=f"{tmp_path}/lists/x/a.png",
        size_bytes=len("lists/x/a.png"),
        version=mtime_version((tmp_path / "lists/x/a.png").stat().st_mtime_ns),
        label="3",
        mask_uri=f"{tmp_path}/lists/m/a.png",
        subject="p1",
        groups={"sex": "f", "age": "40"},
    )
    assert second == SourceItem(
        uri=f"{tmp_path}/lists/x/b.png", label="4", subject="p2", groups={"age": "50"}
    )


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    """Labels that a table stores as 3.0 because one is missing are still "3"."""
    rows = pd.DataFrame({"path": ["a", "b", "c"], "class": [3.0, None, 0.5]})
    table(tmp_path, "parquet", rows)
    columns = ColumnsSpec(label="class")
    items = opened(tmp_path, "lists/m.parquet", columns=columns).items()
    assert [item.label for item in items] == ["3", None, "0.5"]


def test_every_scalar_column_becomes_text(tmp_path: Path) -> None:
    """Categories, flags and big integers are read; one column may have two roles."""
    values = pa.table(
        {
            "path": pa.array(["a", "b"], pa.large_string()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "flag": [True, None],
            "number": pa.array([2**63, 0], pa.uint64()),
        }
    )
    pq.write_table(values, tmp_path / "m.parquet")
    columns = ColumnsSpec(label="kind", groups=["flag", "number", "kind"])
    first, second = opened(tmp_path, "m.parquet", columns=columns).items()
    assert first.groups == {"flag": "true", "number": str(2**63), "kind": "x"}
    assert (second.label, second.groups) == ("y", {"number": "0", "kind": "y"})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_column_names_those_there_are(tmp_path: Path, kind: str) -> None:
    """A misspelt column is answered with the nearest and the full list."""
    table(tmp_path, kind)
    columns = ColumnsSpec(uri="file", label="clas")
    source = opened(tmp_path, f"lists/m.{kind}", columns=columns)
    expected = r"no column 'clas' .*Did you mean 'class'.*file, class, truth, who"
    with pytest.raises(SourceError, match=expected):
        list(source.items())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_row_without_a_file_is_named(tmp_path: Path, kind: str) -> None:
    """An empty path stops the listing with the number of its row."""
    table(tmp_path, kind, pd.DataFrame({"path": ["a.png", None], "x": [1, 2]}))
    with pytest.raises(SourceError, match=r"Row 2 of .* nothing in column 'path'"):
        list(opened(tmp_path, f"lists/m.{kind}").items())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_without_rows_is_refused(tmp_path: Path, kind: str) -> None:
    """A header alone is no data set."""
    table(tmp_path, kind, ROWS[:0])
    source = opened(tmp_path, f"lists/m.{kind}", columns=ColumnsSpec(uri="file"))
    with pytest.raises(SourceError, match="has no rows; an audit needs at least one"):
        list(source.items())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "is empty"),
        ("m.csv", b"path,path\n", "'path' twice"),
        ("m.csv", b"path,x\na.png\n", "Row 1 of .* has 1 fields but the header has 2"),
        ("m.csv", b"path,x\na,1\nb,c,2\n", "Row 2 of .* has 3 fields"),
        ("m.csv", b'path\n"a.png\nb.png\n', "not valid CSV"),
        ("m.csv", b"path\n" + b"a\n" * 9000 + b"\xe9\n", "not UTF-8"),
        ("m.csv", b"path\na\0b\n", "NUL|not valid CSV"),
        ("m.parquet", b"PAR1 this is not Parquet", "not a Parquet file"),
        ("m.parquet", b"", "not a Parquet file"),
    ],
)
def test_a_damaged_table_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """What is wrong with a manifest file is said in a sentence that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list(opened(tmp_path, name).items())


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """Broken text and moments out of range are a sentence that quotes neither."""
    raw = pa.array([b"a.png", b"smith-\xff.png"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"path": broken}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match="not UTF-8") as caught:
        list(opened(tmp_path, "m.parquet").items())
    assert "smith" not in str(caught.value)
    assert caught.value.__cause__ is None
    far = pa.array([2**60], pa.timestamp("ms"))
    pq.write_table(pa.table({"path": far}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match="out of range"):
        list(opened(tmp_path, "m.parquet").items())


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    """A column that holds no single values is named with what it holds."""
    for values in ([["a"], ["b"]], [b"a", b"b"]):
        pq.write_table(pa.table({"path": values}), tmp_path / "m.parquet")
        with pytest.raises(SourceError, match=r"Column 'path' .* (list|binary)"):
            list(opened(tmp_path, "m.parquet").items())


def test_rows_outside_the_roots_are_listed_and_fail_later(tmp_path: Path) -> None:
    """A forbidden row does not stop an audit, and nothing is learnt about its file."""
    put(tmp_path, "out/secret.png", "in/a.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "secret.png")
    rows = ["../out/secret.png", "/etc/hostname", "link.png", "a.png", "none.png"]
    (tmp_path / "in" / "m.csv").write_text("path\n" + "\n".join(rows))
    items = list(opened(tmp_path / "in", "m.csv").items())
    assert [item.size_bytes for item in items] == [None, None, None, 8, None]
    reader = ItemReader(AllowedRoots((tmp_path / "in",)))
    for item, reason in zip(
        items,
        [*[Reason.OUTSIDE_ALLOWED_ROOTS] * 3, None, Reason.FILE_MISSING],
        strict=True,
    ):
        if reason is None:
            assert reader.read(item.uri, item.size_bytes, item.version) == b"in/a.png"
            continue
        with pytest.raises(ItemError) as caught:
            reader.read(item.uri, item.size_bytes, item.version)
        assert caught.value.reason is reason


def test_the_same_file_has_the_same_uri(tmp_path: Path) -> None:
    """Two spellings of a path are recognised as one item further on."""
    rows = ["a.png", "./a.png", "x/../a.png", f"{tmp_path}//a.png", "s3://b/k.png"]
    (tmp_path / "x").mkdir()
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(rows))
    items = list(opened(tmp_path, "m.csv").items())
    assert {item.uri for item in items[:4]} == {f"{tmp_path}/a.png"}
    assert items[4].uri == "s3://b/k.png"


@pytest.mark.parametrize(("kind", "count"), [("csv", 200_000), ("parquet", 60_000)])
def test_listing_many_rows_needs_little_memory(
    tmp_path: Path, kind: str, count: int
) -> None:
    """Memory does not grow with the number of rows: 200,000 take less than 10 MB."""
    columns = ColumnsSpec(label="label", groups=["group"])
    file = tmp_path / f"m.{kind}"
    if kind == "csv":
        with file.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["path", "label", "group"])
            writer.writerows([f"f/{n:09}.png", n % 10, "g"] for n in range(count))
    else:
        paths = [f"f/{n:09}.png" for n in range(count)]
        labels = [n % 10 for n in range(count)]
        rows = pa.table({"path": paths, "label": labels, "group": ["g"] * count})
        pq.write_table(rows, file)
        del paths, labels, rows
    source = opened(tmp_path, file.name, columns=columns)
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        listed, arrow_peak = 0, 0
        for listed, _item in enumerate(source.items(), start=1):
            if listed % 5000 == 0:
                arrow_peak = max(arrow_peak, pa.total_allocated_bytes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert listed == count
    assert peak + arrow_peak - arrow_before < 10_000_000


def test_sorting_many_names_needs_little_memory() -> None:
    """Names of a folder are sorted on disk, in byte order."""
    count = 100_000
    entries = (
        Entry(f"folder/{number * 7919 % count:09}.png".encode(), 1, "mtime:1")
        for number in range(count)
    )
    tracemalloc.start()
    try:
        for number, entry in enumerate(sorted_entries(entries)):
            assert entry.path == b"folder/%09d.png" % number
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number == count - 1
    assert peak < 5_000_000
