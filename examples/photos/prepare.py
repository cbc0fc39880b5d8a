# SPDX-License-Identifier: Apache-2.0
"""Lay out the demo: real photographs, hand-drawn masks, a manifest and the spec.

    python examples/photos/prepare.py demo/

Nothing is downloaded: the photographs lie in the wheels of scikit-image and
scikit-learn (extra `demo`). Their sources and licences are told by those packages.
"""

import argparse
import csv
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
#: Package to the folder of its photographs.
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One photograph of the demo.

    Attributes:
        name: What the demo calls it.
        package: Where it comes from.
        file: What it is called there.
        label: The ImageNet class that fits it, empty where none does.
    """

    name: str
    package: str
    file: str
    label: str = ""


#: Labels say what a person sees. A dahlia is no daisy, a motorcycle no moped, a launch
#: vehicle no missile, and the last two are nothing that ImageNet knows: they are here
#: because an audit should show what a network says of pictures it was not made for.
PHOTOS = (
    Photo(name="astronaut.png", package="skimage", file="astronaut.png"),
    Photo(name="camera.png", package="skimage", file="camera.png", label="tripod"),
    Photo(name="chelsea.png", package="skimage", file="chelsea.png", label="tabby"),
    Photo(name="china.jpg", package="sklearn", file="china.jpg"),
    Photo(name="coffee.png", package="skimage", file="coffee.png", label="espresso"),
    Photo(name="flower.jpg", package="sklearn", file="flower.jpg"),
    Photo(name="motorcycle.png", package="skimage", file="motorcycle_left.png"),
    Photo(name="rocket.jpg", package="skimage", file="rocket.jpg"),
    Photo(name="hubble.jpg", package="skimage", file="hubble_deep_field.jpg"),
    Photo(name="retina.jpg", package="skimage", file="retina.jpg"),
)


class MissingPhotoError(Exception):
    """A photograph is not there; the message says what to install."""


def prepare(folder: Path) -> Path:
    """Return the spec's path in the folder, which now holds all that the demo needs.

    Raises:
        MissingPhotoError: a package or a photograph is not installed.
    """
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    outlines = json.loads((HERE / "outlines.json").read_text("utf-8"))["photos"]
    rows = []
    for photo in PHOTOS:
        place = f"photos/{photo.name}"
        shutil.copyfile(installed(photo), folder / place)
        mask = ""
        if photo.name in outlines:
            mask = f"masks/{Path(photo.name).stem}.png"
            with Image.open(folder / place) as picture:
                size = picture.size
            rasterised(outlines[photo.name]["rings"], size).save(folder / mask)
        rows.append({"path": place, "label": photo.label, "mask": mask})
    with (folder / "photos.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "label", "mask"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    spec = folder / "audit.yaml"
    shutil.copyfile(HERE / "audit.yaml", spec)
    return spec


def installed(photo: Photo) -> Path:
    """Return where the package keeps the photograph, without importing the package."""
    found = find_spec(photo.package)
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        path = Path(place) / FOLDERS[photo.package] / photo.file
        if path.is_file():
            return path
    raise MissingPhotoError(
        f"The photograph {photo.file} of {photo.package} is not installed; "
        "pip install 'affidavit[demo]' brings it."
    )


def rasterised(rings: list[list[list[int]]], size: tuple[int, int]) -> Image.Image:
    """Return the mask of the rings: 255 within any of them, 0 elsewhere."""
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for ring in rings:
        draw.polygon([(x, y) for x, y in ring], fill=255)
    return mask


def main(arguments: list[str] | None = None) -> int:
    """Prepare the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Lay out the demo's photographs.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    folder = parser.parse_args(arguments).folder
    try:
        spec = prepare(folder)
    except MissingPhotoError as exc:
        print(exc, file=sys.stderr)
        return 2
    print(f"{len(PHOTOS)} photographs are in {folder}; run: affidavit run {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
