"""CLIP's own tokenizer: byte pairs in lower-cased text, as open_clip's SimpleTokenizer.

open_clip cleans texts before, as `input.clean=open_clip` does here.
Its vocabulary is a list of merges: a line with the version, then a pair of pieces a line.
"""

import functools
from collections.abc import Sequence

import regex
from tokenizers import models

START, END = "<start_of_text>", "<end_of_text>"
_WORD_END = "</w>"
_MERGES = 49_152 - 256 - 2  # those of the file that CLIP takes
_WORDS = regex.compile(
    rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)


class BytePairs:
    """Splits texts into the ids of byte pairs.

    Attributes:
      surfaces: V strings: what each piece stands for in a word; empty for special pieces.
      ends_word: for each piece, whether it ends a word.
    """

    def __init__(self, content: str):
        lines = content.split("\n")[1 : _MERGES + 1]
        if len(lines) < _MERGES or any(len(line.split()) != 2 for line in lines):
            raise ValueError(f"expected a line of version and {_MERGES:,} pairs")
        merges = [(first, second) for first, second in map(str.split, lines)]
        chars = _characters()
        pieces = [*chars.values(), *(char + _WORD_END for char in chars.values())]
        pieces += map("".join, merges)
        ids = {piece: index for index, piece in enumerate([*pieces, START, END])}
        model = models.BPE(ids, merges, end_of_word_suffix=_WORD_END)

        @functools.lru_cache(100_000)
        def split(word: str) -> list[int]:
            if word in (START, END):  # in a text they are themselves, as there
                return [ids[word]]
            characters = "".join(map(chars.__getitem__, word.encode()))
            return [token.id for token in model.tokenize(characters)]

        self._split = split
        byte_of = {char: byte for byte, char in chars.items()}
        self.start_id, self.end_id = ids[START], ids[END]
        self.surfaces = (*(_text(piece, byte_of) for piece in pieces), "", "")
        self.ends_word = (*(piece.endswith(_WORD_END) for piece in pieces), True, True)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the pieces of each text, without special ones around them."""
        words = (_WORDS.findall(text.lower()) for text in texts)
        return [[id_ for word in row for id_ in self._split(word)] for row in words]


def _characters() -> dict[int, str]:
    """The character that stands for each byte, in the order of their ids: printable ones first."""
    chars = {byte: chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))}
    others = (byte for byte in range(256) if byte not in chars)
    return chars | {byte: chr(256 + number) for number, byte in enumerate([*others])}


def _text(piece: str, byte_of: dict[str, int]) -> str:
    """The text of a piece, without bytes that are no whole characters."""
    return bytes(map(byte_of.__getitem__, piece.removesuffix(_WORD_END))).decode(errors="ignore")
