"""Text token reductions: what stays, in which order, and how often."""

import gzip
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from clipa_jax.errors import ConfigError, DataError
from clipa_jax.preprocess import lexicon, reduce, registry
from clipa_jax.preprocess.text import load_tokenizer

CAPTIONS = [
    "A young boy in a red shirt is running with his skateboard across the park",
    "Two people riding bicycles down a cobblestone street in Amsterdam on a rainy evening",
    "50% OFF!!! SALE $19.99 Women's Summer Dress (Blue, XL) Free Shipping",
    "supercalifragilisticexpialidocious antidisestablishmentarianism!",
    "日本の富士山と桜の写真 🐶 puppy 😍 so cute — IMG_20190312_183045.jpg",
    "red red red red red red red red red red red red",
    ". . . , , , ! ! ! ( ) [ ] - - -",
]


@pytest.fixture(scope="module")
def tokenizer(bert_vocab):
    return load_tokenizer(bert_vocab)


@pytest.fixture(scope="module")
def kept(tokenizer):
    """What stays of a caption, as words: `##` glues pieces, the first token is left out."""

    def kept(caption, budget, reduction, seed=0):
        row = tokenizer.encode([caption], budget + 1, reduction, seed)[0][1:]
        vocabulary = tokenizer.vocabulary
        glue = ["" if vocabulary.starts_word[i] else "##" for i in row]
        return " ".join(g + vocabulary.surfaces[i] for g, i in zip(glue, row, strict=True)).strip()

    return kept


def pieces(tokenizer, caption):
    return tokenizer.vocabulary.split(tf.constant([caption])).values.numpy().tolist()


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


# What holds for every reduction


@pytest.mark.parametrize("reduction", reduce.REDUCTIONS)
@pytest.mark.parametrize("budget", [1, 3, 7, 15])
def test_long_captions_fill_the_budget_exactly_and_keep_their_order(tokenizer, reduction, budget):
    for seed, caption in enumerate(CAPTIONS):
        whole = pieces(tokenizer, caption)
        row = tokenizer.encode([caption], budget + 1, reduction, seed)[0].tolist()
        count = min(budget, len(whole))
        assert row[0] == tokenizer.vocabulary.cls_id
        assert tokenizer.vocabulary.pad_id not in row[1 : count + 1]
        assert is_subsequence(row[1 : count + 1], whole)
        assert row[count + 1 :] == [tokenizer.vocabulary.pad_id] * (budget - count)


@pytest.mark.parametrize("reduction", reduce.REDUCTIONS)
def test_captions_that_fit_are_untouched(tokenizer, reduction):
    captions = ["", " ", "the dog", "a b c d e f g", "supercalifragilistic", "running , the red"]
    want = tokenizer.encode(captions, 8, "truncate")
    np.testing.assert_array_equal(tokenizer.encode(captions, 8, reduction), want)


@pytest.mark.parametrize("reduction", reduce.REDUCTIONS)
def test_the_same_seed_keeps_the_same_pieces(tokenizer, reduction):
    first = tokenizer.encode(CAPTIONS, 6, reduction, seed=3)
    np.testing.assert_array_equal(tokenizer.encode(CAPTIONS, 6, reduction, seed=3), first)
    other = tokenizer.encode(CAPTIONS, 6, reduction, seed=4)
    assert reduce.is_random(reduction) == bool((other != first).any())


@pytest.mark.parametrize("reduction", reduce.REDUCTIONS)
def test_the_op_draws_from_the_samples_seed_and_needs_none_otherwise(bert_vocab, reduction):
    function = registry.build(f"tokenize(4, vocab={bert_vocab!r}, reduction={reduction!r})")
    sample = {"caption": tf.constant(CAPTIONS[0])}
    if reduce.is_random(reduction):
        rows = {tuple(function({**sample, "seed": (0, i)})["tokens"].numpy()) for i in range(20)}
        assert len(rows) > 5
    else:
        assert function(sample)["tokens"].shape == (4,)


# truncate, random, block


def test_truncate_keeps_the_first_pieces(kept):
    assert kept(CAPTIONS[0], 4, "truncate") == "a young boy in"


def test_random_keeps_every_set_as_often(tokenizer):
    count = 4000
    rows = tokenizer.encode(["red blue green black white"] * count, 3, "random")[:, 1:]
    sets, hits = np.unique(rows, axis=0, return_counts=True)
    assert len(sets) == 10  # 5 choose 2
    assert np.abs(hits - count / 10).max() < 5 * np.sqrt(count * 0.1 * 0.9)


def test_random_draws_from_pieces_beyond_the_number_of_words(tokenizer):
    # One word of 12 pieces: the released code never kept any but the first (bert_ops.py:297).
    whole = pieces(tokenizer, "supercalifragilisticexpialidocious")
    rows = tokenizer.encode(["supercalifragilisticexpialidocious"] * 200, 4, "random")
    assert set(rows[:, 1:].ravel()) == set(whole)


def test_block_reaches_every_window_and_nothing_else(tokenizer):
    caption = "one two three four five six seven eight nine"
    whole, count = pieces(tokenizer, caption), 4000
    rows = tokenizer.encode([caption] * count, 5, "block")[:, 1:]
    windows, hits = np.unique(rows, axis=0, return_counts=True)
    want = sorted(whole[start : start + 4] for start in range(6))
    assert windows.tolist() == want
    assert np.abs(hits - count / 6).max() < 5 * np.sqrt(count / 6 * 5 / 6)


# syntax


@pytest.mark.parametrize(
    ("caption", "budget", "want"),
    [
        ("the dog runs across a big green field", 2, "dog field"),
        ("the dog runs across a big green field", 3, "dog big field"),
        ("the dog runs across a big green field", 4, "dog big green field"),
        ("the dog runs across a big green field", 5, "dog runs big green field"),
        ("the dog runs across a big green field", 6, "the dog runs big green field"),
        ("cats, dogs and horses in the snow", 3, "cats dogs horses"),  # of a class: the first
        # the class is that of the word where it stands
        ("they park the old car near the park", 2, "car park"),
        ("a man is painting a painting of the sea", 3, "man painting sea"),
    ],
)
def test_syntax_keeps_nouns_then_adjectives_then_verbs_then_the_rest(kept, caption, budget, want):
    assert kept(caption, budget, "syntax") == want


def test_syntax_judges_whole_words_and_cuts_the_last_one(kept):
    # The pieces of "skateboarding" would be a noun ("skate") and a noun ("##boarding").
    caption = "a happy man skateboarding on the cobblestone street"
    assert kept(caption, 4, "syntax") == "man cobb ##les ##tone"
    assert kept(caption, 3, "syntax") == "man cobb ##les"


def test_syntax_puts_signs_numbers_and_unknown_signs_last(kept):
    assert kept("! 12 🐶 , dog ; 7 cat .", 2, "syntax") == "dog cat"


@pytest.mark.parametrize(
    ("caption", "classes"),
    [
        ("the dog runs", "ond v"),
        ("a very tall building", "o o j n"),
        ("two boys quickly climbed the wooden stairs", "o n o v o j n"),
        (
            "she blorfed the zorbles blickly",
            "o v o n o",
        ),  # endings speak for words nobody has listed
    ],
)
def test_classes_of_words(tokenizer, caption, classes):
    ids_P = tokenizer.vocabulary.split(tf.constant([caption])).values
    words_P = lexicon.word_index(tokenizer.vocabulary, ids_P).numpy()
    classes_P = lexicon.Tagger(tokenizer.vocabulary)(ids_P).numpy()
    got = {word: "njvo"[name] for word, name in zip(words_P, classes_P, strict=True)}
    assert "".join(got.values()) == classes.replace(" ", "").replace("d", "")


def test_a_words_pieces_share_its_class(tokenizer):
    ids_P = tokenizer.vocabulary.split(tf.constant([CAPTIONS[1] + " " + CAPTIONS[3]])).values
    words_P = lexicon.word_index(tokenizer.vocabulary, ids_P).numpy()
    classes_P = lexicon.Tagger(tokenizer.vocabulary)(ids_P).numpy()
    assert len(words_P) > words_P.max() + 10
    for word in range(words_P.max() + 1):
        assert len(set(classes_P[words_P == word])) == 1


def test_classes_do_not_hang_on_the_vocabulary(tokenizer, tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    spelt = tmp_path / "letters.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    spelt.write_text("\n".join([*special, *letters, *("##" + letter for letter in letters)]))
    caption = "two boys quickly climbed the wooden stairs"
    found = []
    for vocabulary in (tokenizer.vocabulary, load_tokenizer(str(spelt)).vocabulary):
        ids_P = vocabulary.split(tf.constant([caption])).values
        words_P = lexicon.word_index(vocabulary, ids_P).numpy()
        classes_P = lexicon.Tagger(vocabulary)(ids_P).numpy()
        found.append(classes_P[np.unique(words_P, return_index=True)[1]].tolist())
    assert found[0] == found[1]


# syntax_released


def released_row(caption, budget, vocab_path, ranks):
    """The released op in numpy (transforms/bert_ops.py:215-254), from its own tokenizer."""
    tokenizer = tf_text.BertTokenizer(vocab_path, token_out_type=tf.int32, lower_case=True)
    (words,) = tokenizer.tokenize([caption]).to_list()
    if len(words) > budget:
        order = np.argsort([ranks[word[0]] for word in words], kind="stable")
        words = [words[index] for index in sorted(order[:budget])]
    return list(itertools.chain(*words))[:budget]


@pytest.mark.parametrize("budget", [1, 4, 7])
def test_syntax_released_does_what_the_released_op_does(tokenizer, bert_vocab, budget):
    digits = gzip.decompress((lexicon.ASSETS / "released_ranks.txt.gz").read_bytes()).decode()
    ranks = [int(digit) for digit in digits]
    assert len(ranks) == tokenizer.vocabulary.size
    for caption in CAPTIONS:
        row = tokenizer.encode([caption], budget + 1, "syntax_released")[0][1:].tolist()
        want = released_row(caption, budget, bert_vocab, ranks)
        assert row == want + [tokenizer.vocabulary.pad_id] * (budget - len(want)), caption


def test_syntax_released_ranks_entries_not_words(tokenizer, kept):
    digits = gzip.decompress((lexicon.ASSETS / "released_ranks.txt.gz").read_bytes()).decode()
    surfaces = tokenizer.vocabulary.surfaces
    rank = {word: digits[surfaces.index(word)] for word in ("dog", "wooden", "is", "the", ",")}
    assert rank == {"dog": "1", "wooden": "2", "is": "3", "the": "4", ",": "4"}
    # "park" is a noun wherever it stands
    assert kept("they park the old car near the park", 3, "syntax_released") == "park car park"


def test_syntax_released_is_for_one_vocabulary(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ndog")
    with pytest.raises(ConfigError, match="entries of bert-base-uncased.*other.txt.*'syntax'"):
        load_tokenizer(str(path)).encode(["dog"], 8, "syntax_released")


# frequency, rarest


@pytest.fixture
def table(tmp_path):
    """Writes a table of word counts and gives its path."""

    def write(counts, name="words.tsv"):
        path = tmp_path / name
        text = "".join(f"{word}\t{count}\n" for word, count in counts.items())
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def test_rarest_keeps_the_rarest_words(kept, table):
    path = table({"the": 600, "dog": 200, "red": 100, "skateboard": 60, "zebra": 40}, "w.tsv.gz")
    caption = "the red zebra, the dog: the skateboard"
    assert kept(caption, 2, f"rarest:{path}") == "zebra skate"
    assert kept(caption, 3, f"rarest:{path}") == "zebra skate ##board"
    assert kept(caption, 4, f"rarest:{path}") == "red zebra skate ##board"
    assert kept("the tractor dog", 2, f"rarest:{path}") == "tractor dog"  # unlisted: rarest of all


def test_rarest_knows_common_words_without_a_table(kept):
    caption = "there is a tractor and a zebra by the tree"
    assert kept(caption, 3, "rarest") == "tractor zebra tree"


def test_frequency_holds_words_back_as_clipf_does(tokenizer, table):
    # p = 1 - sqrt(t / f): f = 0.9 gives 0.99895; f = 2e-6 gives 0.29289. The rarer word stays
    # if u1 - p1 > u2 - p2, so with d = p2 - p1 in 1 - (1 - d)^2 / 2 of the draws.
    rest = {f"filler{index}": 99_998 / 10 for index in range(10)}
    path = table({"the": 900_000, "dog": 2, **rest})
    count, d = 4000, 0.99895 - 0.29289
    rows = tokenizer.encode(["the dog"] * count, 2, f"frequency:{path}")[:, 1]
    share = (rows == pieces(tokenizer, "dog")[0]).mean()
    want = 1 - (1 - d) ** 2 / 2
    assert abs(share - want) < 5 * np.sqrt(want * (1 - want) / count)


def test_frequency_prefers_rare_words_and_never_signs(tokenizer):
    caption = "there is a zebra , and a . by the"
    rows = tokenizer.encode([caption] * 1000, 4, "frequency")[:, 1:]
    stays = {w: (rows == pieces(tokenizer, w)[0]).any(1).mean() for w in ("zebra", "is", ",")}
    assert stays["zebra"] > 0.7 > 0.5 > stays["is"] > 0.2 and stays[","] == 0


def test_frequency_draws_whole_words(tokenizer, table):
    path = table({"cobblestone": 1, "dog": 1, "cat": 1})
    whole = pieces(tokenizer, "cobblestone")
    rows = tokenizer.encode(["cat cobblestone dog"] * 50, 4, f"frequency:{path}")[:, 1:].tolist()
    dog, cat = pieces(tokenizer, "dog cat")
    tails = {tuple(piece for piece in row if piece not in (dog, cat)) for row in rows}
    assert tails == {tuple(whole), tuple(whole[:2]), tuple(whole[:1])}


# Errors


def test_an_unknown_reduction_gets_the_nearest_name(tokenizer):
    with pytest.raises(ConfigError, match="unknown reduction 'sintax'; nearest: syntax"):
        tokenizer.encode(["dog"], 8, "sintax")


def test_a_table_for_a_reduction_without_one_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="'block' takes no table"):
        tokenizer.encode(["dog"], 8, "block:words.tsv")


@pytest.mark.parametrize("text", ["dog 3\n", "dog\tmany\n", "a\tb\tc\n"])
def test_a_file_that_is_no_table_is_refused(tokenizer, tmp_path, text):
    path = tmp_path / "words.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match="not a table of word counts.*count_words"):
        tokenizer.encode(["dog"], 8, f"frequency:{path}")


def test_a_missing_or_empty_table_is_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match="absent.tsv"):
        tokenizer.encode(["dog"], 8, f"rarest:{tmp_path / 'absent.tsv'}")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(DataError, match="needs words"):
        tokenizer.encode(["dog"], 8, f"rarest:{tmp_path / 'empty.tsv'}")
