"""Writes a split of any source in CLIP_benchmark's layout of webdatasets.

    python tools/export_webdataset.py --source=tfds:data/emoji/1.0.0 --split=heldout_vendor \\
        --label=concept --preprocess="decode|resize(48)" --templates="{}" --out=DIR
    python tools/export_webdataset.py --source=tfds:data/emoji/1.0.0 --split=heldout_vendor \\
        --kind=retrieval --out=DIR

DIR gets test/0.tar, ..., test/nshards.txt, dataset_type.txt and, but for retrieval, classnames.txt
and zeroshot_classification_templates.txt. CLIP_benchmark reads it as `--dataset wds/NAME
--dataset_root DIR`, we as `clip_benchmark:DIR`.
"""

from pathlib import Path

from absl import flags

from clipa_jax.data import export, sources
from clipa_jax.runtime import cli


def main(argv: list[str]) -> None:
    """Writes the split and logs the number of samples."""
    del argv
    given = flags.FLAGS
    label = "" if given.kind == "retrieval" else given.label
    source = sources.open(given.source, given.split, (label,) if label else ())
    count = export.write(
        source,
        Path(given.out),
        given.out_split,
        kind=given.kind,
        label=label,
        preprocess=given.preprocess,
        templates=given.templates,
    )
    cli.say(f"wrote {count:,} samples to {Path(given.out) / given.out_split}")


def start() -> None:
    """Runs the command line."""
    flags.DEFINE_string("source", None, "Such as tfds:data/emoji/1.0.0.", required=True)
    flags.DEFINE_string("split", None, "Of the source.", required=True)
    cli.writes_to_disk(flags.DEFINE_string("out", None, "Folder to write.", required=True))
    flags.DEFINE_string("out_split", "test", "What the split is called there.")
    flags.DEFINE_string("kind", "classification", "Or multilabel, or retrieval.")
    flags.DEFINE_string("label", "label", "The feature with the class.")
    ops = 'Ops, e.g. "decode|resize(224)", then PNG; "" copies the files.'
    flags.DEFINE_string("preprocess", "", ops)
    flags.DEFINE_multi_string("templates", [], "A sentence with {}; may be repeated.")
    cli.run(main, needs_config=False)
