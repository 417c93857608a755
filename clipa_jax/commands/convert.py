"""Conversion of weights to and from open_clip, and export. PyTorch is needed for the former."""

from collections.abc import Callable
from pathlib import Path

from absl import flags

from clipa_jax.convert import export, requirements
from clipa_jax.runtime import cli

FLAGS = flags.FLAGS


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
    requirements.load("convert").to_torch(FLAGS.checkpoint, Path(FLAGS.out), FLAGS.config)


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
    requirements.load("convert").from_torch(Path(FLAGS.checkpoint), Path(FLAGS.out), FLAGS.model)


def exported(argv: list[str]) -> None:
    """Writes a model as files that run without this package, as StableHLO or ONNX.

        python tools/export.py --checkpoint=runs/demo --out=exported
        python tools/export.py --checkpoint=W --out=exported --format=onnx

    The checkpoint is anything that `clipa_jax.load` takes. Both towers are compared with the model
    before the folder gets its final name. docs/export.md has a client for each format.
    """
    del argv
    onnx = FLAGS.format == "onnx"
    write = requirements.load("onnx").write if onnx else export.stablehlo
    export.export(FLAGS.checkpoint, Path(FLAGS.out), write, FLAGS.config)


def _checkpoint() -> flags.FlagHolder:
    return flags.DEFINE_string("checkpoint", None, "The weights to convert.", required=True)


def _run(main: Callable[[list[str]], None]) -> None:
    cli.writes_to_disk(
        flags.DEFINE_string("out", None, "The folder or .npz archive to write.", required=True)
    )
    cli.run(main, doc=main.__doc__, needs_config=False)


def start_to_torch() -> None:
    """Runs the command line of `to_torch`."""
    _checkpoint()
    cli.define_config()
    _run(to_torch)


def start_from_torch() -> None:
    """Runs the command line of `from_torch`."""
    cli.reads_from_disk(_checkpoint())
    flags.DEFINE_string("model", "", "Name of the architecture in open_clip, for a state_dict.")
    _run(from_torch)


def start_export() -> None:
    """Runs the command line of `exported`."""
    _checkpoint()
    flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx"], "Of the files.")
    cli.define_config()
    _run(exported)
