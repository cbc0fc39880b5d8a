# SPDX-License-Identifier: Apache-2.0
"""A label means one class or has a reason why it means none."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ItemError, Reason, SpecError
from pipeline.labels import ClassNames, load_class_names
from pipeline.paths import AllowedRoots, PathEscapeError
from pipeline.spec import ModelSpec


def load(folder: Path, classes: str | list[str] | None) -> list[str] | None:
    """Return the class names of a model spec in that folder."""
    model = ModelSpec(source="torchvision:resnet18", classes=classes)
    return load_class_names(model, base=folder, roots=AllowedRoots((folder,)))


def reason_of(classes: ClassNames, label: str) -> Reason:
    """Return the reason for which the label means no class."""
    with pytest.raises(ItemError) as caught:
        classes.index_of(label)
    return caught.value.reason


def test_names_and_indices_are_understood() -> None:
    """A label may be the name or the number of a class."""
    classes = ClassNames(["cat", "dog"], 2)
    assert [classes.index_of(label) for label in ("cat", " dog ", "0", "01")] == [
        *(0, 1, 0, 1)
    ]
    assert [classes.name_of(index) for index in (0, 1, 2)] == ["cat", "dog", "2"]


@pytest.mark.parametrize("label", ["cta", "2", "-1", "1.0", "", "²", "9" * 5000])
def test_an_unknown_label_has_its_reason(label: str) -> None:
    """Whatever is neither a name nor an index of the network is unknown."""
    assert reason_of(ClassNames(["cat", "dog"], 2), label) is Reason.LABEL_UNKNOWN


def test_a_name_wins_over_an_index() -> None:
    """Classes that are called by other numbers are meant by their names."""
    assert ClassNames(["3", "8"], 2).index_of("3") == 0


def test_a_doubled_name_has_its_reason() -> None:
    """A name of two classes means neither; their indices still do."""
    classes = ClassNames(["crane", "tench", "crane"], 3)
    assert reason_of(classes, "crane") is Reason.LABEL_AMBIGUOUS
    assert classes.index_of("2") == 2
    assert classes.index_of("tench") == 1


def test_numbered_classes_have_their_count() -> None:
    """Without names the number must be one of the network's outputs."""
    classes = ClassNames(None, 10)
    assert classes.index_of("9") == 9
    assert classes.name_of(9) == "9"
    assert reason_of(classes, "10") is Reason.LABEL_UNKNOWN


def test_names_must_be_as_many_as_classes() -> None:
    """A list for another network is refused with both counts."""
    with pytest.raises(SpecError, match=r"2 names .* 3 classes"):
        ClassNames(["cat", "dog"], 3)


def test_the_nearest_name_is_found() -> None:
    """A misspelt label is told the name that it resembles."""
    classes = ClassNames(["cat", "dog"], 2)
    assert classes.nearest("cta") == "cat"
    assert classes.nearest("aeroplane") is None


def test_imagenet_has_its_thousand_names(tmp_path: Path) -> None:
    """ImageNet's names come in the order of the networks' outputs."""
    names = load(tmp_path, "imagenet")
    assert names is not None
    classes = ClassNames(names, 1000)
    assert classes.index_of("tench") == 0
    assert classes.index_of("toilet tissue") == 999
    assert classes.index_of("crane") == 517
    assert classes.index_of("134") == 134


def test_names_come_from_files(tmp_path: Path) -> None:
    """A text file has a name a line, a JSON file a list."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcat\r\nhot dog\n\n")
    (tmp_path / "a.json").write_text('["cat", "hot dog"]')
    for name in ("a.txt", "a.json"):
        assert load(tmp_path, name) == ["cat", "hot dog"]
    assert load(tmp_path, ["x", "y"]) == ["x", "y"]
    assert load(tmp_path, None) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"cat\n\ndog\n"),
        ("a.txt", b"\n"),
        ("a.txt", b"\xff\xfe"),
        ("a.json", b'{"0": "cat"}'),
        ("a.json", b'["cat", 3]'),
        ("a.json", b"[" * 100_000),
    ],
)
def test_a_wrong_file_is_a_spec_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """A gap or another form would shift indices silently, so it is refused."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=r"model\.classes"):
        load(tmp_path, name)


def test_a_class_file_must_exist_under_the_roots(tmp_path: Path) -> None:
    """A missing file says what is expected, one elsewhere is not read."""
    with pytest.raises(SpecError, match="`imagenet`, a list of names, or a file"):
        load(tmp_path, "imagnet")
    with pytest.raises(PathEscapeError):
        load(tmp_path, "/etc/hostname")


def test_the_input_side_does_not_import_torch() -> None:
    """Reports decode pictures and name classes in processes that have no torch."""
    modules = (
        "pipeline.decoding, pipeline.labels, pipeline.reading, pipeline.spec_file,"
        "pipeline.sources.opening, pipeline.criteria, pipeline.spec_schema"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
