"""Prompt templates, and the prompts of classes."""

import re
import string
from collections.abc import Sequence
from pathlib import Path

from clipa_jax.errors import ConfigError, DataError, unknown
from clipa_jax.evaluators import class_names
from clipa_jax.runtime import files

TEMPLATES = Path(__file__).parent / "templates"
SLOT = class_names.SLOT  # stands for the class name in a template
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def templates(source: str | Sequence[str], language: str = class_names.ENGLISH) -> tuple[str, ...]:
    """Prompt templates, each with one `{}` for the class name.

    `source` has the templates, or a single one; or is the name of a file in
    `evaluators/templates/`; a known dataset, e.g. "imagenet1k", whose templates are in
    `language`; or the path of a JSON file with a list `templates`, `provenance` and `licence`.
    Raises `ConfigError` for an unknown name or a template without exactly one `{}`, `DataError` for
    a file that is not of this form.
    """
    if isinstance(source, str):
        source = [source] if SLOT in source else _named(source, language)
    checked = class_names.strings(source, "prompt templates")
    for template in checked:
        if template.count(SLOT) != 1:
            raise ConfigError(f"prompt template {template!r} must contain {SLOT} exactly once")
    return checked


def prompts(names: Sequence[str], templates: Sequence[str], *, canonicalize: bool) -> list[str]:
    """Every class in every template: C x T strings, class by class.

    `canonicalize` gives lower case and no punctuation, as in the released evaluator, which took it
    from big_vision: commas stay in class names.
    """
    if canonicalize:
        names = [canonical(name, keep=",") for name in names]
        templates = [canonical(template, keep=SLOT) for template in templates]
    return [template.replace(SLOT, name) for name in names for template in templates]


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


def _named(name: str, language: str) -> Sequence[str]:
    """Templates from a file or by a name."""
    path = Path(name) if name.endswith(".json") else TEMPLATES / f"{name}.json"
    if not name.endswith(".json") and not path.exists():
        known = class_names.templates(name, language)
        if known is None:
            if " " in name:
                raise ConfigError(f"template {name!r} has no {{}} for the name of a class")
            own = [file.stem for file in TEMPLATES.glob("*.json")]
            options = [*own, *class_names.named(class_names.ENGLISH, "templates")]
            raise ConfigError(unknown("prompt templates", name, options))
        return known
    content = files.read_json(path)
    missing = {"templates", "provenance", "licence"} - set(content)
    if missing:
        raise DataError(f"prompt file {path} lacks {', '.join(sorted(missing))}")
    return content["templates"]
