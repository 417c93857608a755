"""Vocabularies, tokenisation and its layout, and the ops on captions."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.preprocess import registry, vocab
from clipa_jax.preprocess.text import load_tokenizer
from clipa_jax.runtime import storage

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ["a", "[PAD]", "dog", "##s", "[UNK]", "[MASK]", "[SEP]", "[CLS]", "run", "##ning"]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "tokens.npz", allow_pickle=False) as data:
        return {key: data[key] for key in data}


@pytest.fixture
def write(tmp_path):
    """Writes a vocabulary file and gives its path."""

    def write(content, name="vocab.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
        return str(path)

    return write


def train_sentencepiece(path, **options):
    lines = ["a dog runs in the park", "a cat sleeps on the mat", "two dogs and a cat"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(path),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return f"{path}.model"


# The released code's ids


@pytest.mark.parametrize("length", [8, 16, 32])
def test_ids_are_those_of_the_released_code(bert_vocab, golden, length):
    ids = load_tokenizer(bert_vocab).encode(golden["captions"], length)
    np.testing.assert_array_equal(ids, golden[f"ids_{length}"])
    assert ids.dtype == np.int32


def test_the_op_gives_the_same_ids_inside_a_pipeline(bert_vocab, golden):
    function = registry.build(f"tokenize(16, vocab={bert_vocab!r})")
    rows = tf.data.Dataset.from_tensor_slices({"caption": golden["captions"].tolist()})
    rows = rows.map(function)
    assert rows.element_spec["tokens"] == tf.TensorSpec((16,), tf.int32)
    ids = np.stack([row["tokens"] for row in rows.as_numpy_iterator()])
    np.testing.assert_array_equal(ids, golden["ids_16"])


def test_line_separators_part_words(bert_vocab):
    # differs from CLIPA: see Tokenizer
    apart, joined = load_tokenizer(bert_vocab).encode(["dog cat", "dog\u2028cat"], 5)
    np.testing.assert_array_equal(apart, joined)


# The layout of a row


def test_a_row_is_cls_then_pieces_then_padding_with_ids_from_the_file(write):
    tokenizer = load_tokenizer(write(SMALL))
    assert (
        tokenizer.vocabulary.cls_id,
        tokenizer.vocabulary.pad_id,
        tokenizer.vocabulary.size,
    ) == (7, 1, 10)
    ids = tokenizer.encode(["A dogs, running", "dogs dogs dogs", ""], 6)
    assert ids.tolist() == [[7, 0, 2, 3, 4, 8], [7, 2, 3, 2, 3, 2], [7, 1, 1, 1, 1, 1]]


def test_a_row_of_one_is_cls_alone(write):
    assert load_tokenizer(write(SMALL)).encode(["dog a", ""], 1).tolist() == [[7], [7]]


def test_no_texts_give_no_rows(write):
    assert load_tokenizer(write(SMALL)).encode([], 4).shape == (0, 4)


def test_windows_line_ends_are_read(write):
    tokenizer = load_tokenizer(write("\r\n".join(SMALL).encode() + b"\r\n"))
    assert tokenizer.encode(["a dog"], 3).tolist() == [[7, 0, 2]]


def test_bytes_that_are_not_utf8_become_unknown_words(write):
    rows = tf.data.Dataset.from_tensors({"caption": tf.constant(b"a caf\xe9 dog")})
    path = write(SMALL)
    (row,) = rows.map(registry.build(f"tokenize(5, vocab={path!r})")).as_numpy_iterator()
    assert row["tokens"].tolist() == [7, 0, 4, 2, 1]


def test_a_vocabulary_on_another_file_system_is_read():
    path = "memory://vocabularies/small.txt"
    storage.write(path, "\n".join(SMALL).encode())
    assert load_tokenizer(path).encode(["dogs"], 4).tolist() == [[7, 2, 3, 1]]


# SentencePiece


def test_sentencepiece_rows_hold_the_models_own_pieces(tmp_path):
    path = train_sentencepiece(tmp_path / "m", pad_id=0, unk_id=1, bos_id=2, eos_id=3)
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    tokenizer = load_tokenizer(path)
    assert (
        tokenizer.vocabulary.cls_id,
        tokenizer.vocabulary.pad_id,
        tokenizer.vocabulary.size,
    ) == (2, 0, model.get_piece_size())
    text = "two dogs in the park"
    want = [2, *model.encode(text)]
    got = tokenizer.encode([text], len(want) + 2)[0].tolist()
    assert got == [*want, 0, 0]


def test_a_sentencepiece_model_without_padding_pads_with_its_unknown_piece(tmp_path):
    path = train_sentencepiece(tmp_path / "m")  # unk 0, bos 1, eos 2
    assert load_tokenizer(path).encode([""], 3).tolist() == [[1, 0, 0]]


def test_a_sentencepiece_model_that_cannot_begin_a_row_is_refused(tmp_path):
    path = train_sentencepiece(tmp_path / "m", bos_id=-1, eos_id=-1)
    with pytest.raises(DataError, match="no piece to begin a row with.*bos_id"):
        load_tokenizer(path)


def test_what_is_no_sentencepiece_model_is_refused(write):
    with pytest.raises(DataError, match="not a SentencePiece model"):
        load_tokenizer(write(b"a\nb\n", "wrong.model"))


# Wrong vocabularies


def test_missing_special_pieces_are_named(write):
    pieces = [piece for piece in SMALL if piece not in ("[CLS]", "[MASK]")]
    with pytest.raises(DataError, match=r"\[CLS\] \[MASK\] not among its 8 lines"):
        load_tokenizer(write(pieces))


def test_an_entry_that_comes_twice_is_named_with_its_lines(write):
    with pytest.raises(DataError, match="'dog' on line 3 and again on line 11"):
        load_tokenizer(write([*SMALL, "dog"]))


def test_a_file_that_is_not_text_is_refused(write):
    with pytest.raises(DataError, match="not UTF-8 text"):
        load_tokenizer(write(gzip.compress(b"[CLS]")))


def test_a_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no vocabulary file .*absent.txt.*bert-base-uncased"):
        load_tokenizer(str(tmp_path / "absent.txt"))


def test_a_misspelt_name_gets_the_nearest_one():
    with pytest.raises(DataError, match="nearest: bert-base-uncased"):
        load_tokenizer("bert-base-uncase")


def test_more_pieces_than_rows_are_refused(write):
    tokenizer = load_tokenizer(write(SMALL))
    tokenizer.vocabulary.check_fits(10)
    with pytest.raises(DataError, match="has 10 pieces but the model's token table has 9 rows"):
        tokenizer.vocabulary.check_fits(9)


def test_a_length_of_zero_is_refused(write):
    with pytest.raises(ConfigError, match="text length 0"):
        load_tokenizer(write(SMALL)).encode(["a"], 0)


# bert-base-uncased by name


def test_the_package_brings_the_vocabulary_of_the_published_recipes(golden, tmp_path):
    ids = load_tokenizer("bert-base-uncased").encode(golden["captions"], 8)
    np.testing.assert_array_equal(ids, golden["ids_8"])
    vocab.keep_copy("bert-base-uncased", tmp_path)
    copy = vocab.kept_copy(tmp_path)
    np.testing.assert_array_equal(load_tokenizer(copy).encode(golden["captions"], 8), ids)


# Choosing a caption


def hashes(spec, samples):
    function = registry.build(spec)
    return [
        int(function({key: tf.constant(x) for key, x in s.items()})["caption_hash"])
        for s in samples
    ]


def test_captions_that_read_the_same_have_the_same_hash():
    texts = ["A dog", "a  DOG ", "a\tdog", "two dogs", "", "ÉCOLE", "école", "dog a"]
    found = hashes("hash_caption", [{"caption": text} for text in texts])
    assert len({*found[:3]}) == len({*found[5:7]}) == 1
    assert len({*found}) == 5
    assert all(-(2**31) <= x < 2**31 for x in found)
    many = hashes("hash_caption", [{"caption": str(number)} for number in range(300)])
    assert len({*many}) == 300 and min(many) < -(2**30) and max(many) > 2**30


def test_tokens_that_are_the_same_have_the_same_hash():
    rows = [[2, 17, 0], [2, 17, 0], [2, 1, 70], [2, 0, 17]]
    samples = [{"caption": str(i), "tokens": row} for i, row in enumerate(rows)]
    found = hashes("hash_caption(of='tokens')", samples)
    assert found[0] == found[1] and len({*found}) == 3
    with pytest.raises(ConfigError, match="hash_caption: 'token'; nearest: tokens"):
        registry.build("hash_caption('token')")


def choose(spec, captions, seeds=((0, 0),)):
    function = registry.build(spec)
    rows = tf.data.Dataset.from_tensor_slices(np.array(seeds, np.int64))
    rows = rows.map(lambda seed: function({"captions": tf.constant(captions), "seed": seed}))
    return [row["caption"].decode() for row in rows.as_numpy_iterator()]


def test_an_index_chooses_that_caption():
    assert choose("choose_caption(index=1)", ["one", "two", "three"]) == ["two"]
    assert choose("choose_caption(-1)", ["one", "two", "three"]) == ["three"]


def test_without_an_index_every_caption_is_drawn_as_often():
    drawn = choose("choose_caption", ["one", "two", "three"], [(0, i) for i in range(3000)])
    for caption in ("one", "two", "three"):
        assert 900 < drawn.count(caption) < 1100  # 1000, standard deviation 26


def test_the_same_seed_draws_the_same_caption():
    seeds = [(7, i) for i in range(50)]
    captions = [str(i) for i in range(20)]
    assert choose("choose_caption", captions, seeds) == choose("choose_caption", captions, seeds)


def test_a_sample_without_captions_gets_the_empty_one():
    captions = np.array([], dtype=str)
    assert choose("choose_caption", tf.constant(captions, tf.string)) == [""]
