# SPDX-License-Identifier: Apache-2.0
"""From `model` in the spec to a network on a device, its digest recorded."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError, ModelRefusedError, Refusal
from pipeline.models.architecture import Architecture
from pipeline.models.arguments import TIMM, TORCHVISION, checked_arguments
from pipeline.models.transformers_folder import SCHEME, build, without_counted_out
from pipeline.models.weights import (
    WeightsFile,
    load_into,
    read_file,
    read_state,
    state_sha256,
)
from pipeline.spec import HUB, ModelSpec

GROUP = "affidavit.models"

#: What a network's code raises for arguments that do not suit it.
_BUILD_FAILURES = (
    TypeError,
    ValueError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network with its weights.

    Attributes:
        module: On the CPU, in the mode in which it was built.
        sha256: Digest of the weights file, or of the tensors where there is no file.
    """

    module: nn.Module
    sha256: str


def load_model(
    spec: ModelSpec, *, weights: Path | None, plugins: bool = False
) -> LoadedModel:
    """Return the network that the spec names.

    Args:
        spec: The spec's model section.
        weights: The resolved path of its weights, None where it names none.
        plugins: Whether architectures of other packages may run their code.

    Raises:
        ModelError: architecture unknown or not installed, weights missing, of another
            digest, not fitting, not finite, or holding code.
    """
    file = None if weights is None else _checked(weights, spec.sha256)
    read = None if file is None else _whole_file_reader(spec, plugins=plugins)
    if file is not None and read is not None:
        return LoadedModel(module=read(file), sha256=file.sha256)
    pretrained = spec.weights == HUB
    module, own = _bare(spec, plugins=plugins)
    if file is None and own is not None:
        file = _checked(own, spec.sha256)
    if file is not None:
        load_into(module, _state_for(spec, file), file.path)
        return LoadedModel(module=module, sha256=file.sha256)
    if not pretrained:
        raise ModelError(
            f"The spec names no weights for {spec.source}; set model.weights to a "
            "file (or to 'hub' to let them be fetched)."
        )
    found = state_sha256(module)
    if spec.sha256 is not None and found != spec.sha256:
        raise _mismatch("The fetched weights", spec.sha256, found)
    return LoadedModel(module=module, sha256=found)


def shown_model(spec: ModelSpec, *, plugins: bool = False) -> LoadedModel:
    """Return the network to look at its structure, with seeded numbers as weights.

    Where the architecture comes with weights they are loaded, and the digest is
    theirs; else it is empty. Layers that are built with zeros, as heads often are, get
    small numbers: no score would depend on anything before them.

    Raises:
        ModelError: as `load_model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, own = _bare(spec, plugins=plugins)
        for parameter in module.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.02)
    if own is None:
        return LoadedModel(module=module, sha256="")
    file = _checked(own, spec.sha256)
    load_into(module, read_state(file), file.path)
    return LoadedModel(module=module, sha256=file.sha256)


def _bare(spec: ModelSpec, *, plugins: bool) -> tuple[nn.Module, Path | None]:
    """Return the network as it is built, and the weights that come with it, if any."""
    kind, _, name = spec.source.rpartition(":")
    pretrained = spec.weights == HUB
    if kind == "torchvision":
        return _torchvision(name, spec, pretrained=pretrained), None
    if kind == "timm":
        return _timm(name, spec, pretrained=pretrained), None
    if spec.source.startswith(f"{SCHEME}:"):
        if spec.config is None:
            raise ModelError(
                f"model.source: {spec.source} was not followed to its config.json."
            )
        return build(Path(spec.config)), None
    architecture = _registered(spec.source, plugins=plugins)
    module = _built(architecture, spec)
    own = architecture.default_weights
    return module, None if own is None else own()


def _state_for(spec: ModelSpec, file: WeightsFile) -> dict[str, Tensor]:
    """Return the tensors of a file, as the network of the spec names them."""
    state = read_state(file)
    return without_counted_out(state) if spec.config is not None else state


def _whole_file_reader(
    spec: ModelSpec, *, plugins: bool
) -> Callable[[WeightsFile], nn.Module] | None:
    """Return what reads a model whose file holds all of it, None for the others."""
    if ":" in spec.source:
        return None
    read = _registered(spec.source, plugins=plugins).read
    if read is not None and spec.arguments:
        raise ModelError(
            f"{spec.source} takes no model.arguments; its file says all there is."
        )
    return read


def _checked(weights: Path, expected: str | None) -> WeightsFile:
    file = read_file(weights)
    if expected is not None and file.sha256 != expected:
        raise _mismatch(f"The weights file {weights}", expected, file.sha256)
    return file


def _mismatch(what: str, expected: str, found: str) -> ModelRefusedError:
    return ModelRefusedError(
        f"{what} has SHA-256 {found}, but the spec expects {expected}; it is another "
        "file or was altered.",
        code=Refusal.DIGEST_MISMATCH,
        sha256=found,
    )


def _torchvision(name: str, spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    from torchvision import models  # noqa: PLC0415

    known = models.list_models(module=models)
    if name not in known:
        others = set(models.list_models()) - set(known)
        if name in others:
            raise ModelError(
                f"torchvision's {name} is a detector, segmenter or video network; "
                "audits of those are not supported."
            )
        raise ModelError(_unknown("torchvision model", name, known))
    arguments = checked_arguments(spec.source, spec.arguments, TORCHVISION)
    if name in {"googlenet", "inception_v3"}:
        # Their default initialisation takes half a minute and is overwritten anyway.
        arguments.setdefault("init_weights", False)
    try:
        module: nn.Module = models.get_model(
            name, weights="DEFAULT" if pretrained else None, **arguments
        )
    except _BUILD_FAILURES as exc:
        raise _unbuildable(f"torchvision's {name}", exc) from exc
    except OSError as exc:
        raise _unfetched(f"torchvision's {name}") from exc
    return module


def _unbuildable(what: str, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ModelError(f"{what} refuses model.arguments: {lines[0].rstrip('.')}.")


def _unfetched(what: str) -> ModelError:
    return ModelError(
        f"The weights of {what} cannot be fetched from the hub; give a file under "
        "model.weights."
    )


def _timm(name: str, spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    try:
        import timm  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ModelError(
            "The spec asks for a timm model, but timm is not installed; install it "
            "with: pip install 'affidavit[timm]'."
        ) from exc
    if not timm.is_model(name):
        raise ModelError(_unknown("timm model", name, timm.list_models()))
    arguments = checked_arguments(spec.source, spec.arguments, TIMM)
    try:
        module: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    except _BUILD_FAILURES as exc:
        raise _unbuildable(f"timm's {name}", exc) from exc
    except OSError as exc:
        raise _unfetched(f"timm's {name}") from exc
    return module


def foreign_code(source: str) -> str | None:
    """Return what of another package `model.source` would run, None for our own."""
    for point in metadata.entry_points(group=GROUP):
        if point.name == source and not _is_ours(point):
            return point.value
    return None


def _is_ours(point: metadata.EntryPoint) -> bool:
    return point.value.startswith("pipeline.models.")


def _registered(name: str, *, plugins: bool) -> Architecture:
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        raise ModelError(
            _unknown("architecture", name, [*points, "torchvision:NAME", "timm:NAME"])
        )
    point = points[name]
    if not _is_ours(point) and not plugins:
        raise ModelRefusedError(
            f"The architecture '{name}' runs code of another package ({point.value}); "
            "an administrator must allow that with AFFIDAVIT_PLUGINS=1.",
            code=Refusal.CODE_NOT_ALLOWED,
        )
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as exc:
        raise ModelError(f"The architecture '{name}' cannot be imported.") from exc
    if isinstance(loaded, Architecture):
        return loaded
    return Architecture(build=loaded)


def _built(architecture: Architecture, spec: ModelSpec) -> nn.Module:
    try:
        arguments = checked_arguments(spec.source, spec.arguments, None)
        module = architecture.build(**arguments)
    except TypeError as exc:
        raise _unbuildable(
            spec.source, _named(architecture, spec.arguments, exc)
        ) from exc
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{spec.source} built a {type(module).__name__}, expected a "
            "torch.nn.Module."
        )
    return module


def _named(
    architecture: Architecture, given: Iterable[str], error: TypeError
) -> TypeError:
    """Return the error in the spec's words, where it is about the arguments' names."""
    known = inspect.signature(architecture.build).parameters
    unknown = sorted(set(given) - set(known))
    missing = [
        name
        for name, one in known.items()
        if one.default is one.empty
        and one.kind is one.KEYWORD_ONLY
        and name not in set(given)
    ]
    taken = f"it takes {', '.join(known) or 'none'}"
    if unknown:
        return TypeError(f"there is no '{unknown[0]}'; {taken}")
    if missing:
        return TypeError(f"'{missing[0]}' must be given; {taken}")
    return error


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if near:
        return f"There is no {what} '{name}'; did you mean {', '.join(near)}?"
    return f"There is no {what} '{name}'; known are: {', '.join(choices[:8])} ..."
