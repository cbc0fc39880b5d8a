# SPDX-License-Identifier: Apache-2.0
"""Text classifiers of the package transformers, built from a folder's config.json.

Nothing is fetched and no code of the folder runs: the classes are named here one by
one, the configuration is read as data, and weights load as weights of any other
network do.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError, ModelRefusedError, Refusal

if TYPE_CHECKING:
    from torch import Tensor, nn

#: How a spec names such a folder.
SCHEME = "transformers"
#: `model_type` of the configuration to configuration and network, by class name.
CLASSIFIERS = {
    "bert": ("BertConfig", "BertForSequenceClassification"),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification"),
    "distilbert": ("DistilBertConfig", "DistilBertForSequenceClassification"),
}
#: Buffers that older versions stored, and that are counted out anew.
_COUNTED_OUT = ("embeddings.position_ids", "embeddings.token_type_ids")
_MOST_BYTES = 4_000_000
_NAMELESS = "LABEL_"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFiles:
    """The files of a folder that a spec names.

    Attributes:
        config: Its configuration.
        weights: Its weights.
        tokenizer: Its tokenizer.
    """

    config: Path
    weights: Path
    tokenizer: Path


def files_of(folder: Path) -> FolderFiles:
    """Return where the files of such a folder lie, there or not."""
    return FolderFiles(
        config=folder / "config.json",
        weights=folder / "model.safetensors",
        tokenizer=folder / "tokenizer.json",
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return a configuration that names one of the known classifiers.

    Raises:
        ModelError: the file cannot be read, or is of another network.
        ModelRefusedError: it asks for code of its own.
    """
    try:
        content = path.read_bytes()
        config = json.loads(content) if len(content) <= _MOST_BYTES else None
    except OSError as exc:
        raise ModelError(
            f"The configuration {path} cannot be read ({exc.strerror}); model.source:"
            " transformers:FOLDER needs a folder with a config.json."
        ) from exc
    except ValueError as exc:
        raise ModelError(f"The configuration {path} is not JSON.") from exc
    if not isinstance(config, dict):
        raise ModelError(f"The configuration {path} is no JSON object.")
    if config.get("auto_map"):
        raise ModelRefusedError(
            f"The configuration {path} asks for code of its own (auto_map), which never"
            " runs; register the network under affidavit.models instead.",
            code=Refusal.CODE_NOT_ALLOWED,
        )
    kind = config.get("model_type")
    if kind not in CLASSIFIERS:
        raise ModelError(
            f"The configuration {path} is of model_type {kind!r}; known are"
            f" {', '.join(CLASSIFIERS)}."
        )
    return config


def class_names(config: dict[str, Any]) -> list[str] | None:
    """Return the classes that the configuration names, None where it only counts."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return None
    try:
        names = [str(named[key]) for key in sorted(named, key=int)]
    except ValueError:
        return None
    if not names or any(name.startswith(_NAMELESS) for name in names):
        return None
    return names


def build(path: Path) -> "nn.Module":
    """Return the network of a configuration, its weights of any kind.

    Raises:
        ModelError: the configuration is of another network, or the package
            transformers is not installed.
        ModelRefusedError: it asks for code of its own.
    """
    config = read_config(path)
    try:
        import transformers  # noqa: PLC0415 - heavy, and an extra
    except ModuleNotFoundError as exc:
        raise ModelError(
            "The spec asks for a network of the package transformers, which is not"
            " installed; install it with: pip install 'affidavit[text]'."
        ) from exc
    of_config, of_network = CLASSIFIERS[config["model_type"]]
    try:
        settings = getattr(transformers, of_config).from_dict(config)
        # Weights of attention are made again where a method asks for them.
        settings._attn_implementation = "sdpa"  # noqa: SLF001 - as transformers' own loader does
        network: nn.Module = getattr(transformers, of_network)(settings)
    except Exception as exc:
        # The package checks values with errors of its own, and of several others.
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        raise ModelError(
            f"The configuration {path} makes no network: {lines[0].rstrip('.')}."
        ) from exc
    if settings.num_labels < 2:
        raise ModelError(
            f"The configuration {path} has {settings.num_labels} class; a classifier of"
            " two classes at least is needed."
        )
    return network


def without_counted_out(state: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return the tensors without those that are counted out anew."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith(_COUNTED_OUT)
    }
