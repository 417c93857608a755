"""Turns weights into a folder that an unmodified open_clip loads as "local-dir:DIR".

    python tools/convert_to_torch.py --checkpoint=runs/large --out=DIR
    python tools/convert_to_torch.py --checkpoint=x.npz --out=DIR \\
        --config=configs/model_h/finetune_336.py

The checkpoint is a workdir, a stage's folder, a CLIPA .npz (with --config=, the stage's config)
or an open_clip folder. The tool writes open_clip_config.json, open_clip_model.safetensors, the
tokenizer, and parity.json, the differences between the embeddings of the two models. Needs
requirements-torch.txt.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.convert import requirements
from clipa_jax.runtime import cli

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Weights of ours.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder to write.", required=True)
CONFIG = cli.define_config()


def main(argv: list[str]) -> None:
    """Convert, and log the differences between the embeddings of the two models."""
    del argv
    requirements.load("convert").to_torch(CHECKPOINT.value, Path(OUT.value), CONFIG.value)


if __name__ == "__main__":
    cli.run(main, needs_config=False)
