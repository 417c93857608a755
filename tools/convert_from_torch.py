"""Turns an open_clip model into a .npz archive that `clipa_jax.load` and `--config.init=` take.

    python tools/convert_from_torch.py --checkpoint=DIR --out=FILE.npz
    python tools/convert_from_torch.py --checkpoint=weights.pt --model=ViT-L-14-CLIPA --out=FILE.npz

The checkpoint is a folder with open_clip_config.json and weights, or a state_dict file: safetensors
or torch.save (read with weights_only). The architecture is written to FILE.config.json, and the
differences between the embeddings of the two models to FILE.parity.json. The tool names what our
model does not support. Needs requirements-torch.txt.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.convert import requirements
from clipa_jax.runtime import cli

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder or state_dict.", required=True)
OUT = flags.DEFINE_string("out", None, "The .npz archive to write.", required=True)
MODEL = flags.DEFINE_string("model", "", "Name of the architecture in open_clip, for a state_dict.")


def main(argv: list[str]) -> None:
    """Convert, and log the differences between the embeddings of the two models."""
    del argv
    requirements.load("convert").from_torch(Path(CHECKPOINT.value), Path(OUT.value), MODEL.value)


if __name__ == "__main__":
    cli.run(main)
