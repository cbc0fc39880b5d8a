# SPDX-License-Identifier: Apache-2.0
"""From a stored run to an executor: its weights checked, its network as planned."""

from pathlib import Path

import torch
from torch import nn

from explain.kinds import IMAGE
from pipeline.any_executor import AnyExecutor
from pipeline.engine import Engine
from pipeline.errors import ModelError
from pipeline.executor import Executor
from pipeline.kinds.kind import open_kind
from pipeline.models.loading import load_model
from pipeline.networks import Network, NetworkCache, NetworkKey
from pipeline.paths import AllowedRoots
from pipeline.precision import require_precision
from pipeline.run_plan import RunPlan
from pipeline.spec import HUB, AuditSpec
from pipeline.unit_executor import UnitExecutor
from pipeline.unit_planning import file_digests


def weights_path(spec: AuditSpec, roots: AllowedRoots) -> Path | None:
    """Return where the weights of a resolved spec lie, None where it names no file."""
    weights = spec.model.weights
    if weights is None or weights == HUB:
        return None
    return roots.resolve(weights, base=Path("/"))  # it is absolute by now


def build_executor(
    spec: AuditSpec,
    plan: RunPlan,
    *,
    device: torch.device,
    model_sha256: str,
    plugins: bool,
    roots: AllowedRoots,
    cache: NetworkCache | None = None,
) -> AnyExecutor:
    """Return an executor for a stored run, its weights checked against the run's.

    Args:
        spec: The run's spec.
        plan: Its plan.
        device: Where it is to work.
        model_sha256: Digest of the weights that it was planned with.
        plugins: Whether architectures of other packages may run their code.
        roots: The folders that this process may read.
        cache: Networks that are loaded already.

    Raises:
        ModelError: the weights are not those that the run was planned with.
        PathEscapeError: they lie outside the roots.
        PrecisionError: on this machine the network in the planned type, or compiled,
            explains otherwise than in float32.
    """
    weights = weights_path(spec, roots)

    if plan.kind != IMAGE:
        return _unit_executor(
            spec,
            plan,
            device=device,
            model_sha256=model_sha256,
            plugins=plugins,
            weights=weights,
            cache=cache,
        )

    def load() -> Network:
        module = _loaded(spec, weights, model_sha256, plugins=plugins).to(device)
        if plan.is_plain:
            return Network(module=module)
        engine = Engine(plan, module, device)
        require_precision(plan, engine, module, device)
        return Network(module=module, layer=engine.layer)

    if cache is None:
        network = load()
        return Executor(plan, network.module, device, layer=network.layer)
    key = NetworkKey(
        sha256=model_sha256,
        source=spec.model.source,
        arguments=tuple(sorted(spec.model.arguments.items())),
        device=str(device),
        dtype=plan.dtype,
        compiled_for=plan.layer if plan.compiled else None,
        batch_size=0 if plan.is_plain else plan.batch_size,
    )
    network = cache.get(key, load)
    return Executor(plan, network.module, device, layer=network.layer)


def _loaded(
    spec: AuditSpec, weights: Path | None, sha256: str, *, plugins: bool
) -> nn.Module:
    """Return the network, its weights checked against the run's.

    Raises:
        ModelError: they are others.
    """
    model = load_model(spec.model, weights=weights, plugins=plugins)
    if model.sha256 != sha256:
        raise ModelError(
            f"The weights have SHA-256 {model.sha256}, but the run was planned "
            f"with {sha256}; the file was changed since."
        )
    return model.module


def _unit_executor(
    spec: AuditSpec,
    plan: RunPlan,
    *,
    device: torch.device,
    model_sha256: str,
    plugins: bool,
    weights: Path | None,
    cache: NetworkCache | None,
) -> UnitExecutor:
    """Return the executor of a run whose items are no images."""
    for name, digest in file_digests(spec).items():
        if plan.files.get(name) != digest:
            raise ModelError(
                f"The file of model.{name} has SHA-256 {digest}, but the run was"
                f" planned with {plan.files.get(name)}; it was changed since."
            )

    def load() -> Network:
        module = _loaded(spec, weights, model_sha256, plugins=plugins)
        return Network(module=module.to(device))

    if cache is None:
        network = load()
    else:
        key = NetworkKey(
            sha256=model_sha256,
            source=spec.model.source,
            # Equal weights under another configuration are another network.
            arguments=tuple(
                sorted({**spec.model.arguments, "files": str(plan.files)}.items())
            ),
            device=str(device),
        )
        network = cache.get(key, load)
    return UnitExecutor(plan, network.module, device, open_kind(spec))
