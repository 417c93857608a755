"""Vocabularies: where their files are, what is in them, and how they split text.

A `Vocabulary` is read from a WordPiece file (one piece a line, BERT's special pieces among them),
from a SentencePiece `.model`, from the byte pairs of CLIP's own tokenizer, or from the package, by
name.
"""

import gzip
import itertools
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text as tf_text

from clipa_jax.config import bundled
from clipa_jax.errors import DataError, unknown
from clipa_jax.preprocess import byte_pairs
from clipa_jax.runtime import files, storage

ASSETS = resources.files("clipa_jax.preprocess") / "assets"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLIP = "clip"  # the name of CLIP's own vocabulary
BUNDLED = ("bert-base-uncased", CLIP)
_CONTINUES = "##"  # WordPiece: this piece continues a word
_SPACE = "\u2581"  # SentencePiece: this piece starts a word
_COPY = "vocab"  # in a workdir, with the suffix that tells the kind
_MODEL = ".model"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The V pieces of a vocabulary, and the function that splits text into them."""

    name: str  # as the user gave it
    wordpieces: tuple[str, ...]  # lines of a WordPiece vocabulary; empty for SentencePiece models
    # The text of each piece, lower-cased, without marks; empty for special pieces.
    surfaces: tuple[str, ...]
    starts_word: np.ndarray  # bool (V,): the piece does not continue a word
    pad_id: int  # fills a row up
    unk_id: int  # for text that no piece covers
    cls_id: int  # begins every row
    # string (n,) -> [n, (pieces)] int32 without special pieces, usable inside tf.data
    split: Callable[[tf.Tensor], tf.RaggedTensor]
    end_id: int | None = None  # ends every row, also one that is cut; None for none
    ends_word: np.ndarray | None = None  # bool (V,), where pieces mark the ends of words only

    @property
    def size(self) -> int:
        """Number of pieces V."""
        return len(self.surfaces)

    def same_pieces(self, other: "Vocabulary") -> bool:
        """Whether every token id stands for the same piece in both."""
        same_starts = np.array_equal(self.starts_word, other.starts_word)
        return self.surfaces == other.surfaces and same_starts

    def check_fits(self, rows: int) -> None:
        """Raises `DataError` if a model's table of `rows` rows cannot hold every piece."""
        if self.size > rows:
            raise DataError(
                f"vocabulary {self.name!r} has {self.size} pieces but the model's token table "
                f"has {rows} rows; use the vocabulary that the model was made for, or a larger "
                "table"
            )


def read_vocabulary(vocab: str) -> Vocabulary:
    """The vocabulary in a file, anywhere, or of `BUNDLED`.

    The file is WordPiece's, a SentencePiece `.model`, or has CLIP's byte pairs: open_clip's
    `bpe_simple_vocab_16e6.txt.gz`, or `merges.txt`. One that is missing or no vocabulary raises
    `DataError`.
    """
    content = _content(vocab)
    if b"#version" in content[:60]:
        return _byte_pairs(vocab, content)
    return (_sentencepiece if vocab.endswith(_MODEL) else _wordpiece)(vocab, content)


def keep_copy(vocab: str, folder: str | os.PathLike[str]) -> None:
    """Copies the file of a vocabulary into a folder, for `kept_copy`."""
    name = _COPY + (_MODEL if vocab.endswith(_MODEL) else ".txt")
    files.write_bytes(os.path.join(folder, name), _content(vocab))


def kept_copy(folder: str | os.PathLike[str]) -> str | None:
    """The path of the vocabulary that `keep_copy` left in a folder, None without any."""
    copies = (os.path.join(folder, f"{_COPY}{suffix}") for suffix in (".txt", _MODEL))
    return next(filter(storage.exists, copies), None)


def plain(text: str) -> str:
    """Lower-cased, accents removed: what BERT's normalizer makes of text, in Python."""
    parts = unicodedata.normalize("NFD", text.lower())
    return "".join(char for char in parts if unicodedata.category(char) != "Mn")


def basic_words(text: str) -> list[str]:
    """The words that a WordPiece vocabulary splits: plain, punctuation stands alone."""
    return re.findall(r"[^\W_]+|[^\w\s]|_", plain(text))


def _wordpiece(name: str, content: bytes) -> Vocabulary:
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise DataError(
            f"{name!r} is not a WordPiece vocabulary: it is not UTF-8 text; expected one piece a "
            "line, or a SentencePiece file whose name ends in .model"
        ) from None
    pieces = [line.rstrip("\r") for line in lines]
    if pieces[-1] == "":
        pieces.pop()  # the file ends with a newline
    missing = [piece for piece in SPECIAL if piece not in pieces]
    if missing:
        raise DataError(
            f"{name!r} is not a WordPiece vocabulary: {' '.join(missing)} not among its "
            f"{len(pieces)} lines; expected BERT's vocab.txt or a file like it, one piece a line"
        )
    piece, count = Counter(pieces).most_common(1)[0]
    if count > 1:
        first = pieces.index(piece)
        second = pieces.index(piece, first + 1)
        raise DataError(
            f"vocabulary {name!r} has {piece!r} on line {first + 1} and again on line "
            f"{second + 1}; every line must be a piece of its own"
        )
    tokenizer = tf_text.FastBertTokenizer(
        pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
    return Vocabulary(
        name=name,
        wordpieces=tuple(pieces),
        surfaces=tuple("" if p in SPECIAL else p.removeprefix(_CONTINUES) for p in pieces),
        starts_word=np.array([not p.startswith(_CONTINUES) for p in pieces]),
        pad_id=pieces.index("[PAD]"),
        unk_id=pieces.index("[UNK]"),
        cls_id=pieces.index("[CLS]"),
        split=tokenizer.tokenize,
    )


def _sentencepiece(name: str, content: bytes) -> Vocabulary:
    """A SentencePiece model; its own normalizer decides about case and accents.

    The row begins with `[CLS]` if the model has that piece, else with its piece for
    the beginning of a sentence, else with that for the end. A model without a
    padding piece pads with its unknown piece.
    """
    model = sentencepiece.SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(content)
    except RuntimeError:
        raise DataError(
            f"{name!r} is not a SentencePiece model; expected the .model file that "
            "sentencepiece's trainer writes"
        ) from None
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    special = [model.is_control(i) or model.is_unknown(i) for i in range(len(pieces))]
    first = [pieces.index("[CLS]")] if "[CLS]" in pieces else [model.bos_id(), model.eos_id()]
    first = [piece for piece in first if piece >= 0]
    if not first:
        raise DataError(
            f"SentencePiece model {name!r} has no piece to begin a row with: neither [CLS] nor "
            "the beginning or end of a sentence; train it with bos_id >= 0"
        )
    tokenizer = tf_text.SentencepieceTokenizer(content, out_type=tf.int32)
    return Vocabulary(
        name=name,
        wordpieces=(),
        surfaces=tuple(
            "" if is_special else piece.removeprefix(_SPACE).lower()
            for piece, is_special in zip(pieces, special, strict=True)
        ),
        starts_word=np.array([p.startswith(_SPACE) for p in pieces]) | np.array(special),
        pad_id=model.pad_id() if model.pad_id() >= 0 else model.unk_id(),
        unk_id=model.unk_id(),
        cls_id=first[0],
        split=tokenizer.tokenize,
    )


def _byte_pairs(name: str, content: bytes) -> Vocabulary:
    try:
        pairs = byte_pairs.BytePairs(content.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{name!r} is not the vocabulary of CLIP's tokenizer: {error}") from None

    def ids(texts_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = pairs([text.decode("utf-8", "replace") for text in texts_n])
        return np.array([*itertools.chain(*rows)], np.int32), np.array([*map(len, rows)], np.int64)

    def split(texts_n: tf.Tensor) -> tf.RaggedTensor:
        flat_P, length_n = tf.numpy_function(ids, [texts_n], (tf.int32, tf.int64), stateful=False)
        return tf.RaggedTensor.from_row_lengths(
            tf.ensure_shape(flat_P, [None]), tf.ensure_shape(length_n, [None]), validate=False
        )

    return Vocabulary(
        name=name,
        wordpieces=(),
        surfaces=pairs.surfaces,
        starts_word=np.ones(len(pairs.surfaces), bool),
        pad_id=0,
        unk_id=pairs.end_id,
        cls_id=pairs.start_id,
        split=split,
        end_id=pairs.end_id,
        ends_word=np.array(pairs.ends_word),
    )


def _content(vocab: str) -> bytes:
    """The content of a vocabulary's file."""
    if vocab in BUNDLED:
        return gzip.decompress((ASSETS / f"{vocab}.txt.gz").read_bytes())
    vocab = bundled.find(vocab)
    if not storage.exists(vocab) or storage.is_folder(vocab):
        hint = unknown("vocabulary", vocab, BUNDLED)
        raise DataError(
            f"there is no vocabulary file {vocab!r}, and it is not a known name: {hint}"
        )
    content = files.read_bytes(vocab)
    try:
        return gzip.decompress(content) if vocab.endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{vocab!r} cannot be decompressed: {error}") from None
