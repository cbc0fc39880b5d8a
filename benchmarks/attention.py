# SPDX-License-Identifier: Apache-2.0
"""How attention and thresholds play together in a small trained vision transformer.

A ViT of four blocks is trained on scikit-learn's digits in seconds from a fixed seed.
Three questions are answered on its held-out digits: what a fraction kept holds of each
method's map, and of the prediction when only it is visible; whether few heads and
blocks carry the importance; and how much a mask changes when generic attention is
made of the most important heads alone.

Usage: python benchmarks/attention.py [--items N] [--epochs N] [--json FILE]
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.models import VisionTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explain.architectures import TappedAttention, resolve_attention
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods import create_method, resolve_tap
from explain.methods.attention_forward import as_grid, attention_forward, read_rows
from explain.methods.attention_importance import attention_importance
from explain.methods.generic_attention import relevance
from explain.thresholds.fixed import FixedKeep

METHODS = ("gradcam", "attention_rollout", "generic_attention", "legrad")
FRACTIONS = (0.05, 0.10, 0.20, 0.35, 0.50)
HEADS = (1, 2, 4, 8)
SIDE = 16


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a small network gains nothing from more
    model, pictures, labels = trained(options.epochs)
    pictures, labels = pictures[: options.items], labels[: options.items]
    with torch.no_grad():
        accuracy = float((model(pictures).argmax(dim=1) == labels).float().mean())
    print(f"ViT of 4 blocks x 4 heads on digits, held-out accuracy {accuracy:.3f}")
    document = {
        "accuracy": accuracy,
        "kept": kept_fractions(model, pictures),
        "heads": heads_needed(model, pictures),
        "masks": masks_of_few_heads(model, pictures),
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def trained(epochs: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the trained network and the held-out digits with their labels."""
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    pictures = nn.functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear")
    pictures = pictures.expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    order = torch.randperm(len(labels))
    pictures, labels = pictures[order], labels[order]
    model: nn.Module = VisionTransformer(SIDE, 2, 4, 4, 48, 96, num_classes=10)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    held = len(labels) // 4
    for _ in range(epochs):
        for part in (torch.randperm(len(labels) - held) + held).split(64):
            loss = nn.functional.cross_entropy(model(pictures[part]), labels[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval(), pictures[:held], labels[:held]


def kept_fractions(model: nn.Module, pictures: Tensor) -> list[dict[str, object]]:
    """Return what each fraction keeps of each method's map and of the prediction."""
    print("\nkept of the map's energy / of the probability when only it is visible")
    print(f"  {'':20s}" + "".join(f"{fraction:>14.0%}" for fraction in FRACTIONS))
    with torch.no_grad():
        chances = model(pictures).softmax(dim=1)
    classes = chances.argmax(dim=1)
    before = chances.gather(1, classes[:, None])[:, 0]
    rows: list[dict[str, object]] = []
    for name in METHODS:
        method = create_method(name, model, resolve_tap(name, model, example=pictures))
        maps = upsample(method.explain(pictures, classes).maps, (SIDE, SIDE))
        cells = []
        for fraction in FRACTIONS:
            mask = FixedKeep(fraction).apply(maps).mask
            energy = (maps * mask).sum(dim=(1, 2)) / maps.sum(dim=(1, 2)).clamp(1e-12)
            # Hidden places are black, as a digit's background is.
            seen = torch.where(mask[:, None], pictures, -torch.ones(()))
            with torch.no_grad():
                after = model(seen).softmax(dim=1).gather(1, classes[:, None])[:, 0]
            cells.append((float(energy.mean()), float((after / before).mean())))
            rows.append(
                {"method": name, "kept": fraction, "energy": cells[-1][0]}
                | {"probability": cells[-1][1]}
            )
        print(f"  {name:20s}" + "".join(f"{e:8.2f}/{p:5.2f}" for e, p in cells))
    return rows


def heads_needed(model: nn.Module, pictures: Tensor) -> dict[str, object]:
    """Return how importance is spread over blocks and heads."""
    tap = resolve_attention(model, example=pictures)
    found = attention_importance(model, tap, pictures)
    blocks = found.blocks / found.blocks.sum(dim=1, keepdim=True)
    shares = found.heads.abs().flatten(1)
    shares = shares / shares.sum(dim=1, keepdim=True)
    ordered = shares.sort(dim=1, descending=True).values.cumsum(dim=1)
    half = float((ordered < 0.5).sum(dim=1).float().mean()) + 1
    said = ", ".join(f"{float(share):.2f}" for share in blocks.mean(dim=0))
    print(f"\nimportance by block: {said}; half of it in {half:.1f} of 16 heads")
    return {"blocks": blocks.mean(dim=0).tolist(), "heads_for_half": half}


def masks_of_few_heads(model: nn.Module, pictures: Tensor) -> list[dict[str, object]]:
    """Return how the mask of the most important heads agrees with that of all."""
    tap = resolve_attention(model, example=pictures)
    chosen = attention_importance(model, tap, pictures).heads.abs()
    whole = upsample(of_heads(model, tap, pictures, None), (SIDE, SIDE))
    print("\nIoU of the mask made of the most important heads with that of all 16")
    print(f"  {'':20s}" + "".join(f"{fraction:>10.0%}" for fraction in FRACTIONS))
    rows: list[dict[str, object]] = []
    for count in HEADS:
        least = chosen.flatten(1).topk(count, dim=1).values[:, -1:, None]
        gates = (chosen >= least).float()
        few = upsample(of_heads(model, tap, pictures, gates), (SIDE, SIDE))
        cells = []
        for fraction in FRACTIONS:
            one = FixedKeep(fraction).apply(few).mask
            two = FixedKeep(fraction).apply(whole).mask
            shared = (one & two).sum(dim=(1, 2)) / (one | two).sum(dim=(1, 2)).clamp(1)
            cells.append(float(shared.float().mean()))
            rows.append({"heads": count, "kept": fraction, "iou": cells[-1]})
        print(f"  {f'{count} heads':20s}" + "".join(f"{cell:10.2f}" for cell in cells))
    return rows


def of_heads(
    model: nn.Module, tap: TappedAttention, pictures: Tensor, gates: Tensor | None
) -> Tensor:
    """Return generic attention of some heads only, (N, h, w).

    Shape: gates (N, L, H), 1 for a head that counts; None for all.
    """
    with frozen(model):
        forward = attention_forward(model, tap, pictures, graph=True)
        slopes = forward.slopes(forward.logits.argmax(dim=1))
    start = read_rows(tap, forward.weights(0))
    row = start
    for block in reversed(range(len(slopes))):
        gradient = forward.gradient(block, slopes[block])
        if gates is not None:
            gradient = gradient * gates[:, block, :, None, None]
        row = row + row @ relevance(forward.weights(block), gradient)
    return as_grid(tap, row - start)


if __name__ == "__main__":
    raise SystemExit(main())
