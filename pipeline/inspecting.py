# SPDX-License-Identifier: Apache-2.0
"""Looking at a network alone, without an audit: what would be explained, and why."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explain.architectures.dispatch import Decision, decide
from explain.architectures.family import require_image_classifier
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.methods import METHODS, create_method, resolve_tap
from explain.self_test import Check, first_checks, second_checks
from pipeline.errors import ModelError, SpecError
from pipeline.kind_inspecting import KindInspection, inspected_kind
from pipeline.models.folder_files import with_folder_files
from pipeline.models.loading import load_model, shown_model
from pipeline.services import Services
from pipeline.spec import ModelSpec
from pipeline.trust import trust_recorded

#: Sides in pixels that are tried where none is given, the most usual first.
_USUAL_SIZES = (224, 256, 384, 299, 240, 518, 336, 448, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        source: The network's name.
        weights: SHA-256 of its weights, None where they are seeded numbers.
        decision: What was decided of it.
        checks: The self-test of the default method.
    """

    source: str
    weights: str | None
    decision: Decision
    checks: tuple[Check, ...]

    @property
    def sound(self) -> bool:
        """Whether every check was passed."""
        return all(check.passed for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return the inspection as JSON values."""
        decision = self.decision
        attention = decision.attention
        shape = decision.layer.shape
        return {
            "model": self.source,
            "weights": self.weights,
            "family": decision.family.value,
            "input": list(decision.input_shape),
            "classes": decision.classes,
            "layer": decision.layer.name,
            "layout": decision.layout,
            "map": None if shape is None else list(shape[2:]),
            "attention": None
            if attention is None
            else {
                "blocks": list(attention.modules),
                "computed": attention.total,
                "prefix_tokens": attention.tokens.prefix,
                "grid": [attention.tokens.height, attention.tokens.width],
                "read_tokens": len(attention.readers),
            },
            "method": decision.method,
            "baseline": decision.baseline,
            "reasons": list(decision.reasons),
            "warnings": list(decision.warnings),
            "self_test": {
                "passed": self.sound,
                "checks": [
                    asdict(check) | {"said": None if check.passed else check.said}
                    for check in self.checks
                ],
            },
        }


def inspect_model(
    services: Services,
    source: str,
    *,
    weights: str | None,
    size: tuple[int, int] | None,
) -> Inspection | KindInspection:
    """Return what is found of the network.

    Args:
        services: Settings: allowed folders, and whether other packages' code may run.
        source: As `model.source` of a spec.
        weights: Path of a weights file; None looks at the structure alone.
        size: Height and width of its inputs; None tries the usual ones.

    Raises:
        SpecError: the name or the path is none.
        ModelError: the network cannot be loaded.
        ExplainError: it is a network of no kind that is known, or cannot be
            explained.
    """
    try:
        spec = ModelSpec(source=source, weights=weights)
    except ValueError as exc:
        raise SpecError(
            f"'{source}' names no network; expected torchvision:NAME, timm:NAME, "
            "transformers:FOLDER or a registered architecture."
        ) from exc
    plugins = services.settings.plugins
    here = Path.cwd()
    roots = services.roots(here)
    spec = with_folder_files(spec, base=here, roots=roots)
    with trust_recorded(services, source):
        if spec.weights is None:
            loaded = shown_model(spec, plugins=plugins)
        else:
            path = roots.resolve(spec.weights, base=here)
            loaded = load_model(spec, weights=path, plugins=plugins)
    module = loaded.module
    found = inspected_kind(module, source, loaded.sha256 or None)
    if found is not None:
        return found
    require_image_classifier(module)
    module.eval()
    example = _example(module, size)
    decision = decide(module, example)
    return Inspection(
        source=source,
        weights=loaded.sha256 or None,
        decision=decision,
        checks=tuple(_self_test(module, decision)),
    )


def _example(module: nn.Module, size: tuple[int, int] | None) -> torch.Tensor:
    """Return a grey image that the network takes.

    Raises:
        ModelError: it takes none of the sizes.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    sizes = [size] if size is not None else [(side, side) for side in _USUAL_SIZES]
    failure: Exception | None = None
    for height, width in sizes:
        example = torch.zeros(1, channels, height, width)
        try:
            with frozen(module), torch.no_grad():
                module(example)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as exc:
            failure = failure or exc
            continue
        return example
    tried = ", ".join(f"{height}x{width}" for height, width in sizes)
    raise ModelError(
        f"The network takes no image of {tried} pixels with {channels} channels; name "
        "the size with --size HEIGHTxWIDTH."
    ) from failure


def _self_test(module: nn.Module, decision: Decision) -> list[Check]:
    """Return the checks of the default method on two noise images."""
    name = decision.method
    shape = (2, *decision.input_shape)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    layer = resolve_tap(name, module, decision.layer.name, noise[:1])
    method = create_method(name, module, layer)
    context = ItemContext(draws=ItemDraws.counted(2), images=noise)
    with frozen(module):
        found = method.explain(noise, None, context)
        expected = decision.layer.shape
        grid = None if expected is None else (expected[2], expected[3])
        checks = first_checks(found, METHODS[name], grid, decision.layer.name)
        if all(check.passed for check in checks):
            checks += second_checks(method, found, METHODS[name], noise, context)
    return checks
