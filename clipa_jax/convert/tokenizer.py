"""A WordPiece vocabulary as the files of a Hugging Face tokenizer, for open_clip.

open_clip makes the tokenizer of a local folder from the files in it. Ours gives `[CLS]`, the
pieces and padding. BERT's own files would spend a place on `[SEP]`, which open_clip then blanks,
so that captions of 31 pieces and more would lose one at the pooled position.
"""

import json
from pathlib import Path
from typing import Any

from clipa_jax.preprocess.vocab import HUB, Vocabulary
from clipa_jax.weights.open_clip_folder import VOCABULARY


def name(vocabulary: Vocabulary) -> str:
    """What open_clip's config calls the tokenizer."""
    return vocabulary.name if vocabulary.name in HUB else Path(vocabulary.name).name


def write(vocabulary: Vocabulary, path: Path) -> bool:
    """Writes the tokenizer of a vocabulary into an existing folder.

    Nothing is written for SentencePiece models, and False returned: open_clip then says that
    the folder has no tokenizer, rather than use its own.
    """
    if not vocabulary.wordpieces:
        return False
    _write_json(path / "tokenizer.json", _tokenizer(vocabulary.wordpieces))
    _write_json(path / "tokenizer_config.json", _config())
    lines = "".join(f"{piece}\n" for piece in vocabulary.wordpieces)
    (path / VOCABULARY).write_text(lines, encoding="utf-8", newline="\n")
    return True


def _tokenizer(pieces: tuple[str, ...]) -> dict[str, Any]:
    row = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    ids = {piece: index for index, piece in enumerate(pieces)}
    first = {"id": "[CLS]", "ids": [ids["[CLS]"]], "tokens": ["[CLS]"]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": True,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": row,
            "pair": row,
            "special_tokens": {"[CLS]": first},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        # A caption that says "[SEP]" is about brackets.
        "split_special_tokens": True,
        "model_max_length": 1_000_000,
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
