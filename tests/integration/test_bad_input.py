# SPDX-License-Identifier: Apache-2.0
"""Bad input: items become rows with a reason, bad specs are refused before a write."""

import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from PIL import Image

from tests.support.workspace import Workspace, photograph, write_csv


def png_bomb(side: int) -> bytes:
    """Return a small PNG file that claims to be as large as that in both directions."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each bad item, by its file's name, in one run over all."""
    folder = tmp_path_factory.mktemp("bad")
    workspace = Workspace(folder=folder / "work").lay_out(2)
    photos = workspace.folder / "photos"
    whole = photos / "whole.jpg"
    photograph(5, side=200).save(whole, quality=95)
    (photos / "truncated.jpg").write_bytes(whole.read_bytes()[:3000])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_text("this is no picture")
    (photos / "bomb.png").write_bytes(png_bomb(60_000))
    tifffile.imwrite(
        photos / "channels.tif",
        np.zeros((64, 64, 5), np.uint8),
        photometric="minisblack",
        planarconfig="contig",
    )
    Image.new("L", (10, 10), 255).save(photos / "small-mask.png")
    Image.new("L", (64, 64), 255).save(photos / "mask.png")
    (folder / "outside.png").write_bytes((photos / "0000.png").read_bytes())
    (photos / "linked.png").symlink_to(folder / "outside.png")
    rows = [
        {"path": f"photos/{name}", "label": label, "mask": mask}
        for name, label, mask in (
            ("0000.png", "cat", "photos/mask.png"),
            ("missing.png", "", ""),
            ("truncated.jpg", "", ""),
            ("empty.jpg", "", ""),
            ("text.jpg", "", ""),
            ("bomb.png", "", ""),
            ("channels.tif", "", ""),
            ("0001.png", "unicorn", ""),
            ("whole.jpg", "cat", "photos/small-mask.png"),
            ("../../outside.png", "", ""),
            ("linked.png", "", ""),
            ("0000.png", "cat", ""),
            ("mask.png", "7", ""),
            ("small-mask.png", "cat", "../outside.png"),
        )
    ]
    write_csv(workspace.folder / "items.csv", rows)
    spec = workspace.write_spec(
        data={"source": "items.csv", "columns": {"label": "label", "mask": "mask"}},
        metrics=["localisation"],
    )
    document = workspace.run(spec)
    assert workspace.call("verify", "latest").code == 0
    found = [
        row
        for place in document["artifacts"]
        for row in pq.read_table(place).to_pylist()
    ]
    return {
        f"{number} {row['path']}": result
        for number, (row, result) in enumerate(zip(rows, found, strict=True))
    }


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("1 photos/missing.png", "file_missing"),
        ("2 photos/truncated.jpg", "image_truncated"),
        ("3 photos/empty.jpg", "file_empty"),
        ("4 photos/text.jpg", "not_an_image"),
        ("5 photos/bomb.png", "image_too_large"),
        ("6 photos/channels.tif", "unsupported_channels"),
        ("7 photos/0001.png", "label_unknown"),
        ("8 photos/whole.jpg", "mask_size_mismatch"),
        ("9 photos/../../outside.png", "outside_allowed_roots"),
        ("10 photos/linked.png", "outside_allowed_roots"),
        ("11 photos/0000.png", "duplicate_item"),
        ("12 photos/mask.png", "label_unknown"),
        ("13 photos/small-mask.png", "outside_allowed_roots"),
    ],
)
def test_a_bad_item_is_a_row_with_a_reason(
    audited: dict[str, dict[str, Any]], item: str, reason: str
) -> None:
    """A bad item has its reason, no map and no number, and the others go on."""
    row = audited[item]
    assert (row["status"], row["reason"]) == ("failed", reason)
    assert (row["map"], row["metrics"], row["score"]) == ([], [], None)


def test_the_good_item_among_bad_ones_is_explained(
    audited: dict[str, dict[str, Any]],
) -> None:
    """One sound item is explained although thirteen around it are not."""
    row = audited["0 photos/0000.png"]
    assert row["status"] == "done"
    assert dict(row["metrics"])["localisation_precision"] == 1.0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A sound workspace in which nothing was run."""
    place = Workspace(folder=tmp_path_factory.mktemp("specs") / "work").lay_out(3)
    (place.folder.parent / "outside.txt").write_text("a\nb\n")
    (place.folder.parent / "outside").mkdir()
    (place.folder.parent / "outside.pt").write_bytes(b"")
    (place.folder / "empty").mkdir()
    (place.folder / "nothing.csv").write_text("path\n")
    return place


def _canary(folder: Path) -> Path:
    return folder / "canary"


class _Payload:
    """A pickle of this makes a file when it is loaded carelessly."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self._target), os.O_CREAT)


def _with_nan(folder: Path) -> str:
    state = torch.load(folder / "tiny.pt", weights_only=True)
    next(iter(state.values()))[0] = float("nan")
    torch.save(state, folder / "nan.pt")
    return "nan.pt"


def _with_code(folder: Path) -> str:
    torch.save({"state": _Payload(_canary(folder))}, folder / "code.pt")
    return "code.pt"


def _bare_pickle(folder: Path) -> str:
    (folder / "bare.pt").write_bytes(pickle.dumps(_Payload(_canary(folder))))
    return "bare.pt"


def _pickle_called_safetensors(folder: Path) -> str:
    content = pickle.dumps(_Payload(_canary(folder)))
    (folder / "code.safetensors").write_bytes(content)
    return "code.safetensors"


def _missing_tensors(folder: Path) -> str:
    state = torch.load(folder / "tiny.pt", weights_only=True)
    state.popitem()
    torch.save(state, folder / "less.pt")
    return "less.pt"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_with_nan, "holds NaN or infinity in 'features.0.weight'"),
        (_with_code, "holds code"),
        (_bare_pickle, "holds code"),
        (_pickle_called_safetensors, "not a valid safetensors file"),
        (_missing_tensors, "do not fit the architecture: missing"),
        (lambda _folder: "missing.pt", "there is no file 'missing.pt'"),
        (lambda _folder: "../outside.pt", "AFFIDAVIT_ALLOWED_ROOTS"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_weights_are_refused(
    workspace: Workspace, make: Callable[[Path], str], says: str
) -> None:
    """Weights that are no finite, fitting tensors are refused; no code of them runs."""
    spec = workspace.write_spec(model={"weights": make(workspace.folder)})
    _refused(workspace, spec, says)
    assert not _canary(workspace.folder).exists()


def test_the_canary_works(tmp_path: Path) -> None:
    """The payload does make its file when it is unpickled without care."""
    os.close(pickle.loads(pickle.dumps(_Payload(_canary(tmp_path)))))  # noqa: S301
    assert _canary(tmp_path).exists()


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"model": {"sha256": "0" * 64}}, "but the spec expects 0000"),
        ({"model": {"layer": "features.99"}}, "Nearest: features.9"),
        ({"model": {"layer": "frobnicate"}}, "features, classifier"),
        ({"model": {"source": "torchvision:squeezenet1_7"}}, "squeezenet1_1"),
        ({"model": {"source": "nonsense"}}, "There is no architecture 'nonsense'"),
        ({"model": {"arguments": {"frob": 1}}}, "may not be given to torchvision"),
        ({"model": {"classes": ["one", "two"]}}, "2 names but the network has 5"),
        ({"model": {"classes": "../outside.txt"}}, "AFFIDAVIT_ALLOWED_ROOTS"),
        ({"model": {"classes": "missing.txt"}}, "missing.txt"),
        (
            {"model": {"preprocess": {"mean": [0.5], "std": [0.5], "crop": 64}}},
            "model.preprocess",
        ),
        ({"data": {"source": "../outside"}}, "AFFIDAVIT_ALLOWED_ROOTS"),
        ({"data": {"source": "missing/"}}, "There is no file or folder 'missing/'"),
        ({"data": {"source": "empty/"}}, "at least one item"),
        ({"data": {"source": "nothing.csv"}}, "has no rows"),
        ({"data": {"source": "audit.yaml"}}, "neither a folder nor"),
        ({"explain": {"target": 5}}, "the model has classes 0 to 4"),
        ({"explain": {"target": "rocke"}}, "did you mean 'rocket'"),
        ({"explain": {"method": "gradcma"}}, "did you mean gradcam"),
        ({"threshold": {"policy": "fixd"}}, "did you mean fixed"),
        ({"metrics": ["deletoin"]}, "did you mean deletion"),
        ({"metrics": ["deletion", "deletion"]}, "named twice"),
        ({"criteria": ["deletion_auc.mean <= 0.4"]}, "does not measure"),
        ({"criteria": ["score.maen <= 0.4"]}, "did you mean 'mean'"),
        ({"criteria": ["score is good"]}, "not a criterion"),
        ({"threshold": {"kep": 0.1}}, "did you mean 'keep'"),
        ({"run": {"batch_size": 0}}, "must be at least 1"),
    ],
    ids=str,
)
def test_a_bad_spec_is_refused(
    workspace: Workspace, sections: dict[str, Any], says: str
) -> None:
    """A spec that cannot be run is one clear sentence, exit code 2 and no write."""
    _refused(workspace, workspace.write_spec(**sections), says)


def test_a_misspelt_key_is_named_with_its_line(workspace: Workspace) -> None:
    """The message opens with file and line and names the nearest known key."""
    spec = workspace.folder / "misspelt.yaml"
    spec.write_text("audit: a\nmodell:\n  source: x\ndata: {source: photos/}\n")
    _refused(workspace, spec, "misspelt.yaml:2: there is no key 'modell'")
    assert "did you mean 'model'" in workspace.call("plan", spec).err


@pytest.mark.parametrize(
    "text", ["audit: [unclosed\n", "", "just words\n", "\x00\x01", "a: 1\na: 2\n"]
)
def test_a_file_that_is_no_spec_is_refused(workspace: Workspace, text: str) -> None:
    """What is not YAML, or not a mapping, is refused with its line."""
    spec = workspace.folder / "odd.yaml"
    spec.write_text(text)
    _refused(workspace, spec, "odd.yaml:")


def test_a_missing_spec_is_refused(workspace: Workspace) -> None:
    """A spec that is not there is bad usage, and the message says what makes one."""
    _refused(workspace, workspace.folder / "no.yaml", "affidavit init")


def test_an_exposed_key_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    """A signing key that others can read is refused, and no run is stored."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(3)
    spec = workspace.write_spec()
    assert workspace.call("init", "example.yaml").code == 0
    (workspace.home / "ledger.key").chmod(0o644)
    answer = workspace.call("run", spec, "--json")
    assert (answer.code, answer.document["error"]["kind"]) == (4, "key_file")
    assert "chmod 600" in answer.err
    assert workspace.rows("runs") == []


def test_a_device_that_is_not_there_exits_with_4(tmp_path: Path) -> None:
    """A device that this machine lacks is refused before anything is stored."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(3)
    spec = workspace.write_spec(run={"device": "cuda:77"})
    answer = workspace.call("run", spec)
    assert answer.code == 4
    assert "is not on this machine" in answer.err
    assert not workspace.home.exists()


def _refused(workspace: Workspace, spec: Path, says: str) -> None:
    for command in ("plan", "run"):
        answer = workspace.call(command, spec, "--json")
        assert answer.code == 2, answer.out + answer.err
        assert answer.err.startswith("affidavit: ")
        assert says in answer.err
        assert answer.document["error"]["message"] in answer.err
        if command == "plan":
            assert not workspace.home.exists()
    assert workspace.rows("runs") == []
    assert workspace.rows("locations") == []
    assert not workspace.objects.exists()
    # A run may have made its database before it listed its items.
    for name in ("affidavit.db", "affidavit.db-wal", "affidavit.db-shm"):
        (workspace.home / name).unlink(missing_ok=True)
    for name in ("ledger.key", "ledger.key.pub", "ledger.key.head"):
        (workspace.home / name).unlink(missing_ok=True)
    if workspace.home.exists():
        workspace.home.rmdir()
