"""Turns an open_clip model into a .npz archive that `clipa_jax.load` and `--config.init=` take.

    python tools/convert_from_torch.py --checkpoint=DIR --out=FILE.npz
    python tools/convert_from_torch.py --checkpoint=weights.pt --model=ViT-L-14-CLIPA --out=FILE.npz

The checkpoint is a folder with open_clip_config.json and weights, or a state_dict: safetensors,
or written by torch.save (read with weights_only). FILE.config.json gets the architecture and
FILE.parity.json how far the embeddings of the two sides are apart. What our model does not
support is refused by name. Needs requirements-torch.txt.
"""

import sys
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).parents[1]))  # for clipa_jax and configs

from clipa_jax.runtime import cli

try:
    from clipa_jax.convert import convert
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: pip install -r requirements-torch.txt")

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder or state_dict.", required=True)
OUT = flags.DEFINE_string("out", None, "The .npz archive to make.", required=True)
MODEL = flags.DEFINE_string("model", "", "Name of the architecture in open_clip, for a state_dict.")


def main(argv: list[str]) -> None:
    """Converts; the log says how far the two sides are apart."""
    del argv
    convert.from_torch(Path(CHECKPOINT.value), Path(OUT.value), MODEL.value)


if __name__ == "__main__":
    cli.run(main)
