"""LiT: fine-tune the text tower alone, to a frozen image tower (arXiv 2111.07991).

python -m clipa_jax.train --config=configs/finetune/lit.py --workdir=W \\
    --config.init=clipa-l14-datacomp1b --config.input.source=tfds:data/pairs/1.0.0

`:small_memory` is for devices of 16 to 24 GB. With `--config.surgery="('fresh:txt/.*',)"` and
`--config.input.vocab=vocab.txt` the text tower is trained from scratch on its own vocabulary; raise
`optim.lr_per_256` then, as to 1e-4.
"""

from clipa_jax.config import recipes


def get_config(variant=""):
    c = recipes.load("finetune/domain", variant)
    c.optim.freeze = ("image",)
    c.optim.layer_decay = None
    c.optim.lr_per_256 = 2e-5
    c.batch_per_device = 1_024
    return c
