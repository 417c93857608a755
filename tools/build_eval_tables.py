"""Makes clipa_jax/evaluators/assets/ and templates/ from the packages that carry their content.

    pip install --no-deps clip_benchmark==1.6.2 open_clip_torch==3.3.0 timm==1.0.31
    python tools/build_eval_tables.py

The data is copied without changes by hand: class names and sentences of CLIP_benchmark, OpenAI's
sentences for ImageNet from open_clip, WordNet ids from timm. Of the packages only open_clip's file
of sentences is imported.
"""

import importlib.metadata
import importlib.util
import json
import re
import runpy
from pathlib import Path
from typing import Any

import checkout  # noqa: F401 (finds clipa_jax beside this folder)

from clipa_jax.errors import DataError
from clipa_jax.evaluators import class_names, prompts
from clipa_jax.runtime import cli, files

MIT = "MIT, see assets/LICENSES.txt"
APACHE = "Apache-2.0"


def main(argv: list[str]) -> None:
    """Writes the files."""
    del argv
    folder = _folder("clip_benchmark") / "datasets"
    names = json.loads((folder / "en_classnames.json").read_text())
    sentences = json.loads((folder / "en_zeroshot_classification_templates.json").read_text())
    _write(
        class_names.ASSETS / "clip_benchmark_en.json",
        description="English class names and sentences, by dataset; {} takes the name.",
        provenance=f"{_release('clip_benchmark')}, datasets/en_classnames.json and "
        "en_zeroshot_classification_templates.json: the prompts of OpenAI's CLIP and their own",
        licence=MIT,
        classes=names,
        templates={
            key: [text.replace(class_names.PLACE, class_names.SLOT) for text in value]
            for key, value in sentences.items()
        },
    )
    info = _folder("timm") / "data" / "_info"
    ids = {
        name: (info / f"{file}_synsets.txt").read_text().split()
        for name, file in (("all", "imagenet"), ("a", "imagenet_a"), ("r", "imagenet_r"))
    }
    if len(ids["all"]) != len(names["imagenet1k"]) or ids["all"] != sorted(ids["all"]):
        raise DataError("WordNet ids and class names are not of the same 1,000 classes")
    _write(
        class_names.ASSETS / "imagenet.json",
        description="WordNet ids of ImageNet-1k in the order of its labels, and of its subsets.",
        provenance=f"{_release('timm')}, data/_info/imagenet*_synsets.txt",
        licence=APACHE,
        wordnet_ids=ids["all"],
        subsets={"imagenet_a": sorted(ids["a"]), "imagenet_r": sorted(ids["r"])},
    )
    _write(
        class_names.ASSETS / "imagenet_real.json",
        description="Reassessed labels of ImageNet's validation pictures 1 to 50,000.",
        provenance=f"{_release('timm')}, data/_info/imagenet_real_labels.json: real.json of "
        "Beyer et al., Are we done with ImageNet?, arXiv 2006.07159",
        licence=APACHE,
        labels=json.loads((info / "imagenet_real_labels.json").read_text()),
    )
    _from_open_clip(names["imagenet1k"], sentences["imagenet1k"])
    licences = [f"{name}\n\n{_license(name)}" for name in ("clip_benchmark", "open_clip_torch")]
    files.write_text(class_names.ASSETS / "LICENSES.txt", "\n\n".join(licences))


def _from_open_clip(names: list[str], sentences: list[str]) -> None:
    """Writes the seven sentences; checks that both packages agree."""
    metadata = runpy.run_path(str(_folder("open_clip") / "zero_shot_metadata.py"))
    eighty, seven = (
        [template(class_names.SLOT) for template in metadata[key]]
        for key in ("OPENAI_IMAGENET_TEMPLATES", "SIMPLE_IMAGENET_TEMPLATES")
    )
    if [text.replace(class_names.PLACE, class_names.SLOT) for text in sentences] != eighty:
        raise DataError("CLIP_benchmark and open_clip have different sentences for ImageNet")
    differing = [
        pair
        for pair in zip(names, metadata["IMAGENET_CLASSNAMES"], strict=True)
        if len(set(pair)) > 1
    ]
    cli.say(f"ImageNet's names that differ between CLIP_benchmark and open_clip: {differing}")
    _write(
        prompts.TEMPLATES / "imagenet_7.json",
        description="Seven of the eighty sentences of imagenet1k, chosen by OpenAI.",
        provenance=f"{_release('open_clip_torch')}, zero_shot_metadata.py, after OpenAI's "
        "Prompt_Engineering_for_ImageNet.ipynb",
        licence=MIT,
        templates=seven,
    )


def _write(path: Path, **content: Any) -> None:
    """One line for each string or list of numbers."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s*\d[\d\s,]*\]", lambda match: re.sub(r"\s+", "", match[0]), text)
    files.write_text(path, text + "\n")
    cli.say(f"wrote {path}")


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"{package} is not installed; see the first lines of this file")
    return Path(spec.origin).parent


def _license(distribution: str) -> str:
    """The license text of a package."""
    for file in importlib.metadata.files(distribution) or ():
        if file.name == "LICENSE" and ".dist-info" in str(file):
            return file.read_text().strip() + "\n"
    raise DataError(f"{distribution} has no license text")


def _release(distribution: str) -> str:
    return f"{distribution} {importlib.metadata.version(distribution)}"


if __name__ == "__main__":
    cli.run(main, needs_config=False)
