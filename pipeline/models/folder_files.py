# SPDX-License-Identifier: Apache-2.0
"""From `transformers:FOLDER` to the files that the folder holds. No torch here."""

from pathlib import Path

from pipeline.errors import SpecError
from pipeline.models.transformers_folder import (
    SCHEME,
    class_names,
    files_of,
    read_config,
)
from pipeline.paths import AllowedRoots
from pipeline.spec import ModelSpec

_PREFIX = f"{SCHEME}:"


def with_folder_files(
    model: ModelSpec, *, base: Path, roots: AllowedRoots
) -> ModelSpec:
    """Return the section with the folder's files where it names none of its own.

    Paths of the result that were not given are absolute. Any other source is returned
    as it is.

    Raises:
        SpecError: there is no such folder, or it has no configuration.
        PathEscapeError: it lies outside the roots.
    """
    if not model.source.startswith(_PREFIX):
        return model
    text = model.source.removeprefix(_PREFIX)
    folder = roots.resolve(text, base=base)
    if not folder.is_dir():
        raise SpecError(
            f"model.source: there is no folder {text!r} (looked for at {folder}); paths"
            " count from the spec's folder, and nothing is fetched."
        )
    files = files_of(folder)
    found: dict[str, str] = {}
    if model.config is None:
        if not files.config.is_file():
            raise SpecError(
                f"model.source: the folder {text!r} has no config.json; it must be one"
                " that save_pretrained of the package transformers wrote."
            )
        found["config"] = str(files.config)
    if model.weights is None and files.weights.is_file():
        found["weights"] = str(files.weights)
    if model.tokenizer is None and files.tokenizer.is_file():
        found["tokenizer"] = str(files.tokenizer)
    return model.model_copy(update=found)


def names_of_folder(model: ModelSpec) -> list[str] | None:
    """Return the classes that a resolved section's folder names, None without one.

    Raises:
        ModelError: its configuration cannot be used.
    """
    if model.config is None:
        return None
    return class_names(read_config(Path(model.config)))
