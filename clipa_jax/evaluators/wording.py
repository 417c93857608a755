"""Class names and prompt templates: data files, literal tuples, and their wording."""

import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipa_jax.errors import ConfigError, DataError, unknown

PROMPTS = Path(__file__).parent / "prompts"
SLOT = "{}"  # where a template takes the class name
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def class_names(source: str | Sequence[str]) -> tuple[str, ...]:
    """Class names, in the order of the labels.

    Args:
      source: the names, or the path of a JSON file that is a list of names or an object
        with a list `classes`.

    Raises:
      DataError: no such file, or not of this form.
    """
    if isinstance(source, str):
        content = _read(Path(source), "class names")
        source = content.get("classes", ()) if isinstance(content, dict) else content
        return _strings(source, "class names")
    return _strings(source, "class names")


def templates(source: str | Sequence[str]) -> tuple[str, ...]:
    """Prompt templates, each with one `{}` for the class name.

    Args:
      source: the templates, the name of a file in `evaluators/prompts/`, or the path of a
        JSON file with a list `templates`, `provenance` and `licence`.

    Raises:
      ConfigError: an unknown name, or a template without exactly one `{}`.
      DataError: a file that is not of this form.
    """
    if isinstance(source, str):
        path = Path(source) if source.endswith(".json") else PROMPTS / f"{source}.json"
        if not source.endswith(".json") and not path.exists():
            options = [file.stem for file in PROMPTS.glob("*.json")]
            raise ConfigError(unknown("prompt templates", source, options))
        content = _read(path, "prompt templates")
        missing = {"templates", "provenance", "licence"} - set(content)
        if missing:
            raise DataError(f"prompt file {path} lacks {', '.join(sorted(missing))}")
        source = content["templates"]
    found = _strings(source, "prompt templates")
    for template in found:
        if template.count(SLOT) != 1:
            raise ConfigError(f"prompt template {template!r} must contain {SLOT} exactly once")
    return found


def prompts(names: Sequence[str], sentences: Sequence[str], *, canonicalize: bool) -> list[str]:
    """Every class in every template: C x T strings, the templates of a class together.

    Args:
      names: C class names.
      sentences: T templates.
      canonicalize: lower case and no punctuation, as in the released evaluator (formats.md
        5.4, from big_vision): commas stay in class names.
    """
    if canonicalize:
        names = [canonical(name, keep=",") for name in names]
        sentences = [canonical(sentence, keep=SLOT) for sentence in sentences]
    return [sentence.replace(SLOT, name) for name in names for sentence in sentences]


def canonical(text: str, keep: str = "") -> str:
    """`text` in lower case, underscores as spaces, without punctuation but `keep`.

    >>> canonical("A photo of the {}, (cropped)!", keep="{}")
    'a photo of the {} cropped'
    """
    pieces = text.replace("_", " ").split(keep) if keep else [text.replace("_", " ")]
    text = keep.join(piece.translate(_PUNCTUATION) for piece in pieces)
    return re.sub(r"\s+", " ", text.lower()).strip()


def slug(name: str) -> str:
    """A class name as part of a metric's name: `smileys & emotion` -> `smileys_and_emotion`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("&", " and ")).strip("_")


def _read(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no file {path} with {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} with {what} cannot be read as JSON: {error}") from None


def _strings(values: Any, what: str) -> tuple[str, ...]:
    good = isinstance(values, Sequence) and not isinstance(values, str)
    if not good or not values or not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{what} must be a list of strings that are not empty; came: {values!r}")
    return tuple(values)
