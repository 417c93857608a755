"""A WordPiece vocabulary as the files of a Hugging Face tokenizer, for open_clip.

open_clip builds the tokenizer of a local folder from the files in it. Ours gives `[CLS]`, the
pieces and padding. BERT's own tokenizer appends `[SEP]`, which open_clip blanks afterwards, so
that captions of 31 pieces and more would lose a piece at the pooled position. It also lowercases
where tensorflow_text folds case and compatibility forms, which is imitated character by character.
"""

import clipa_jax.preprocess  # noqa: F401 (first, since it keeps TensorFlow quiet)

# isort: split
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from clipa_jax.preprocess.vocab import BUNDLED, SPECIAL, Vocabulary
from clipa_jax.runtime import files
from clipa_jax.weights.open_clip_folder import TOKENIZER, VOCABULARY

CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "split_special_tokens": True,  # "[SEP]" in a caption is text
    "model_max_length": 1_000_000,
}
# All that are or may be assigned, without surrogates and those for private use.
_CODES = (*range(0xD800), *range(0xF900, 0x33480), *range(0xE0000, 0xE0200))
_CHARACTERS = [chr(code) for code in _CODES]
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def name(vocabulary: Vocabulary) -> str:
    """The name of the tokenizer in open_clip's config; "" for CLIP's own, which needs none."""
    if vocabulary.end_id is not None:
        return ""
    return vocabulary.name if vocabulary.name in BUNDLED else Path(vocabulary.name).name


def write(vocabulary: Vocabulary, path: Path) -> bool:
    """Write the tokenizer of a vocabulary into an existing folder.

    For SentencePiece models nothing is written, and False returned: open_clip then reports that
    the folder has no tokenizer instead of using its own. CLIP's vocabulary is that of its own.
    """
    if vocabulary.end_id is not None:
        return True
    if not vocabulary.wordpieces:
        return False
    _tokenizer(vocabulary).save(str(path / TOKENIZER))
    files.write_json(path / "tokenizer_config.json", CONFIG)
    files.write_text(path / VOCABULARY, "".join(f"{piece}\n" for piece in vocabulary.wordpieces))
    return True


def _tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Ours counts at most 100 bytes of a word, theirs characters; so theirs works on bytes."""
    pieces = [_as_bytes(piece) for piece in vocabulary.wordpieces]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = _normalizer(frozenset("".join(vocabulary.wordpieces)))
    blank, alone = _separators()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(blank), "removed"),
            pre_tokenizers.Split(Regex(alone), "isolated"),
            _BYTES,
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", ids["[CLS]"])]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Replace(" ", _as_bytes(" ")),
            decoders.ByteLevel(),
        ]
    )
    return tokenizer


def _as_bytes(piece: str) -> str:
    """A piece in the alphabet of byte-level tokenizers, in which ASCII stays as it is."""
    ((text, _),) = _BYTES.pre_tokenize_str(piece)
    return text


@functools.cache
def _normalized() -> dict[str, str]:
    """Each character, as tensorflow_text normalizes it for BERT: NFKC case folding, then NFD
    without accents."""
    normalizer = tensorflow_text.FastBertNormalizer(lower_case_nfd_strip_accents=True)
    texts = normalizer.normalize(tf.constant([char.encode() for char in _CHARACTERS])).numpy()
    return dict(zip(_CHARACTERS, (text.decode() for text in texts), strict=True))


@functools.cache
def _folding() -> tuple[list[normalizers.Normalizer], dict[str, str]]:
    """Normalizers that come near to ours, and what is left to replace after them."""
    ours = _normalized()
    steps = [
        normalizers.Replace(Regex(_class(c for c in ours if ours[c] == " " != c)), " "),
        normalizers.Replace(Regex(_class(c for c in ours if not ours[c])), ""),
        normalizers.NFKD(),
        normalizers.Lowercase(),
        normalizers.NFKD(),
    ]
    near = normalizers.Sequence(steps)
    kept = (
        char for char, text in ours.items() if char != text and near.normalize_str(char) == char
    )
    return steps, {char: ours[char] for char in kept}


def _normalizer(alphabet: frozenset[str]) -> normalizers.Normalizer:
    """Ours, for a vocabulary of these characters: words with any other are unknown."""
    steps, rest = _folding()
    used = {char: text for char, text in rest.items() if alphabet & {char, *text}}
    folds = [normalizers.Replace(char, text) for char, text in used.items()]
    return normalizers.Sequence([*steps, *folds, steps[1]])


@functools.cache
def _separators() -> tuple[str, str]:
    """Classes of the characters that part words, and of those that are words of their own."""
    pieces = [*SPECIAL, "a", "b", "##b"]
    split = tensorflow_text.FastBertTokenizer(
        pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
    first, last, unknown = (pieces.index(piece) for piece in ("a", "b", "[UNK]"))
    kept = [char for char, text in _normalized().items() if char == text and char not in "ab"]
    rows = split.tokenize(tf.constant([f"a{char}b" for char in kept])).to_list()
    blank = _class(c for c, row in zip(kept, rows, strict=True) if row == [first, last])
    alone = _class(c for c, row in zip(kept, rows, strict=True) if row == [first, unknown, last])
    return blank, alone


def _class(chars: Iterable[str]) -> str:
    """A regular expression for one of some characters."""
    spans: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return "[" + "".join(rf"\x{{{begin:x}}}-\x{{{end:x}}}" for begin, end in spans) + "]"
