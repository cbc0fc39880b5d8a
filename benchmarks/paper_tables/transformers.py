# SPDX-License-Identifier: Apache-2.0
"""The paper's table of vision transformers: time and memory of an explanation.

No weights of these networks come with a package, so they are drawn at random: time and
memory do not depend on the values. Quality would, so none is given here;
`benchmarks/attention.py` has it for a small transformer that is trained on the spot.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from ablation import saved_bytes, textbook
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods import create_method
from explain.thresholds import create_policy
from paper_tables.figures import median_of, shown
from paper_tables.memory import peak_bytes
from paper_tables.results import Results, Row
from paper_tables.rounds import interleaved, ratio
from paper_tables.setting import SIZE

TABLE = "transformers"
#: Seconds and megabytes that the paper gives.
PAPER = {"ViT-B/16": (1.0393, 3.66), "Swin-T": (0.3341, 3.62)}


def measure(results: Results, rounds: int) -> None:
    """Measure one network after the other; each is built only when it is needed."""
    for name, build in NETWORKS.items():
        results.row(TABLE, name, lambda build=build: _row(build(), rounds))


def _row(model: nn.Module, rounds: int) -> Row:
    inputs = torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    layer = resolve_layer(model, example=inputs)
    policy = create_policy("fixed", keep=0.10)
    method = create_method("gradcam", model, layer)

    def cut(maps: Tensor) -> Tensor:
        enlarged = upsample(dequantise(quantise(maps)), SIZE)
        policy.apply(enlarged)
        return enlarged

    def forward() -> None:
        with torch.no_grad():
            model(inputs)

    def ours(given: Tensor = inputs) -> Tensor:
        with frozen(model):
            return cut(method.explain(given, None).maps)

    def whole(given: Tensor = inputs) -> Tensor:
        return cut(textbook(model, layer, given))

    times = interleaved({"forward": forward, "ours": ours, "whole": whole}, rounds)
    return {
        "layer": layer.name,
        "forward_ms": median_of([1e3 * seconds for seconds in times["forward"]]),
        "over_forward": ratio(times["ours"], times["forward"]),
        "whole_over_ours": ratio(times["whole"], times["ours"]),
        "saved_bytes": saved_bytes(model, ours, inputs),
        "saved_bytes_whole": saved_bytes(model, whole, inputs),
        "peak_bytes": peak_bytes(ours),
    }


def _seeded(build: Callable[[], Any]) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = build()
    return model.eval()


def _deit() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("deit_small_patch16_224", pretrained=False)
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ViT-B/16": lambda: _seeded(lambda: torchvision.models.vit_b_16(weights=None)),
    "Swin-T": lambda: _seeded(lambda: torchvision.models.swin_t(weights=None)),
    "DeiT-S/16": lambda: _seeded(_deit),
}


def tables(rows: dict[str, Row]) -> list[list[list[str]]]:
    """Return the networks as a table of text, the header first."""
    mib = 2**20
    table = [
        [
            "network, random weights",
            "explanation / forward",
            "whole differentiation / ours",
            "kept for the backward pass, MiB: ours, whole",
            "peak MiB, ours",
            "paper: s, MB",
        ]
    ]
    for name in NETWORKS:
        if name in rows:
            row, paper = rows[name], PAPER.get(name)
            table.append(
                [
                    name,
                    shown(row["over_forward"], 2),
                    shown(row["whole_over_ours"], 2),
                    (
                        f"{row['saved_bytes'] / mib:.1f},"
                        f" {row['saved_bytes_whole'] / mib:.0f}"
                    ),
                    f"{row['peak_bytes'] / mib:.0f}",
                    ", ".join(f"{value:g}" for value in paper) if paper else "",
                ]
            )
    return [table]
