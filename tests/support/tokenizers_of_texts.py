# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of the families, trained in no time or spelled out."""

from pathlib import Path
from typing import Any

WORDS = ["the", "film", "was", "un", "##believ", "##able", "good", "bad", ",", ".", "!"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece() -> Any:
    """Return a tokenizer like BERT's: punctuation apart, pieces marked with ##."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # What a file often says, and an audit must not follow.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=20)
    return tokenizer


def byte_level() -> Any:
    """Return a tokenizer like RoBERTa's: bytes merged into pieces."""
    from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the film was good, the film"] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unsplit() -> Any:
    """Return a tokenizer that splits nothing before it looks for pieces."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    pieces = [("<unk>", -9.0), ("<pad>", -9.0), ("the", -1.0), ("film", -1.0)]
    pieces += [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz "]
    return Tokenizer(Unigram(pieces, unk_id=0))


def saved(tokenizer: Any, folder: Path) -> Path:
    """Return the path of the tokenizer's file."""
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
