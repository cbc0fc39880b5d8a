# SPDX-License-Identifier: Apache-2.0
"""Class names and the indices that they stand for."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pipeline.errors import ItemError, Reason, SpecError
from pipeline.paths import AllowedRoots
from pipeline.spec import ModelSpec

_MAX_BYTES = 8_000_000
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The classes of one network: how many there are and what they are called.

    Attributes:
        names: One name a class, by index; None when the classes are only numbered.
        count: Outputs of the network.

    Raises:
        SpecError: there are more or fewer names than classes.
    """

    names: list[str] | None
    count: int
    _indices: dict[str, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.names or []
        if names and len(names) != self.count:
            raise SpecError(
                f"model.classes has {len(names)} names but the network has"
                f" {self.count} classes; give one name a class, in their order."
            )
        indices: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(names):
            indices[name].append(index)
        object.__setattr__(self, "_indices", dict(indices))

    def index_of(self, label: str) -> int:
        """Return the class that a label means: a name, or an index in digits.

        A name wins over an index, so that classes may be called "0" to "9".

        Raises:
            ItemError: `label_unknown`, or `label_ambiguous` for a name that several
                classes share (as "crane", a bird and a machine, in ImageNet).
        """
        label = label.strip()
        found = self._indices.get(label, [])
        if len(found) > 1:
            raise ItemError(Reason.LABEL_AMBIGUOUS)
        if found:
            return found[0]
        if label.isascii() and label.isdigit() and len(label) <= _MAX_DIGITS:
            index = int(label)
            if index < self.count:
                return index
        raise ItemError(Reason.LABEL_UNKNOWN)

    def name_of(self, index: int) -> str:
        """Return the name of a class, or its number when it has no name."""
        if self.names and 0 <= index < len(self.names):
            return self.names[index]
        return str(index)

    def nearest(self, label: str) -> str | None:
        """Return the class name that looks most like the label, if any does."""
        near = get_close_matches(label, self._indices, n=1, cutoff=0.6)
        return near[0] if near else None


def load_class_names(
    model: ModelSpec, *, base: Path, roots: AllowedRoots
) -> list[str] | None:
    """Return the names that `model.classes` declares, None where it declares none.

    `imagenet` imports torchvision and so torch, which is why a run keeps the names in
    its plan.

    Raises:
        SpecError: the file is missing, outside the allowed roots, or no list of names.
    """
    classes = model.classes
    if classes is None or isinstance(classes, list):
        return classes
    if classes == "imagenet":
        return _imagenet()
    return _names_in_file(roots.resolve(classes, base=base), classes)


def _imagenet() -> list[str]:
    # Takes seconds and pulls in torch, which most callers must not do.
    from torchvision.models import ResNet50_Weights  # noqa: PLC0415

    return list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _names_in_file(path: Path, written: str) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise SpecError(
            f"model.classes {written!r} cannot be read ({exc.strerror}); expected"
            " `imagenet`, a list of names, or a file with one name a line."
        ) from exc
    if len(data) > _MAX_BYTES:
        raise SpecError(f"model.classes {written!r} is larger than 8 MB.")
    try:
        text = data.decode("utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (ValueError, RecursionError) as exc:
        raise SpecError(
            f"model.classes {written!r} is not UTF-8 text, or not valid JSON."
        ) from exc
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SpecError(f"model.classes {written!r} must hold one JSON list of names.")
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise SpecError(
            f"model.classes {written!r} has an empty line or name at"
            f" {names.index('') + 1 if names else 1}; every line names one class,"
            " counted from 0."
        )
    return names
