# SPDX-License-Identifier: Apache-2.0
"""Checks on real images with expert masks; run by `make test-data`."""

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from explain.numpy_maps import dequantise, fixed_keep_mask, upsample
from pipeline.decoding import decode, decode_mask, preprocess_mask
from pipeline.models.weights import read_file, read_state
from pipeline.spec import PreprocessSpec
from tests.support.deployment import Deployment
from tests.support.photographs import PREPROCESS, write_spec

pytestmark = [pytest.mark.data, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of real images, named by AFFIDAVIT_TEST_DATA."""
    return Path(os.environ["AFFIDAVIT_TEST_DATA"]).resolve()


@pytest.fixture(scope="module")
def davis(data: Path, tmp_path_factory: pytest.TempPathFactory) -> "DavisRun":
    """One audit of the DAVIS frames with their masks."""
    folder = tmp_path_factory.mktemp("davis")
    frames = sorted((data / "images/davis").glob("*.jpg"))
    with (folder / "frames.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "mask"])
        writer.writerows([[str(f), str(f.with_suffix(".mask.png"))] for f in frames])
    spec = write_spec(
        folder / "audit.yaml",
        data={"source": "frames.csv", "columns": {"mask": "mask"}},
        metrics=["localisation", "completeness"],
        threshold={"policy": "fixed", "keep": 0.10},
        run={"batch_size": 8, "shard_size": 16},
    )
    deployment = Deployment(
        folder=folder,
        variables={"AFFIDAVIT_ALLOWED_ROOTS": f"{folder}:{data}"},
    )
    answer = deployment.call("run", str(spec), "--json")
    assert answer.code == 0, answer.err
    return DavisRun(frames, answer.document)


class DavisRun:
    """The frames and what the run printed."""

    def __init__(self, frames: list[Path], document: dict[str, object]) -> None:
        self.frames = frames
        self.document = document

    def rows(self) -> list[dict[str, object]]:
        """Return every row of the run's artifacts in manifest order."""
        artifacts = self.document["artifacts"]
        assert isinstance(artifacts, list)
        return [row for path in artifacts for row in pq.read_table(path).to_pylist()]


def test_every_frame_is_explained(davis: DavisRun) -> None:
    """Forty real video frames are explained without a failure."""
    assert davis.document["items"] == {
        "total": len(davis.frames),
        "done": len(davis.frames),
        "failed": 0,
    }
    assert len(davis.frames) == 40


def test_a_stranger_recomputes_each_iou_from_artifact_and_mask(
    davis: DavisRun,
) -> None:
    """IoU from the stored map and the mask file, without our metric, is the same."""
    geometry = PreprocessSpec.model_validate(PREPROCESS)
    for frame, row in zip(davis.frames, davis.rows(), strict=True):
        values = np.array(row["map"], dtype=np.float16).reshape(
            1, row["map_height"], row["map_width"]
        )
        scale = np.array([row["map_scale"]], dtype=np.float32)
        mask = fixed_keep_mask(upsample(dequantise(values, scale), (224, 224)), 0.10)[0]
        with Image.open(frame) as picture:
            size = picture.size
        drawn = decode_mask(frame.with_suffix(".mask.png").read_bytes(), size)
        truth = preprocess_mask(drawn, geometry)
        metrics = dict(row["metrics"])  # type: ignore[call-overload]
        if not truth.any():
            assert "localisation_iou" not in metrics
            continue
        iou = (mask & truth).sum() / (mask | truth).sum()
        assert metrics["localisation_iou"] == pytest.approx(iou, abs=1e-12)


def test_grad_cam_finds_the_objects_better_than_chance(davis: DavisRun) -> None:
    """Kept regions hold the object several times more often than its share of area.

    Independent figures for the same network on DAVIS: IoU 0.32 and precision 0.44 at
    10 %, with a mean mask of 8 % of the picture.
    """
    metrics = [dict(row["metrics"]) for row in davis.rows()]  # type: ignore[call-overload]
    ious = [m["localisation_iou"] for m in metrics if "localisation_iou" in m]
    precision = [
        m["localisation_precision"] for m in metrics if "localisation_precision" in m
    ]
    assert np.mean(ious) > 0.2
    assert np.mean(precision) > 0.3


def test_medical_pictures_decode(data: Path) -> None:
    """Each ultrasound and dermoscopy picture decodes at its size, in RGB or grey."""
    paths = [
        *sorted((data / "images/busi").glob("*.png")),
        *sorted((data / "images/ham10000").glob("*.jpg")),
    ]
    assert len(paths) == 65
    for path in paths:
        picture = decode(path.read_bytes())
        assert picture.mode in {"RGB", "L"}
        with Image.open(path) as reference:
            assert sorted(picture.size) == sorted(reference.size)


def test_a_sixteen_bit_instance_mask_is_object_wherever_it_is_not_zero(
    data: Path,
) -> None:
    """The nuclei mask, 183 labels in 16 bits, becomes one mask of all nuclei."""
    path = next((data / "images/nuclei").glob("*mask*"))
    with Image.open(path) as labels:
        expected = np.asarray(labels) != 0
        size = labels.size
    found = np.asarray(decode_mask(path.read_bytes(), size)) != 0
    assert (found == expected).all()
    assert 0.05 < expected.mean() < 0.95


def test_old_training_checkpoints_load_as_data(data: Path) -> None:
    """A wrapped DataParallel checkpoint gives plain names and finite tensors."""
    state = read_state(read_file(data / "weights/cifar10_resnet20-12fca82f.th"))
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    assert state["linear.weight"].shape == (10, 64)
    assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())
