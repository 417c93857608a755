"""Builds the files in clipa_jax/preprocess/assets and measures their quality.

    python tools/build_lexicon.py silver --sources DIR --out silver.tsv
    python tools/build_lexicon.py build  --sources DIR --silver silver.tsv --vocab vocab.txt
    python tools/build_lexicon.py agree  --sources DIR --vocab vocab.txt --captions captions.txt

`silver` tags WordNet's glosses and examples and OANC sentences with two public taggers.
`build` turns their votes into the lexicon (see clipa_jax/preprocess/lexicon.py), truncates the
word counts, and ranks the entries of BERT's vocabulary as the released code did.
`agree` compares the lexicon with each tagger on unseen captions.
tools/taggers.py describes DIR; vocab.txt is that of bert-base-uncased. Takes about three minutes
on two cores; the same input gives the same files.
"""

import functools
import gzip
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import checkout  # noqa: F401 (finds clipa_jax beside this folder)
import jax
import jax.numpy as jnp
import numpy as np
import optax
import taggers
from absl import flags

from clipa_jax.errors import UserError
from clipa_jax.preprocess.lexicon import Tagger, word_index
from clipa_jax.preprocess.vocab import plain, read_vocabulary
from clipa_jax.runtime import cli

ASSETS = Path(__file__).parents[1] / "clipa_jax" / "preprocess" / "assets"
CLASSES = "njvo"
FUNCTION_WORDS = 120  # the most frequent words of the silver text, each its own kind
STEPS_PER_NAT = 2.0  # resolution of the stored log probabilities


def silver(sources: Path, out: Path) -> None:
    """Writes the tagged text: a line of words, then the two teachers' classes."""
    lines = _text(sources)
    teachers = [taggers.Perceptron(sources), taggers.Wink(sources)]
    with out.open("w") as file:
        for start in range(0, len(lines), 2000):
            for tagged in taggers.tag(lines[start : start + 2000], teachers):
                if tagged:
                    words, columns = tagged
                    file.write("\t".join([" ".join(words), *columns]) + "\n")


def _text(sources: Path) -> list[str]:
    examples: list[str] = []
    nouns: list[str] = []
    others: list[str] = []
    for path in sorted(sources.rglob("wordnet/dict/data.*")):
        for line in path.read_text("latin1").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            gloss = line.split(" | ", 1)[1]
            examples += [e for e in re.findall(r'"([^"]+)"', gloss) if len(e.split()) >= 3]
            gloss = re.sub(r'"[^"]*"|\([^)]*\)', "", gloss)
            parts = [part.strip(" ,:") for part in gloss.split(";")]
            (nouns if "noun" in path.name else others).extend(
                part for part in parts if len(part.split()) >= 4
            )
    (path,) = sources.rglob("tagged-en-oanc.txt")
    sentences = [
        " ".join(token.rsplit("/", 1)[0] for token in line.split())
        for line in path.read_text("utf8").splitlines()
        if 4 <= len(line.split()) <= 40
    ]
    rng = random.Random(0)
    rng.shuffle(nouns)
    rng.shuffle(others)
    lines = [*examples, *nouns[:30000], *others[:6000], *sentences[:14000]]
    return [line for line in dict.fromkeys(lines) if line.isascii()]


class Votes:
    """Votes of the teachers and of Brill's lexicon on single words.

    Args:
      tagged: (words, classes by teacher) of each line.
      brill: word -> Penn tag.
    """

    def __init__(self, tagged: list[tuple[list[str], list[str]]], brill: dict[str, str]):
        self.count = Counter(word for words, _ in tagged for word in words)
        self.brill = brill
        self._votes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))
        for words, columns in tagged:
            for column in columns:
                for word, name in zip(words, column, strict=True):
                    self._votes[word][CLASSES.index(name)] += 1 / len(columns)
        self.suffixes = self._suffix_votes()

    def _suffix_votes(self) -> dict[str, np.ndarray]:
        """Suffix -> class probabilities, from rare words, which resemble unknown ones."""
        votes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))
        for word, vote in self._votes.items():
            if word.isalpha() and self.count[word] <= 5:
                for length in range(1, min(4, len(word) - 2) + 1):
                    votes[word[-length:]] += vote
        base = {"": np.array([0.7, 0.15, 0.1, 0.05])}
        for suffix in sorted(votes, key=len):
            vote = votes[suffix]
            shorter = base.get(suffix[1:])
            if vote.sum() > 10 and shorter is not None:
                base[suffix] = (vote + 5 * shorter) / (vote.sum() + 5)
        return base

    def of_suffix(self, word: str) -> np.ndarray:
        """(4,) class probabilities of a word by its ending alone."""
        longest = min(4, max(len(word) - 2, 0))
        return next(
            self.suffixes[word[len(word) - length :]]
            for length in range(longest, -1, -1)
            if word[len(word) - length :] in self.suffixes
        )

    @functools.cache  # noqa: B019 (lives as long as the script)
    def probabilities(self, word: str) -> np.ndarray:
        """(4,) class probabilities of a word out of context."""
        if not word.isalpha():
            return np.array([0.02, 0.02, 0.02, 0.94])
        guess = self.of_suffix(word)
        if word in self.brill:
            listed = np.full(4, 0.03)
            listed[CLASSES.index(taggers.penn_class(self.brill[word]))] += 0.88
            guess = (guess + 4 * listed) / 5
        vote = self._votes.get(word, np.zeros(4))
        return (vote + 2 * guess) / (vote.sum() + 2)


def group(word: str, probabilities: np.ndarray) -> str:
    """The group of a word: its likely classes, most likely first, and its ending."""
    order = np.argsort(-probabilities, kind="stable")
    likely = "".join(CLASSES[i] for i in order if probabilities[i] > 0.05)[:3]
    if not word.isalpha():
        return likely + ("/digits" if word.isdigit() else "/sign")
    endings = ("ing", "ed", "s", "ly", "er", "y")
    ending = next((e for e in endings if word.endswith(e) and len(word) > len(e) + 2), "")
    return f"{likely}/{ending}"


def build(sources: Path, silver_path: Path) -> None:
    """Writes lexicon.npz and frequencies.tsv.gz."""
    tagged = []
    for line in silver_path.read_text().splitlines():
        text, *columns = line.split("\t")
        tagged.append((text.split(" "), columns))
    counts = _counts(sources)
    votes = Votes(tagged, _brill(sources))
    function = {word for word, _ in votes.count.most_common(FUNCTION_WORDS)}

    seen = Counter(group(word, votes.probabilities(word)) for words, _ in tagged for word in words)
    groups = ["", *(name for name, count in seen.most_common() if count >= 500)]
    kinds = [*groups, *sorted("=" + word for word in function)]
    group_of, kind_of = ({n: i for i, n in enumerate(names)} for names in (groups, kinds))

    def describe(word: str, probabilities: np.ndarray) -> tuple[np.ndarray, int, int]:
        own = group_of.get(group(word, probabilities), 0)
        kind = kind_of["=" + word] if word in function else own
        logs = np.log(np.maximum(probabilities, 1e-3))
        return np.round(logs * STEPS_PER_NAT).astype(np.int8), own, kind

    known = functools.cache(lambda word: describe(word, votes.probabilities(word)))
    weights = _fit(tagged, known, len(groups), len(kinds))
    words = [
        word
        for word in sorted(set(votes.count) | set(votes.brill))
        if word.isascii()
        and word.isalpha()
        and (votes.count[word] >= 2 or (word in counts and word in votes.brill))
    ]
    rows = [known(word) for word in words]
    for suffix, probabilities in sorted(votes.suffixes.items()):
        words.append("-" + suffix)
        rows.append(describe("xxx" + suffix, probabilities))
    sign = "."
    words.append("-" + sign)
    rows.append(describe(sign, votes.probabilities(sign)))
    np.savez_compressed(
        ASSETS / "lexicon.npz",
        words=np.frombuffer("\n".join(words).encode(), np.uint8),
        log_probabilities=np.stack([row[0] for row in rows]),
        group=np.array([row[1] for row in rows], np.uint8),
        kind=np.array([row[2] for row in rows], np.uint8),
        context=weights,
    )
    with gzip.GzipFile(ASSETS / "frequencies.tsv.gz", "wb", mtime=0) as file:
        # Per billion words, down to one in two million: rarer words are all kept first.
        per_billion = 1e9 / sum(counts.values())
        kept = {w: float(f"{n * per_billion:.3g}") for w, n in counts.most_common()}
        lines = [f"{word}\t{count:.0f}\n" for word, count in kept.items() if count >= 500]
        file.write("".join(lines).encode())


def _brill(sources: Path) -> dict[str, str]:
    """Brill's lexicon as textblob ships it; the lower-case entry wins where two collide."""
    table = {}
    for line in next(sources.rglob("textblob/en/en-lexicon.txt")).read_text("utf8").splitlines():
        if line.startswith(";;;") or " " not in line:
            continue
        word, tag = line.split()[:2]
        lower = plain(word)
        if re.fullmatch(r"[^\W_\d]+", lower) and (lower not in table or word == lower):
            table[lower] = tag
    return table


def _counts(sources: Path) -> Counter[str]:
    lines = next(sources.rglob("frequency_dictionary_en_82_765.txt")).read_text("utf-8-sig")
    pairs = (line.split(" ") for line in lines.splitlines())
    return Counter({word: int(count) for word, count in pairs})


def _fit(tagged, known, groups: int, kinds: int) -> np.ndarray:
    """Weights of the neighbors by logistic regression on the votes.

    Returns:
      (groups, 2, kinds, 4) int8, in units of 1 / STEPS_PER_NAT.
    """
    logs, index, votes = [], [], []
    for words, columns in tagged:
        rows = [known(word) for word in words]
        line = [0, *(row[2] for row in rows), 0]
        for i, (log, own, _) in enumerate(rows):
            logs.append(log)
            index.append((own, line[i], line[i + 2]))
            votes.append([sum(c[i] == name for c in columns) / len(columns) for name in CLASSES])
    logs_N4 = np.array(logs, np.float32) / STEPS_PER_NAT
    index_N3, votes_N4 = np.array(index), np.array(votes, np.float32)

    def loss(table, logs_B4, index_B3, votes_B4):
        own, left, right = index_B3.T
        logits = logs_B4 + table[own, 0, left] + table[own, 1, right]
        fit = -(votes_B4 * jax.nn.log_softmax(logits)).sum(1).mean()
        return fit + 1e-7 * (table**2).sum()

    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 600))
    table = jnp.zeros((groups, 2, kinds, 4))
    state = optimizer.init(table)

    @jax.jit
    def step(table, state, *batch):
        updates, state = optimizer.update(jax.grad(loss)(table, *batch), state)
        return optax.apply_updates(table, updates), state

    rng = np.random.default_rng(0)
    for _ in range(600):
        batch = rng.integers(0, len(logs_N4), 65536)
        table, state = step(table, state, logs_N4[batch], index_N3[batch], votes_N4[batch])
    return np.clip(np.round(np.asarray(table) * STEPS_PER_NAT), -127, 127).astype(np.int8)


def released(sources: Path, vocab: Path) -> None:
    """Writes released_ranks.txt.gz: the rank of every entry of BERT's vocabulary."""
    tagger = taggers.Perceptron(sources)
    tokenize = taggers.NLTKWordTokenizer().tokenize
    ranks = {"n": "1", "j": "2", "v": "3", "o": "4"}
    entries = vocab.read_text("utf8").removesuffix("\n").split("\n")
    tags = [tagger.penn(tokenize(entry))[-1:] for entry in entries]
    line = "".join(ranks[taggers.penn_class(tag[0])] if tag else "4" for tag in tags)
    with gzip.GzipFile(ASSETS / "released_ranks.txt.gz", "wb", mtime=0) as file:
        file.write(line.encode())


def agree(sources: Path, captions: Path, vocab: str) -> None:
    """Prints the share of words on which the lexicon and each tagger agree."""
    lines = [line for line in captions.read_text("utf8").splitlines() if line.strip()]
    names = ["perceptron", "wink", "gruut"]
    judges = [taggers.Perceptron(sources), taggers.Wink(sources), taggers.Gruut(sources)]
    vocabulary = read_vocabulary(vocab)
    tagger = Tagger(vocabulary)
    columns = ["", "", "", ""]
    used = 0
    for line, tagged in zip(lines, taggers.tag(lines, judges), strict=True):
        ids_P = vocabulary.split([line]).values
        words = word_index(vocabulary, ids_P).numpy()
        if tagged is None or len(set(words)) != len(tagged[0]):
            continue
        used += 1
        classes = tagger(ids_P).numpy()[np.unique(words, return_index=True)[1]]
        ours = "".join(CLASSES[i] for i in classes)
        for number, column in enumerate([ours, *tagged[1]]):
            columns[number] += "".join(
                c for c, word in zip(column, tagged[0], strict=True) if word.isalpha()
            )
    lexicon, *others = (np.array(list(classes)) for classes in columns)
    majority = np.array(
        [Counter(votes).most_common(1)[0][0] for votes in zip(*others, strict=True)]
    )
    cli.say(f"{used} of {len(lines)} captions, {len(lexicon)} words")
    for name, other in zip([*names, "majority of the three"], [*others, majority], strict=True):
        cli.say(f"lexicon / {name}: {(lexicon == other).mean():.2%}")
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cli.say(f"{names[i]} / {names[j]}: {(others[i] == others[j]).mean():.2%}")


def main(argv: list[str]) -> None:
    """Runs one action."""
    given = flags.FLAGS
    sources, action = Path(given.sources), argv[1] if len(argv) > 1 else ""
    if action == "silver":
        silver(sources, Path(given.out))
    elif action == "build":
        build(sources, Path(given.silver))
        released(sources, Path(given.vocab))
    elif action == "agree":
        agree(sources, Path(given.captions), given.vocab)
    else:
        raise UserError(f"expected silver, build or agree, got {action!r}")


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_string("sources", None, "Folder of the unpacked archives.", required=True)
    flags.DEFINE_string("silver", "", "The tagged text, for `build`.")
    flags.DEFINE_string("out", "", "File of the tagged text, for `silver`.")
    flags.DEFINE_string("captions", "", "Unseen captions, one a line, for `agree`.")
    flags.DEFINE_string("vocab", "", "bert-base-uncased's vocab.txt.")
    cli.run(main, needs_config=False, positional=True)


if __name__ == "__main__":
    start()
