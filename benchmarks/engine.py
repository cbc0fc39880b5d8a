# SPDX-License-Identifier: Apache-2.0
"""What an explanation costs beside a plain forward pass, and beside other libraries.

Every row of one cell (network x batch size) is timed in the same process, in
rounds: each round runs every row once, in an order that rotates, and ratios are
taken within a round before their median is, so that a busy machine disturbs all
rows alike. "x forward" is such a ratio; "fastest" is the best round's ms/image,
for judging how disturbed the medians are: a load average above the number of
threads means that other work ran beside it.

The product of our row and of both captum rows is the same: a Grad-CAM map of
each image, upsampled to the input's size, its top-10 % mask, and the native map
as float16 on the CPU. captum gives the map only, so its rows are completed with
torch's own bilinear upsampling and with our mask and float16 write. The
pytorch-grad-cam rows are as that library gives them: upsampled maps, no mask, no
float16, which is less than the others do.

Memory is counted, not sampled: the bytes that autograd keeps for the backward pass of
one image, parameters left out, which is the same in every run.

Usage: python benchmarks/engine.py [--quick] [--json FILE] [--networks NAME ...]
       [--device cuda] [--dtype bfloat16]
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import resolve_layer
from explain.architectures.layouts import ChannelsFirst
from explain.errors import UnsupportedModelError
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods.registry import create_method, resolve_tap
from explain.thresholds.fixed import FixedKeep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM

SIZE = (224, 224)
NETWORKS = ("resnet50", "efficientnet_b0", "mobilenet_v3_large", "vit_b_16", "swin_t")
POLICY = FixedKeep(0.10)

#: Most MiB an image that autograd may keep.
SAVED_MIB = {"resnet50": 2.1, "vit_b_16": 14.0}

#: Most time over the forward's at batch 16 and 1 where it differs from the usual.
MOST_OVER_FORWARD = {"vit_b_16": (1.18, 1.18), "swin_t": (1.15, 1.15)}
#: Least factor over pytorch-grad-cam in batches where it differs from the usual.
LEAST_OVER_PEER = {"vit_b_16": 3.0}

FORWARD = "forward only"
OURS = "affidavit Grad-CAM"
ATTENTION = {
    "generic_attention": "affidavit generic attention",
    "attention_rollout": "affidavit attention rollout",
    "legrad": "affidavit LeGrad",
}
GENERIC = ATTENTION["generic_attention"]
PEER = "pytorch-grad-cam, batched"
PEER_SINGLE = "pytorch-grad-cam, one by one"
CAPTUM = "captum, own forward for the class"
CAPTUM_FROZEN = "captum, frozen, targets given"

PEERS = (PEER, PEER_SINGLE)

#: Seconds of each round, by row.
Times = dict[str, list[float]]
Resize = Callable[[Tensor, tuple[int, int]], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured row: its median, and its time over the forward's."""

    network: str
    batch: int
    name: str
    images_per_s: float
    ms_per_image: float
    fastest_ms_per_image: float
    over_forward: float


@dataclass(frozen=True, slots=True)
class Target:
    """A promised ratio and whether it is kept in one cell."""

    network: str
    batch: int
    promise: str
    measured: float
    kept: bool


def main() -> int:
    """Print the table and the verdicts; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, small cells")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    parser.add_argument("--rounds", type=int, help="rounds a cell")
    parser.add_argument(
        "--networks", nargs="+", default=NETWORKS, help="torchvision classifiers"
    )
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="processor seconds instead of wall-clock, for a busy machine",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = Where(torch.device(options.device), getattr(torch, options.dtype))
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows: list[Row] = []
    targets: list[Target] = []
    print(
        f"torch {torch.__version__}, {platform.machine()}, {options.threads}"
        f" threads, {where.name()}, 224 x 224, random weights; medians of"
        f" interleaved rounds of"
        f" {'processor' if options.cpu_time else 'wall-clock'} time"
    )
    for network in options.networks:
        for batch in (1, 4 if options.quick else 16):
            rounds = options.rounds or _rounds(batch, quick=options.quick)
            times = measure(network, batch, rounds, clock, where)
            rows += _report(network, batch, times)
            targets += _verdicts(network, batch, times)
        memory = saved_bytes(network, where) / 2**20
        print(f"\n{network}: autograd keeps {memory:.2f} MiB an image")
        if network in SAVED_MIB:
            limit = SAVED_MIB[network]
            promise = f"MiB kept for the backward pass <= {limit}"
            targets.append(Target(network, 1, promise, memory, memory <= limit))
    print("\ntargets")
    for target in targets:
        verdict = "kept  " if target.kept else "MISSED"
        cell = f"{target.network}, batch {target.batch}"
        print(f"  {verdict} {cell:30s} {target.promise}: {target.measured:.2f}")
    if options.json:
        document = {
            "rows": [asdict(row) for row in rows],
            "targets": [asdict(target) for target in targets],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


@dataclass(frozen=True, slots=True)
class Where:
    """The device and the type that everything is measured in."""

    device: torch.device
    dtype: torch.dtype

    def name(self) -> str:
        """Return the device in words."""
        card = "CPU"
        if self.device.type == "cuda":
            card = torch.cuda.get_device_name(self.device)
        return f"{card}, {str(self.dtype).removeprefix('torch.')}"

    def build(self, network: str) -> nn.Module:
        """Return the network with seeded weights."""
        torch.manual_seed(0)
        model = torchvision.models.get_model(network, weights=None).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.02)  # a ViT's head is built with zeros
        return model.to(self.device, self.dtype)

    def wait(self) -> None:
        """Return when the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def saved_bytes(network: str, where: Where) -> int:
    """Return the bytes that autograd keeps for one image, parameters left out."""
    model = where.build(network)
    inputs = torch.randn(1, 3, *SIZE).to(where.device, where.dtype)
    method = create_method("gradcam", model, resolve_layer(model, example=inputs))
    own = {each.untyped_storage().data_ptr() for each in model.state_dict().values()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        method.explain(inputs, None)
    return sum(kept.values())


def measure(
    network: str, batch: int, rounds: int, clock: Callable[[], float], where: Where
) -> Times:
    """Return the seconds of each row in each round."""
    model = where.build(network)
    inputs = torch.randn(batch, 3, *SIZE).to(where.device, where.dtype)
    with ExitStack() as held:
        rows = _rows(model, inputs, held)
        if where.dtype != torch.float32:  # the peer's NumPy has no such type
            rows = {name: row for name, row in rows.items() if name not in PEERS}
        names = list(rows)
        for name in names:
            rows[name]()
        times: Times = {name: [] for name in names}
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                where.wait()
                start = clock()
                rows[name]()
                where.wait()
                times[name].append(clock() - start)
    return times


def _rows(
    model: nn.Module, inputs: Tensor, held: ExitStack
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name, each as a bulk user would call it.

    Every row has a copy of the network to itself, so that hooks, gradients and
    caches of one do not reach another. What a user does once a run is done here:
    our row and captum's frozen row have their parameters frozen already.
    """
    rows = {
        FORWARD: _forward(deepcopy(model), inputs),
        OURS: _ours(deepcopy(model), inputs, held),
        CAPTUM_FROZEN: _captum_frozen(deepcopy(model), inputs),
        CAPTUM: _captum(deepcopy(model), inputs),
        PEER: _peer(deepcopy(model), inputs, len(inputs)),
    }
    for name, row in ATTENTION.items():
        found = _attention(name, deepcopy(model), inputs, held)
        if found is not None:
            rows[row] = found
    if len(inputs) > 1:
        rows[PEER_SINGLE] = _peer(deepcopy(model), inputs, 1)
    return rows


def _forward(model: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """Return the plain prediction that everything is compared with."""

    def run() -> object:
        with torch.inference_mode():
            return model(inputs)

    return run


def _ours(model: nn.Module, inputs: Tensor, held: ExitStack) -> Callable[[], object]:
    """Return our engine as the pipeline uses it: stored map, then mask of it."""
    method = create_method("gradcam", model, resolve_layer(model, example=inputs))
    held.enter_context(frozen(model))

    def run() -> object:
        return _finish(method.explain(inputs, None).maps, upsample)

    return run


def _attention(
    name: str, model: nn.Module, inputs: Tensor, held: ExitStack
) -> Callable[[], object] | None:
    """Return a method of attention weights as the pipeline uses it, if defined."""
    try:
        tap = resolve_tap(name, model, example=inputs)
    except UnsupportedModelError:
        return None
    method = create_method(name, model, tap)
    held.enter_context(frozen(model))

    def run() -> object:
        return _finish(method.explain(inputs, None).maps, upsample)

    return run


def _captum(model: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """Return captum as documented: its user first finds the predicted class."""
    layer = resolve_layer(model, example=inputs)
    cam = LayerGradCam(model, layer.module)
    size = (layer.shape or (1, 1, 7, 7))[2:]

    def run() -> object:
        with torch.no_grad():
            classes = model(inputs).argmax(dim=1)
        maps = cam.attribute(inputs, target=classes, relu_attributions=True)
        return _finish(_as_maps(maps, size), _interpolate)

    return run


def _captum_frozen(model: nn.Module, inputs: Tensor) -> Callable[[], object]:
    """Return captum at its best: parameters frozen, classes known beforehand."""
    layer = resolve_layer(model, example=inputs)
    cam = LayerGradCam(model, layer.module)
    size = (layer.shape or (1, 1, 7, 7))[2:]
    model.requires_grad_(False)
    with torch.no_grad():
        classes = model(inputs).argmax(dim=1)

    def run() -> object:
        maps = cam.attribute(inputs, target=classes, relu_attributions=True)
        return _finish(_as_maps(maps, size), _interpolate)

    return run


def _as_maps(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return captum's output as maps of the layer's grid.

    In transformers captum takes tokens or rows for channels; its numbers mean nothing
    there, and only its time is used.
    """
    flat = maps.detach().flatten(1)
    places = size[0] * size[1]
    padded = nn.functional.pad(flat, (0, max(0, places - flat.shape[1])))
    return padded[:, :places].view(-1, *size)


def _peer(model: nn.Module, inputs: Tensor, size: int) -> Callable[[], object]:
    """Return pytorch-grad-cam on batches of the size; it upsamples itself."""
    layer = resolve_layer(model, example=inputs)
    plain = isinstance(layer.layout, ChannelsFirst)
    cam = GradCAM(
        model=model,
        target_layers=[layer.module],
        reshape_transform=None if plain else layer.layout.to_map,
    )

    def run() -> object:
        return [
            cam(input_tensor=part, targets=None) for part in torch.split(inputs, size)
        ]

    return run


def _finish(
    maps: Tensor, resize: Callable[[Tensor, tuple[int, int]], Tensor]
) -> object:
    """Return what is stored, on the CPU, and the mask made from what is stored."""
    stored = quantise(maps)
    result = POLICY.apply(resize(dequantise(stored), SIZE))
    return stored.values.cpu(), stored.scale.cpu(), result.mask.cpu()


def _interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return torch's own bilinear upsampling."""
    resized = interpolate(maps[:, None], size=size, mode="bilinear")
    return resized[:, 0].contiguous()


def _rounds(batch: int, *, quick: bool) -> int:
    """Return how many rounds a cell gets: small batches are short and noisy."""
    if quick:
        return 3
    return 25 if batch == 1 else 7


def _ratio(times: Times, numerator: str, denominator: str) -> float:
    """Return the median over rounds of one row's time over another's."""
    pairs = zip(times[numerator], times[denominator], strict=True)
    return statistics.median(above / below for above, below in pairs)


def _report(network: str, batch: int, times: Times) -> list[Row]:
    """Print one cell's table and return its rows."""
    load = os.getloadavg()[0]
    rounds = len(times[FORWARD])
    print(f"\n{network}, batch {batch}, {rounds} rounds, load average {load:.1f}")
    print(
        f"  {'':36s} {'images/s':>9s} {'ms/image':>9s} {'x forward':>9s}"
        f" {'fastest':>9s}"
    )
    rows = []
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        row = Row(
            network=network,
            batch=batch,
            name=name,
            images_per_s=batch / middle,
            ms_per_image=1e3 * middle / batch,
            fastest_ms_per_image=1e3 * min(seconds) / batch,
            over_forward=_ratio(times, name, FORWARD),
        )
        print(
            f"  {name:36s} {row.images_per_s:9.1f} {row.ms_per_image:9.2f}"
            f" {row.over_forward:9.2f} {row.fastest_ms_per_image:9.2f}"
        )
        rows.append(row)
    return rows


def _verdicts(network: str, batch: int, times: Times) -> list[Target]:
    """Return what was promised of this cell and what came out."""
    many, one = MOST_OVER_FORWARD.get(network, (1.10, 1.15))
    most = many if batch > 1 else one
    promises = [(f"time over forward <= {most:.2f}", OURS, FORWARD, most, "at most")]
    if network not in MOST_OVER_FORWARD:  # captum is defined for convolutions alone
        text = "time over captum, frozen <= 1.03"
        promises.append((text, OURS, CAPTUM_FROZEN, 1.03, "at most"))
    if GENERIC in times and batch > 1:
        text = "generic attention over forward <= 2.5"
        promises.append((text, GENERIC, FORWARD, 2.5, "at most"))
    if PEER in times:
        least = LEAST_OVER_PEER.get(network, 2.8)
        text = f"times faster than pytorch-grad-cam >= {least}"
        promises.append((text, PEER, OURS, least, "at least"))
    if PEER_SINGLE in times:
        text = "times faster than pytorch-grad-cam one by one >= 3.5"
        promises.append((text, PEER_SINGLE, OURS, 3.5, "at least"))
    targets = []
    for promise, numerator, denominator, limit, side in promises:
        measured = _ratio(times, numerator, denominator)
        kept = measured <= limit if side == "at most" else measured >= limit
        targets.append(Target(network, batch, promise, measured, kept))
    return targets


if __name__ == "__main__":
    raise SystemExit(main())
