# SPDX-License-Identifier: Apache-2.0
"""The demo's data: complete, well-formed, and described truthfully by its spec."""

import csv
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from explain.metrics.cards import METRICS
from pipeline.criteria import parse_criterion
from pipeline.labels import ClassNames
from pipeline.spec_file import load_spec

SOURCE = Path(__file__).parents[3] / "examples" / "photos"


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """Return the module of the example, which is no package."""
    found = spec_from_file_location("examples_photos_prepare", SOURCE / "prepare.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that was prepared."""
    folder = tmp_path_factory.mktemp("demo")
    assert prepare.main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(demo: Path) -> list[dict[str, str]]:
    """Return the rows of the manifest."""
    with (demo / "photos.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_photograph_of_the_manifest_is_there(
    prepare: ModuleType, demo: Path, rows: list[dict[str, str]]
) -> None:
    """Each row names a picture that opens, and no picture is left over."""
    assert [row["path"] for row in rows] == [f"photos/{p.name}" for p in prepare.PHOTOS]
    for row in rows:
        with Image.open(demo / row["path"]) as picture:
            picture.load()
            assert min(picture.size) >= 256
    assert len(list((demo / "photos").iterdir())) == len(rows)


def test_masks_fit_their_photographs(demo: Path, rows: list[dict[str, str]]) -> None:
    """A mask has its picture's size, two values, and an object of sensible area."""
    masked = [row for row in rows if row["mask"]]
    assert len(masked) >= 6
    assert len(list((demo / "masks").iterdir())) == len(masked)
    for row in masked:
        with Image.open(demo / row["path"]) as picture:
            size = picture.size
        with Image.open(demo / row["mask"]) as mask:
            assert (mask.size, mask.mode) == (size, "L")
            pixels = np.asarray(mask)
        assert set(np.unique(pixels)) == {0, 255}
        assert 0.01 < (pixels == 255).mean() < 0.9


def test_masks_are_seen_through_the_crop(
    demo: Path, rows: list[dict[str, str]]
) -> None:
    """What the network sees of each picture holds enough of the object to measure."""
    for row in rows:
        if not row["mask"]:
            continue
        with Image.open(demo / row["mask"]) as mask:
            factor = 256 / min(mask.size)
            size = (round(mask.width * factor), round(mask.height * factor))
            small = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        top, left = (small.shape[0] - 224) // 2, (small.shape[1] - 224) // 2
        assert (small[top : top + 224, left : left + 224] > 0).mean() > 0.02


def test_outlines_lie_inside_their_photographs(prepare: ModuleType, demo: Path) -> None:
    """Every ring has an area and no point outside the picture."""
    outlines = json.loads((SOURCE / "outlines.json").read_text("utf-8"))
    assert "by hand" in outlines["note"]
    names = {photo.name for photo in prepare.PHOTOS}
    assert outlines["photos"].keys() <= names
    for name, entry in outlines["photos"].items():
        with Image.open(demo / "photos" / name) as picture:
            width, height = picture.size
        for ring in entry["rings"]:
            assert len(ring) >= 3
            assert all(0 <= x <= width and 0 <= y <= height for x, y in ring)
            assert prepare.rasterised([ring], (width, height)).getbbox() is not None


def test_labels_are_imagenet_classes(rows: list[dict[str, str]]) -> None:
    """Each label names exactly one class of the model."""
    from torchvision.models import ResNet50_Weights

    names = ClassNames(
        list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"]), count=1000
    )
    labels = [row["label"] for row in rows if row["label"]]
    assert len(labels) >= 3
    assert len({names.index_of(label) for label in labels}) == len(labels)


def test_the_spec_reads_what_was_prepared(demo: Path) -> None:
    """The spec is valid, and judges values that its metrics give."""
    spec = load_spec(demo / "audit.yaml")
    assert (demo / spec.data.source).is_file()
    assert len(spec.metric_names) >= 6
    values = {value for name in spec.metric_names for value in METRICS[name].values}
    for text in spec.criteria:
        parse_criterion(text, values)
    assert spec.criteria
    assert spec.run.shard_size % spec.run.batch_size == 0


def test_the_network_gets_its_own_normalisation(demo: Path) -> None:
    """EfficientNet-Lite was trained on (value - 127) / 128."""
    preprocess = load_spec(demo / "audit.yaml").model.preprocess
    assert preprocess.mean == [127 / 255] * 3
    assert preprocess.std == [128 / 255] * 3


def test_preparing_twice_gives_the_same_files(prepare: ModuleType, demo: Path) -> None:
    """The demo can be prepared again over itself."""
    files = sorted(path for path in demo.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    assert prepare.main([str(demo)]) == 0
    assert sorted(path for path in demo.rglob("*") if path.is_file()) == files
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize(
    ("package", "file"), [("no_such_package_here", "x.png"), ("skimage", "none.png")]
)
def test_a_missing_photograph_is_named(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, package: str, file: str
) -> None:
    """A missing package or file is one sentence that says what to install."""
    monkeypatch.setitem(prepare.FOLDERS, package, "data")
    photo = prepare.Photo(name="x.png", package=package, file=file)
    with pytest.raises(prepare.MissingPhotoError, match=r"affidavit\[demo\]"):
        prepare.installed(photo)
