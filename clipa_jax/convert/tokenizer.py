"""A WordPiece vocabulary as the files of a Hugging Face tokenizer, for open_clip.

open_clip builds the tokenizer of a local folder from the files in it. Ours gives `[CLS]`, the
pieces and padding. BERT's own tokenizer appends `[SEP]`, which open_clip blanks afterwards, so
that captions of 31 pieces and more would lose a piece at the pooled position.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from clipa_jax.preprocess.vocab import BUNDLED, Vocabulary
from clipa_jax.runtime import files
from clipa_jax.weights.open_clip_folder import VOCABULARY

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


def name(vocabulary: Vocabulary) -> str:
    """The name of the tokenizer in open_clip's config."""
    return vocabulary.name if vocabulary.name in BUNDLED else Path(vocabulary.name).name


def write(vocabulary: Vocabulary, path: Path) -> bool:
    """Write the tokenizer of a vocabulary into an existing folder.

    For SentencePiece models nothing is written, and False returned: open_clip then reports that
    the folder has no tokenizer instead of using its own.
    """
    if not vocabulary.wordpieces:
        return False
    _tokenizer(vocabulary.wordpieces).save(str(path / "tokenizer.json"))
    files.write_json(path / "tokenizer_config.json", CONFIG)
    files.write_text(path / VOCABULARY, "".join(f"{piece}\n" for piece in vocabulary.wordpieces))
    return True


def _tokenizer(pieces: tuple[str, ...]) -> Tokenizer:
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", ids["[CLS]"])]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return tokenizer
