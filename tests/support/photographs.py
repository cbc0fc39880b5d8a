# SPDX-License-Identifier: Apache-2.0
"""Real photographs as a dataset of any size: crops of those that scikit-image ships."""

from pathlib import Path

import numpy as np
import skimage.data
import yaml
from PIL import Image

#: Photographs that lie in the wheel itself, so that nothing is downloaded.
NAMES = ("chelsea", "coffee", "rocket", "astronaut")

#: EfficientNet-Lite0 was trained on (x - 127) / 128.
PREPROCESS = {
    "resize": 256,
    "crop": 224,
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "interpolation": "bilinear",
}


def write_photographs(folder: Path, count: int, *, side: int = 260) -> list[Path]:
    """Return the paths of that many distinct crops, written as JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(7)
    pictures = [getattr(skimage.data, name)() for name in NAMES]
    paths = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        top = int(generator.integers(0, picture.shape[0] - side + 1))
        left = int(generator.integers(0, picture.shape[1] - side + 1))
        crop = picture[top : top + side, left : left + side]
        path = folder / f"{number:04d}-{NAMES[number % len(NAMES)]}.jpg"
        Image.fromarray(crop).save(path, quality=92)
        paths.append(path)
    return paths


def write_spec(path: Path, **sections: object) -> Path:
    """Return the path of a spec for the pretrained network, sections replaced."""
    spec: dict[str, object] = {
        "audit": "photographs",
        "model": {
            "source": "efficientnet-lite0",
            "classes": "imagenet",
            "preprocess": PREPROCESS,
        },
        "data": {"source": "photos/"},
        "metrics": ["completeness"],
        "run": {"batch_size": 4, "shard_size": 4, "threads": 1},
    }
    path.write_text(yaml.safe_dump(spec | sections, sort_keys=False))
    return path
