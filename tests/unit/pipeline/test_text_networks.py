# SPDX-License-Identifier: Apache-2.0
"""Networks of texts: built from what lies in a folder, as data, never fetched."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ModelError, ModelRefusedError, Refusal
from pipeline.models.minilm import MiniLm, from_bert
from pipeline.models.transformers_folder import (
    CLASSIFIERS,
    build,
    class_names,
    files_of,
    read_config,
    without_counted_out,
)
from tests.support.texts import classifier


def written(folder: Path, **settings: Any) -> Path:
    """Return the path of a configuration with these settings."""
    path = folder / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", sorted(CLASSIFIERS))
def test_a_folder_of_transformers_makes_the_network_that_was_saved(
    tmp_path: Path, family: str
) -> None:
    """Configuration and weights as the package saves them give the same logits."""
    model = classifier(family)
    model.save_pretrained(tmp_path)
    files = files_of(tmp_path)
    built = build(files.config)
    from safetensors.torch import load_file

    state = without_counted_out(load_file(files.weights))
    missing, unexpected = built.load_state_dict(state, strict=False)
    assert not missing
    assert not unexpected
    tokens = torch.tensor([[2, 9, 11, 3]])
    with torch.no_grad():
        assert torch.equal(built.eval()(tokens).logits, model(tokens).logits)
    assert built.config._attn_implementation == "sdpa"


def test_buffers_that_older_versions_stored_are_left_out(tmp_path: Path) -> None:
    """Counted positions are no weights; everything else stays."""
    state = {
        "bert.embeddings.position_ids": torch.arange(4)[None],
        "bert.embeddings.position_embeddings.weight": torch.zeros(4, 2),
    }
    save_file(state, tmp_path / "old.safetensors")
    assert list(without_counted_out(state)) == list(state)[1:]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"model_type": "gpt2"}', "known are bert, roberta, distilbert"),
        (b"{}", "model_type None"),
        (b'{"model_type": "bert", "hidden_size": "wide"}', "makes no network"),
        (b'{"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}',
         "makes no network"),
        (b'{"model_type": "distilbert", "id2label": {"0": "score"}, "n_layers": 1}',
         "two classes at least"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_classifier_is_told(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """Damage, other networks and impossible sizes are one sentence each."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        build(path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_configuration_is_told(tmp_path: Path) -> None:
    """The message says what the folder must have."""
    with pytest.raises(ModelError, match=r"a folder with a config\.json"):
        build(files_of(tmp_path).config)


def test_code_of_a_folder_never_runs(tmp_path: Path) -> None:
    """A configuration that names code of its own is refused, and the code untouched."""
    (tmp_path / "odd.py").write_text("raise SystemExit('it ran')")
    path = written(tmp_path, model_type="bert", auto_map={"AutoModel": "odd.Model"})
    with pytest.raises(ModelRefusedError, match="auto_map") as caught:
        build(path)
    assert caught.value.code is Refusal.CODE_NOT_ALLOWED


def test_without_the_package_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra is named with what installs it."""
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'affidavit\[text\]'"):
        build(written(tmp_path, model_type="bert"))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"1": "good", "0": "bad"}, ["bad", "good"]),
        ({str(n): f"c{n}" for n in range(12)}, [f"c{n}" for n in range(12)]),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        ({"first": "good"}, None),
        (None, None),
    ],
)
def test_classes_are_those_that_the_configuration_names(
    tmp_path: Path, labels: dict[str, str] | None, names: list[str] | None
) -> None:
    """Names come in the order of their numbers; mere counting is no naming."""
    path = written(tmp_path, model_type="bert", id2label=labels)
    assert class_names(read_config(path)) == names


def test_minilm_computes_what_berts_blocks_compute() -> None:
    """With BERT's weights its states are BERT's, so its mean is over the same."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=40,
            max_position_embeddings=20,
        ),
        add_pooling_layer=False,
    ).eval()
    own = MiniLm(
        2, vocabulary=50, positions=20, hidden=24, layers=2, heads=3, inner=40
    ).eval()
    own.load_state_dict(from_bert(bert.state_dict()) | head_of(own))
    tokens = torch.tensor([[1, 7, 8, 9, 0], [1, 4, 5, 6, 7]])
    seen = torch.tensor([[1, 1, 1, 1, 0], [1] * 5])
    mask = seen[:, None, None].bool().expand(-1, -1, 5, -1)
    with torch.no_grad():
        states = bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        weights = seen[:, :, None].float()
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
        assert torch.allclose(own.embedded(tokens, mask), mean, atol=1e-5)


def head_of(model: MiniLm) -> dict[str, torch.Tensor]:
    """Return the head's own tensors."""
    state = model.state_dict()
    return {name: state[name] for name in ("head.weight", "head.bias")}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"hidden": 10, "heads": 3}, "multiple of heads"), ({"layers": 0}, "at least 1")],
)
def test_impossible_sizes_of_minilm_are_told(sizes: dict[str, int], said: str) -> None:
    """A size that cannot be is an error in words."""
    with pytest.raises(ValueError, match=said):
        MiniLm(2, **sizes)
