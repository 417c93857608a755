"""Conversion of weights to and from open_clip, and export. PyTorch is needed for the former."""

import functools
from pathlib import Path

from absl import flags

from clipa_jax.convert import export, requirements
from clipa_jax.runtime import cli

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The weights to convert.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder or .npz archive to write.", required=True)
MODEL = flags.DEFINE_string("model", "", "Name of the architecture in open_clip, for a state_dict.")
FORMAT = flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx"], "Of an export.")
CONFIG = cli.define_config()


def to_torch(argv: list[str]) -> None:
    """Turns weights into a folder that an unmodified open_clip loads as "local-dir:DIR".

        python tools/convert_to_torch.py --checkpoint=runs/large --out=DIR
        python tools/convert_to_torch.py --checkpoint=x.npz --out=DIR \\
            --config=configs/model_h/finetune_336.py

    The checkpoint is a workdir, a stage's folder, a CLIPA .npz (with --config=, the stage's config)
    or an open_clip folder. Writes open_clip_config.json, open_clip_model.safetensors, the
    tokenizer, and parity.json, the differences between the embeddings of the two models.
    """
    del argv
    requirements.load("convert").to_torch(CHECKPOINT.value, Path(OUT.value), CONFIG.value)


def from_torch(argv: list[str]) -> None:
    """Turns an open_clip model into a .npz archive that `clipa_jax.load` and `init` take.

        python tools/convert_from_torch.py --checkpoint=DIR --out=FILE.npz
        python tools/convert_from_torch.py --checkpoint=weights.pt --model=ViT-L-14-CLIPA \\
            --out=FILE.npz

    The checkpoint is a folder with open_clip_config.json and weights, or a state_dict file:
    safetensors or torch.save (read with weights_only). The architecture is written to
    FILE.config.json, and the differences between the embeddings of the two models to
    FILE.parity.json. Names what our model does not support.
    """
    del argv
    requirements.load("convert").from_torch(Path(CHECKPOINT.value), Path(OUT.value), MODEL.value)


def exported(argv: list[str]) -> None:
    """Writes a model as files that run without this package, as StableHLO or ONNX.

        python tools/export.py --checkpoint=runs/demo --out=exported
        python tools/export.py --checkpoint=W --out=exported --format=onnx

    The checkpoint is anything that `clipa_jax.load` takes. Both towers are compared with the model
    before the folder gets its final name. docs/export.md has a client for each format.
    """
    del argv
    onnx = FORMAT.value == "onnx"
    write = requirements.load("onnx").write if onnx else export.stablehlo
    export.export(CHECKPOINT.value, Path(OUT.value), write, CONFIG.value)


start_to_torch = functools.partial(cli.run, to_torch, doc=to_torch.__doc__, needs_config=False)
start_from_torch = functools.partial(
    cli.run, from_torch, doc=from_torch.__doc__, needs_config=False
)
start_export = functools.partial(cli.run, exported, doc=exported.__doc__, needs_config=False)
