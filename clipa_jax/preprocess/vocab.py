"""Vocabularies: where their files are, what is in them, and how they split text.

A `Vocabulary` is read from a WordPiece file (one piece a line, BERT's special pieces
among them) or from a SentencePiece `.model`. Nothing is fetched before
`read_vocabulary` asks for a vocabulary that is known by name.
"""

import hashlib
import os
import re
import unicodedata
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text as tf_text

from clipa_jax.errors import DataError, unknown

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# name -> (where it is, SHA-256 of the file)
HUB = {
    "bert-base-uncased": (
        "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt",
        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    ),
}
_CONTINUES = "##"  # WordPiece: this piece continues a word
_SPACE = "\u2581"  # SentencePiece: this piece starts a word
_COPY = "vocab"  # in a workdir, with the suffix that tells the kind


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The pieces of a vocabulary, and the function that splits text into them.

    Attributes:
      name: as the user gave it.
      wordpieces: the lines of a WordPiece vocabulary; empty for SentencePiece models.
      surfaces: V strings: what each piece stands for in a word, marks removed,
        lower-cased; empty for special pieces.
      starts_word: (V,) bool: the piece begins a word (it does not continue one).
      pad_id: the piece that fills a row up.
      unk_id: the piece for text that no piece covers.
      cls_id: the piece that every row begins with.
      split: (n,) string tensor -> `tf.RaggedTensor` [n, (pieces)] int32, without
        special pieces; usable inside tf.data.
    """

    name: str
    wordpieces: tuple[str, ...]
    surfaces: tuple[str, ...]
    starts_word: np.ndarray
    pad_id: int
    unk_id: int
    cls_id: int
    split: Callable[[tf.Tensor], tf.RaggedTensor]

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
    """Reads the vocabulary that `vocab` names.

    Args:
      vocab: path of a WordPiece file or of a SentencePiece `.model` (`gs://` paths
        work), or `bert-base-uncased`, which is fetched once and kept in
        `$CLIPA_CACHE` (by default `~/.cache/clipa_jax`).

    Raises:
      DataError: the file cannot be had, or is not a vocabulary.
    """
    path = _locate(vocab)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise DataError(f"cannot read vocabulary {path!r}: {error.message}") from None
    if path.endswith(".model"):
        return _sentencepiece(vocab, content)
    return _wordpiece(vocab, content)


def keep_copy(vocab: str, folder: str | os.PathLike[str]) -> None:
    """Copies the file of a vocabulary into a folder, for `kept_copy`."""
    path = _locate(vocab)
    copy = os.path.join(folder, _COPY + (".model" if path.endswith(".model") else ".txt"))
    tf.io.gfile.copy(path, f"{copy}.part", overwrite=True)
    tf.io.gfile.rename(f"{copy}.part", copy, overwrite=True)


def kept_copy(folder: str | os.PathLike[str]) -> str | None:
    """The path of the vocabulary that `keep_copy` left in a folder, None without any."""
    copies = (os.path.join(folder, f"{_COPY}{suffix}") for suffix in (".txt", ".model"))
    return next((copy for copy in copies if tf.io.gfile.exists(copy)), None)


def plain(text: str) -> str:
    """Lower-cased, accents removed: what BERT's normaliser makes of text, in Python."""
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
    """A SentencePiece model; its own normaliser decides about case and accents.

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


def _locate(vocab: str) -> str:
    """The path of the vocabulary's file; fetches it if it is known by name."""
    if vocab not in HUB:
        if tf.io.gfile.exists(vocab) and not tf.io.gfile.isdir(vocab):
            return vocab
        hint = unknown("vocabulary", vocab, HUB)
        raise DataError(f"there is no vocabulary file {vocab!r}, and it is no known name: {hint}")
    cache = Path(os.environ.get("CLIPA_CACHE") or Path.home() / ".cache" / "clipa_jax")
    path = cache / f"{vocab}.txt"
    url, checksum = HUB[vocab]
    if not path.exists():
        content = _fetch(vocab, url, path)
        if hashlib.sha256(content).hexdigest() != checksum:
            raise DataError(
                f"{url} is not the file that was expected (SHA-256 {checksum}); put the right "
                f"file at {path}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        # Several processes of a host may fetch at the same time: the last one wins whole.
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return str(path)


def _fetch(vocab: str, url: str, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.read()
    except (urllib.error.URLError, OSError) as error:
        raise DataError(
            f"vocabulary {vocab!r} is not cached and cannot be fetched ({error}); download {url} "
            f"elsewhere and put it at {path}, or give the path of a vocabulary file"
        ) from None
