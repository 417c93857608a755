"""Writes a split of any source in CLIP_benchmark's layout of webdatasets.

    python tools/export_webdataset.py --source=tfds:data/emoji/1.0.0 --split=heldout_vendor \\
        --label=concept --preprocess="decode|resize(48)" --templates="{}" --out=DIR
    python tools/export_webdataset.py --source=tfds:data/emoji/1.0.0 --split=heldout_vendor \\
        --kind=retrieval --out=DIR

DIR gets test/0.tar, ..., test/nshards.txt, dataset_type.txt and, but for retrieval, classnames.txt
and zeroshot_classification_templates.txt. CLIP_benchmark reads it as `--dataset wds/NAME
--dataset_root DIR`, we as `clip_benchmark:DIR`.
"""

import functools
from pathlib import Path

from absl import flags

from clipa_jax.data import export, sources
from clipa_jax.runtime import cli

SOURCE = flags.DEFINE_string("source", None, "Such as tfds:data/emoji/1.0.0.", required=True)
SPLIT = flags.DEFINE_string("split", None, "Of the source.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write.", required=True)
OUT_SPLIT = flags.DEFINE_string("out_split", "test", "What the split is called there.")
KIND = flags.DEFINE_string("kind", "classification", "Or multilabel, or retrieval.")
LABEL = flags.DEFINE_string("label", "label", "The feature with the class.")
PREPROCESS = flags.DEFINE_string(
    "preprocess", "", 'Ops, e.g. "decode|resize(224)", then PNG; "" copies the files.'
)
TEMPLATES = flags.DEFINE_multi_string("templates", [], "A sentence with {}; may be repeated.")


def main(argv: list[str]) -> None:
    """Writes the split and logs the number of samples."""
    del argv
    label = "" if KIND.value == "retrieval" else LABEL.value
    source = sources.open(SOURCE.value, SPLIT.value, (label,) if label else ())
    count = export.write(
        source,
        Path(OUT.value),
        OUT_SPLIT.value,
        kind=KIND.value,
        label=label,
        preprocess=PREPROCESS.value,
        templates=TEMPLATES.value,
    )
    cli.say(f"wrote {count:,} samples to {Path(OUT.value) / OUT_SPLIT.value}")


start = functools.partial(cli.run, main, needs_config=False)

if __name__ == "__main__":
    start()
