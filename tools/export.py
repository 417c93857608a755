"""Writes a model as files that run without this package, as StableHLO or ONNX.

    python tools/export.py --checkpoint=runs/demo --out=exported
    python tools/export.py --checkpoint=W --out=exported --format=onnx

The checkpoint is whatever `clipa_jax.load` takes. Both towers are compared with the model before
the folder gets its name. docs/export.md has a client for each format.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax

from clipa_jax.convert import export, requirements
from clipa_jax.runtime import cli

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Weights of ours.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder to write.", required=True)
FORMAT = flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx"], "Of the two towers.")
CONFIG = cli.define_config()


def main(argv: list[str]) -> None:
    """Exports, and logs the differences between the embeddings of both sides."""
    del argv
    onnx = FORMAT.value == "onnx"
    write = requirements.load("onnx").write if onnx else export.stablehlo
    export.export(CHECKPOINT.value, Path(OUT.value), write, CONFIG.value)


if __name__ == "__main__":
    cli.run(main, needs_config=False)
