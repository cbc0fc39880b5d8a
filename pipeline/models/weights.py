# SPDX-License-Identifier: Apache-2.0
"""Reading weights as data: safetensors, or a state dict loaded with weights_only.

A pickle that asks for anything but tensors is refused and never runs; so are
TorchScript archives and exported programs, which are code.
"""

import hashlib
import io
import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError, ModelRefusedError, Refusal

#: What torch's readers raise for bytes that are no archive and no sound pickle.
_MALFORMED = (
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)

#: Keys under which training scripts put the state dict of a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file as it was at one moment.

    Digest and tensors come from the same bytes, so that a file which is replaced in
    between cannot stand in for the one whose digest was checked and recorded.

    Attributes:
        path: Where it lies, for messages.
        content: Its bytes.
        sha256: Hex SHA-256 of the bytes.
    """

    path: Path
    content: bytes = field(repr=False)
    sha256: str


def read_file(path: Path) -> WeightsFile:
    """Return the bytes of a weights file.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"The weights file {path} cannot be read ({exc.strerror}); check "
            "model.weights."
        ) from exc
    return WeightsFile(path, content, hashlib.sha256(content).hexdigest())


def state_sha256(model: nn.Module) -> str:
    """Return the hex SHA-256 of a network's tensors, for weights without a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state(file: WeightsFile) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name; no code of the file runs.

    Raises:
        ModelError: the file is not weights, or holds code.
    """
    path = file.path
    if path.suffix == ".safetensors":
        return _read_safetensors(file)
    try:
        # The C++ reader of zip archives raises RuntimeError for anything malformed,
        # and warns of odd pickles, which the refusal below says better.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(
                io.BytesIO(file.content), map_location="cpu", weights_only=True
            )
    except pickle.UnpicklingError as exc:
        raise ModelRefusedError(
            f"The weights file {path} holds code or objects other than tensors and was "
            "not loaded; save the state dict, best as .safetensors.",
            code=Refusal.HOLDS_CODE,
            sha256=file.sha256,
        ) from exc
    except _MALFORMED as exc:
        raise ModelError(
            f"The weights file {path} is not a PyTorch state dict; save it with "
            "torch.save(model.state_dict(), ...) or as .safetensors."
        ) from exc
    return _unwrapped(content, path)


def _read_safetensors(file: WeightsFile) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load  # noqa: PLC0415

    try:
        return dict(load(file.content))
    except SafetensorError as exc:
        raise ModelError(
            f"The weights file {file.path} is not a valid safetensors file."
        ) from exc


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"The weights file {path} holds no state dict.")
    tensors = {str(key): value for key, value in content.items()}
    strays = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if strays:
        raise ModelError(
            f"The weights file {path} holds '{strays[0]}', which is not a tensor; "
            "save the model's state dict alone."
        )
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): t for key, t in tensors.items()}
    return tensors


def load_into(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """The network has exactly these weights, all of them finite.

    Raises:
        ModelError: names or shapes do not fit, or a weight is NaN or infinite.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"The weights file {path} holds NaN or infinity in '{name}'; a model "
                "with such weights cannot be audited."
            )
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as exc:
        detail = str(exc).strip().splitlines()[-1].strip().rstrip(".")
        raise ModelError(
            f"The weights in {path} do not fit the architecture: {detail}."
        ) from exc
    wrong = [f"missing '{key}'" for key in missing]
    wrong += [f"unexpected '{key}'" for key in unexpected]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"The weights in {path} do not fit the architecture: "
            f"{', '.join(wrong[:3])}{more}; check model.source and model.arguments."
        )
