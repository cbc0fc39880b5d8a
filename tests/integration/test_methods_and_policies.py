# SPDX-License-Identifier: Apache-2.0
"""Every method and every policy, from a spec through to a report."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explain.kinds import IMAGE
from explain.methods.cards import METHODS
from explain.numpy_maps import dequantise, mask_from_cut, upsample
from explain.thresholds.cards import POLICIES
from tests.support.workspace import SIDE, Workspace, photograph, write_csv

#: Few passes, so that each method takes a second.
SMALL: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 32, "stride": 16},
    "rise": {"masks": 8, "grid": 3},
    "lime": {"samples": 12, "segments": 6},
    "kernelshap": {"samples": 12, "segments": 6},
    "scorecam": {"channels": 4},
}
#: The smallest calibration that there is, but for its fraction.
CALIBRATION = json.dumps(
    {
        "schema": "affidavit.calibration/1",
        "pooled": {"target": None, "items": 1, "keep": "KEEP", "keep_low": 0.1}
        | {"keep_high": 0.1, "iou": 0.5, "iou_low": 0.5, "iou_high": 0.5},
        "classes": [],
        "fractions": [0.1],
    }
    | {"min_items": 1, "replicates": 1, "seed": 0, "excluded": 0}
).replace('"KEEP"', "KEEP")
REQUIRED: dict[str, dict[str, Any]] = {"absolute": {"value": 1e-6}}
RESNET = {
    "source": "torchvision:resnet18",
    "weights": "resnet.pt",
    "arguments": {"num_classes": 5},
    "preprocess": {"resize": SIDE, "crop": SIDE},
}
#: Methods of attention weights have a transformer, whose grid is 4 x 4.
VIT = {
    "source": "timm:vit_tiny_patch16_224",
    "weights": "vit.pt",
    "arguments": {"num_classes": 5, "img_size": SIDE, "depth": 2},
    "preprocess": {"resize": SIDE, "crop": SIDE},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Five photographs with a mask each, a ResNet-18 and a ViT of seeded weights."""
    import timm
    import torch
    from torchvision import models

    place = Workspace(folder=tmp_path_factory.mktemp("methods") / "work").lay_out(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.resnet18(weights=None, num_classes=5)
        transformer = timm.create_model("vit_tiny_patch16_224", **VIT["arguments"])
    torch.save(network.state_dict(), place.folder / "resnet.pt")
    torch.save(transformer.state_dict(), place.folder / "vit.pt")
    rows = []
    for number in range(5):
        photograph(number).save(place.folder / f"{number}.png")
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[8 : 24 + 8 * number, 16:56] = 255
        Image.fromarray(mask).save(place.folder / f"{number}.mask.png")
        rows.append({"path": f"{number}.png", "mask": f"{number}.mask.png"})
    write_csv(place.folder / "data.csv", rows)
    return place


def run(place: Workspace, **sections: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return a run's document and the rows of its artifacts."""
    spec = place.write_spec(
        "next.yaml",
        **{
            "model": RESNET | {"classes": None},
            "data": {
                "source": "data.csv",
                "columns": {"uri": "path", "mask": "mask"},
            },
            "metrics": ["completeness", "localisation"],
        }
        | sections,
    )
    document = place.run(spec)
    rows: list[Any] = []
    for key in document["artifacts"]:
        rows += pq.read_table(place.objects / key.split("/objects/")[-1]).to_pylist()
    return document, rows


@pytest.mark.parametrize("name", [n for n, c in METHODS.items() if IMAGE in c.kinds])
def test_every_method_runs_from_a_spec(workspace: Workspace, name: str) -> None:
    """Each method explains photographs end to end, and its numbers are finite."""
    attends = METHODS[name].needs_attention
    model = {"model": VIT | {"classes": None}} if attends else {}
    document, rows = run(
        workspace, explain={"method": name, "parameters": SMALL.get(name, {})}, **model
    )
    assert document["items"] == {"total": 5, "done": 5, "failed": 0}
    assert all(row["method"].split(":")[0] == name for row in rows)
    sizes = {(row["map_height"], row["map_width"]) for row in rows}
    side = 28 if METHODS[name].pixel_resolution else 4 if attends else 2
    assert sizes == {(side, side)}
    for row in rows:
        assert np.isfinite(np.asarray(row["map"], dtype=np.float64)).all()
        assert row["map_scale"] > 0
        assert 0 < row["keep_achieved"] <= 1
        keys = {key for key, _value in row["metrics"]}
        assert ("completeness_residual" in keys) is METHODS[name].complete
    report = json.loads(Path(document["report"]).with_suffix(".json").read_bytes())
    assert report["method"]["title"] == METHODS[name].title


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for name, card in POLICIES.items() if IMAGE in card.kinds}
        - {"calibrated", "learned"}
    ),
)
def test_every_policy_runs_from_a_spec(workspace: Workspace, name: str) -> None:
    """Each policy cuts real maps, and its masks can be had from the artifact alone."""
    document, rows = run(
        workspace, threshold={"policy": name, **REQUIRED.get(name, {})}
    )
    assert document["items"]["done"] == 5
    for row in rows:
        assert row["policy"].split(":")[0] == name
        mask = mask_of(row)
        assert mask.any()
        assert mask.mean() == pytest.approx(row["keep_achieved"], abs=1e-12)
        energy = dict(row["metrics"])["completeness_energy"]
        assert row["energy_retained"] == pytest.approx(energy, abs=1e-6)
    if name == "multi_level":
        wanted = [level["keep_requested"] for level in rows[0]["levels"]]
        assert wanted == [0.05, 0.10, 0.20, 0.50]


def mask_of(row: dict[str, Any]) -> Any:
    """Return a row's mask as docs/reference/artifact.md tells to rebuild it."""
    if row["mask"] is not None:
        bits = np.unpackbits(np.frombuffer(row["mask"], np.uint8), count=SIDE * SIDE)
        return bits.astype(bool).reshape(SIDE, SIDE)
    values = np.asarray(row["map"], dtype=np.float16)
    values = values.reshape(1, row["map_height"], row["map_width"])
    large = upsample(
        dequantise(values, np.array([row["map_scale"]], np.float32)), (SIDE, SIDE)
    )
    kept = round(row["keep_achieved"] * SIDE * SIDE)
    return mask_from_cut(large, [row["cut"]], np.array([kept]))[0]


def test_remedies_change_the_map_and_the_name(workspace: Workspace) -> None:
    """Fusion, smoothing and contrast are switched in the spec and named in each row."""
    _, plain = run(workspace)
    for name, value in (
        ("fusion", {"scales": [1.0, 1.5]}),
        ("smoothing", {"sigma_min": 0.5}),
        ("contrast", {}),
    ):
        _, rows = run(workspace, explain={name: value})
        (method,) = {row["method"] for row in rows}
        assert method.split(":")[0] == f"gradcam+{name}"
        assert any(a["map"] != b["map"] for a, b in zip(rows, plain, strict=True))


def test_a_calibration_is_fitted_used_and_named(workspace: Workspace) -> None:
    """What `calibrate` writes decides a later run's masks, and its digest tells it."""
    first, _ = run(workspace)
    path = workspace.folder / "calibration.json"
    answer = workspace.call(
        "calibrate", first["run"], "--out", path, "--min-items", "1", "--json"
    )
    assert answer.code == 0, answer.err
    fitted = answer.document
    assert 0 < fitted["pooled"]["keep"] <= 1
    assert fitted["pooled"]["items"] == 5
    threshold = {"policy": "calibrated", "calibration": "calibration.json"}
    second, rows = run(workspace, threshold=threshold)
    keeps = {row["target"]: row["keep"] for row in fitted["classes"]}
    for row in rows:
        assert row["keep_requested"] == keeps.get(row["target"])
    held = path.read_bytes()
    assert hashlib.sha256(held).hexdigest() == fitted["digest"]
    assert rows[0]["policy"] == f"calibrated:calibration={fitted['digest'][:12]}"
    again = workspace.call("calibrate", first["run"], "--out", path)
    assert again.code == 2
    assert "--force" in again.err
    assert path.read_bytes() == held
    path.write_bytes(held.replace(b'"min_items":1', b'"min_items":2'))
    third, _ = run(workspace, threshold=threshold)
    assert third["spec_digest"] != second["spec_digest"]


def test_regions_are_given_by_the_ground_truth(workspace: Workspace) -> None:
    """With segments given, whole parts of the mask are kept, here the one object."""
    threshold = {"policy": "semantic", "segments": "given", "keep": 0.01, "gamma": 1}
    document, rows = run(workspace, threshold=threshold)
    assert document["items"] == {"total": 5, "done": 5, "failed": 0}
    for number, row in enumerate(rows):
        bits = np.unpackbits(np.frombuffer(row["mask"], np.uint8))[: SIDE * SIDE]
        truth = np.asarray(Image.open(workspace.folder / f"{number}.mask.png")) > 0
        kept = bits.reshape(SIDE, SIDE).astype(bool)
        assert (kept == truth).all() or (kept == ~truth).all()
    bare = workspace.write_spec("bare.yaml", threshold=threshold)
    answer = workspace.call("plan", bare)
    assert answer.code == 2
    assert "data.columns.mask" in answer.err


def test_items_without_given_regions_fail_alone(workspace: Workspace) -> None:
    """An item without a mask has no regions: it fails, and the others do not."""
    rows = [{"path": f"{n}.png", "mask": f"{n}.mask.png" if n else ""} for n in (0, 1)]
    write_csv(workspace.folder / "one.csv", rows)
    data = {"source": "one.csv", "columns": {"uri": "path", "mask": "mask"}}
    threshold = {"policy": "semantic", "segments": "given"}
    document, found = run(workspace, data=data, threshold=threshold)
    assert document["items"] == {"total": 2, "done": 1, "failed": 1}
    assert [row["reason"] for row in found] == ["mask_missing", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "holds no calibration"),
        ('{"schema": "other"}', "Expected a calibration"),
        ('{"schema": "affidavit.calibration/1"}', "lacks fields"),
        (CALIBRATION.replace("KEEP", "7"), "above 0 and up to 1"),
    ],
)
def test_a_calibration_that_is_none_is_refused(
    workspace: Workspace, text: str | None, message: str
) -> None:
    """A missing or foreign file is one sentence and exit code 2."""
    if text is not None:
        (workspace.folder / "odd.json").write_text(text)
    spec = workspace.write_spec(
        "odd.yaml",
        threshold={
            "policy": "calibrated",
            "calibration": "odd.json" if text is not None else "missing.json",
        },
    )
    answer = workspace.call("plan", spec)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_policies_are_learned_from_runs_and_applied(workspace: Workspace) -> None:
    """A table learned from two runs' recorded values decides a third run's masks."""
    small, _ = run(workspace, threshold={"policy": "fixed", "keep": 0.05})
    large, _ = run(workspace, threshold={"policy": "fixed", "keep": 0.5})
    path = workspace.folder / "policies.json"
    arguments = ("--quality", "localisation_iou", "--out", path, "--force", "--json")
    answer = workspace.call("learn", small["run"], large["run"], *arguments)
    assert answer.code == 0, answer.err
    assert len(answer.document["arms"]) == 2
    _, rows = run(workspace, threshold={"policy": "learned", "table": "policies.json"})
    assert {row["keep_requested"] for row in rows} <= {0.05, 0.5}
    one = workspace.call("learn", small["run"], small["run"], *arguments)
    assert one.code == 2
    assert "two different threshold policies" in one.err
    other, _ = run(workspace, explain={"method": "hirescam"}, threshold={"keep": 0.2})
    mixed = workspace.call("learn", small["run"], other["run"], *arguments)
    assert mixed.code == 2
    assert "differ in their threshold policy alone" in mixed.err
    bare, _ = run(workspace, metrics=[], threshold={"keep": 0.3})
    empty = workspace.call("learn", small["run"], bare["run"], *arguments)
    assert empty.code == 2
    assert f"No item of the run {bare['run']}" in empty.err
    odd = workspace.call(
        "learn", small["run"], large["run"], "--quality", "speed", "--force"
    )
    assert odd.code == 2
    assert "localisation_iou" in odd.err


def test_the_plan_prices_method_policy_and_metrics(workspace: Workspace) -> None:
    """What an item costs is said before work starts, repeated explanations included."""
    spec = workspace.write_spec(
        "price.yaml",
        explain={"method": "rise", "parameters": {"masks": 9}},
        threshold={"policy": "dynamic", "by": "confidence"},
        metrics=["deletion", "max_sensitivity"],
    )
    answer = workspace.call("plan", spec, "--json")
    assert answer.code == 0, answer.err
    # Eleven explanations of ten passes; thirteen of the search; twenty of the curve.
    assert answer.document["passes_per_item"] == 11 * 10 + 13 + 20
    assert "layer        none" in workspace.call("plan", spec).out


def test_a_run_without_masks_cannot_be_calibrated(workspace: Workspace) -> None:
    """Without ground truth there is nothing to fit, and nothing is written."""
    document, _ = run(workspace, data={"source": "photos/", "columns": {}})
    path = workspace.folder / "none.json"
    answer = workspace.call("calibrate", document["run"], "--out", path)
    assert answer.code == 2
    assert "data.columns.mask" in answer.err
    assert not path.exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"explain": {"method": "rise", "parameters": {"mask": 5}}},
            "has no parameter 'mask'; did you mean 'masks'",
        ),
        (
            {"explain": {"method": "rise", "parameters": {"masks": 0}}},
            "expected masks to be a whole number of at least 1",
        ),
        (
            {"threshold": {"policy": "dynamic", "taw": 0.5}},
            "has no parameter 'taw'; did you mean 'tau'",
        ),
        ({"threshold": {"policy": "absolute"}}, "needs value"),
        ({"threshold": {"policy": "dynamc"}}, "did you mean dynamic"),
        ({"explain": {"method": "grad_cam"}}, "did you mean gradcam"),
        ({"explain": {"method": "cam"}}, "linear"),  # SqueezeNet ends otherwise
    ],
)
def test_a_wrong_parameter_is_named_with_the_right_one(
    workspace: Workspace, section: dict[str, Any], message: str
) -> None:
    """A misspelt or impossible parameter ends in one sentence and exit code 2."""
    spec = workspace.write_spec("wrong.yaml", **section)
    answer = workspace.call("plan", spec)
    assert answer.code == 2
    assert message in answer.err
