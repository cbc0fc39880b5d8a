# SPDX-License-Identifier: Apache-2.0
"""Networks by name, and weights that load as data."""

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

import pipeline.models.loading
from pipeline.errors import ModelError
from pipeline.models.loading import load_model
from pipeline.models.weights import WeightsFile, read_file, read_state, state_sha256
from pipeline.spec import ModelSpec


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    """A small torchvision network with seeded weights."""
    torch.manual_seed(3)
    return models.squeezenet1_1(weights=None, num_classes=7)


@pytest.fixture
def tiny_weights(tmp_path: Path, tiny: torch.nn.Module) -> Path:
    """Its weights as safetensors."""
    path = tmp_path / "tiny.safetensors"
    save_file(tiny.state_dict(), path)
    return path


def tiny_spec(weights: Path | None = None, **more: object) -> ModelSpec:
    """Return a spec of the small network."""
    return ModelSpec.model_validate(
        {
            "source": "torchvision:squeezenet1_1",
            "weights": None if weights is None else str(weights),
            "arguments": {"num_classes": 7},
            **more,
        }
    )


def same_tensors(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Return whether two networks have the same weights."""
    theirs = other.state_dict()
    return all(torch.equal(t, theirs[name]) for name, t in one.state_dict().items())


def test_safetensors_load_with_the_files_digest(
    tiny: torch.nn.Module, tiny_weights: Path
) -> None:
    """The network has the file's weights, and the digest is the file's SHA-256."""
    loaded = load_model(tiny_spec(tiny_weights), weights=tiny_weights)
    assert same_tensors(tiny, loaded.module)
    assert loaded.sha256 == read_file(tiny_weights).sha256


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_load_in_the_forms_that_training_leaves(
    tmp_path: Path, tiny: torch.nn.Module, wrapper: str | None, prefix: str
) -> None:
    """Wrapped or not, from DataParallel or not: the weights are found."""
    state = {prefix + name: tensor for name, tensor in tiny.state_dict().items()}
    path = tmp_path / "tiny.pth"
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    assert same_tensors(tiny, load_model(tiny_spec(path), weights=path).module)


def test_another_digest_than_the_specs_is_refused_with_both(
    tiny_weights: Path,
) -> None:
    """The message says what was expected and what was found."""
    spec = tiny_spec(tiny_weights, sha256="0" * 64)
    with pytest.raises(ModelError) as caught:
        load_model(spec, weights=tiny_weights)
    assert "0" * 64 in str(caught.value)
    assert read_file(tiny_weights).sha256 in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_that_is_replaced_after_the_check_is_not_loaded(
    tmp_path: Path,
    tiny: torch.nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    """The tensors are those of the bytes whose digest was checked and recorded."""
    path = tmp_path / f"w{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(tiny.state_dict(), path)
    expected = read_file(path).sha256

    def replaced(file: WeightsFile) -> dict[str, torch.Tensor]:
        save({name: t * 0 for name, t in tiny.state_dict().items()}, path)
        return read_state(file)

    monkeypatch.setattr(pipeline.models.loading, "read_state", replaced)
    loaded = load_model(tiny_spec(path, sha256=expected), weights=path)
    assert read_file(path).sha256 != expected
    assert loaded.sha256 == expected
    assert same_tensors(tiny, loaded.module)


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_pickle_never_runs(tmp_path: Path, how: str) -> None:
    """A weights file with code is refused, and the code has not run."""
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    if how == "torch":
        torch.save({"state_dict": _Canary(str(canary))}, path)
    else:
        path.write_bytes(pickle.dumps(_Canary(str(canary)), protocol=2))
    with pytest.raises(ModelError):
        read_state(read_file(path))
    assert not canary.exists()
    # The trap works: the same bytes do run where they are trusted.
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(  # noqa: S301
        path.read_bytes()
    )
    assert canary.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x02}."])
def test_files_that_are_no_weights_are_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    """Empty files, junk, broken archives and empty pickles are one sentence."""
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="weights file"):
        read_state(read_file(path))


def test_nan_weights_are_refused_by_name(tmp_path: Path, tiny: torch.nn.Module) -> None:
    """A network with NaN in it cannot be audited, and the tensor is named."""
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state["features.0.bias"][3] = float("nan")
    path = tmp_path / "nan.safetensors"
    save_file(state, path)
    with pytest.raises(ModelError, match=r"NaN or infinity in 'features\.0\.bias'"):
        load_model(tiny_spec(path), weights=path)


def test_weights_of_another_network_are_refused_with_names(
    tmp_path: Path,
) -> None:
    """Missing and unexpected names are told, and what to look at."""
    path = tmp_path / "other.safetensors"
    save_file(models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(ModelError, match=r"do not fit.*missing.*model\.source"):
        load_model(tiny_spec(path), weights=path)


def test_weights_of_another_width_are_refused(
    tmp_path: Path,
) -> None:
    """A tensor of another shape is told."""
    path = tmp_path / "wide.safetensors"
    wide = models.squeezenet1_1(weights=None, num_classes=9)
    save_file(wide.state_dict(), path)
    with pytest.raises(ModelError, match="size mismatch"):
        load_model(tiny_spec(path), weights=path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("torchvision:resnet5", "did you mean resnet50"),
        ("torchvision:fasterrcnn_resnet50_fpn", "not supported"),
        ("timm:resnet1888", "no timm model"),
        ("efficientnet-lite9", "did you mean efficientnet-lite0"),
        ("torchvision:squeezenet1_1", "names no weights"),
    ],
)
def test_unknown_and_unsupported_sources_say_what_to_do(
    source: str, sentence: str
) -> None:
    """Each is one sentence with the nearest name or the reason."""
    with pytest.raises(ModelError, match=sentence):
        load_model(ModelSpec(source=source), weights=None)


def test_a_timm_network_loads(tmp_path: Path) -> None:
    """Timm's networks take weights from a file, and nothing is fetched."""
    import timm

    torch.manual_seed(1)
    built = timm.create_model("test_resnet", pretrained=False, num_classes=5)
    path = tmp_path / "w.safetensors"
    save_file(built.state_dict(), path)
    spec = ModelSpec(source="timm:test_resnet", arguments={"num_classes": 5})
    assert same_tensors(built, load_model(spec, weights=path).module)


def test_the_pretrained_network_of_the_demo_has_its_own_weights() -> None:
    """EfficientNet-Lite0 needs no file: its digest is that of the installed one."""
    loaded = load_model(ModelSpec(source="efficientnet-lite0"), weights=None)
    assert len(loaded.sha256) == 64
    assert sum(p.numel() for p in loaded.module.parameters()) > 4_000_000


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another package that registers an architecture; importing it leaves a mark."""
    (tmp_path / "strange_net.py").write_text(
        "import pathlib, torch\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "def build(width=4):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3),\n"
        "        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[affidavit.models]\nstrange = strange_net:build\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange_net", raising=False)
    return "strange"


def test_code_of_other_packages_needs_an_administrators_word(
    tmp_path: Path, plugin: str
) -> None:
    """A registered architecture is refused, not even imported, until it is allowed."""
    spec = ModelSpec(source=plugin, weights="hub")
    with pytest.raises(ModelError, match="AFFIDAVIT_PLUGINS=1"):
        load_model(spec, weights=None)
    assert not (tmp_path / "imported").exists()
    loaded = load_model(spec, weights=None, plugins=True)
    assert (tmp_path / "imported").exists()
    assert loaded.sha256 == state_sha256(loaded.module)


def test_arguments_that_an_architecture_refuses_are_told(plugin: str) -> None:
    """A wrong keyword is one sentence, not a traceback."""
    spec = ModelSpec(source=plugin, weights="hub", arguments={"depth": 3})
    with pytest.raises(ModelError, match=r"refuses model\.arguments.*depth"):
        load_model(spec, weights=None, plugins=True)


def test_the_digest_of_tensors_changes_with_any_of_them(tiny: torch.nn.Module) -> None:
    """One changed weight, and one renamed buffer, give other digests."""
    before = state_sha256(tiny)
    assert before == state_sha256(tiny)
    with torch.no_grad():
        weight = next(tiny.parameters())
        kept = weight.clone()
        weight[0, 0, 0, 0] += 1
    assert state_sha256(tiny) != before
    with torch.no_grad():
        weight.copy_(kept)
    assert state_sha256(tiny) == before
