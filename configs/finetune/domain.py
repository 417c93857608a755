"""Fine-tune trained weights on your pairs: both towers, lower layers at smaller rates.

python -m clipa_jax.train --config=configs/finetune/domain.py --workdir=W \\
    --config.init=clipa-l14-datacomp1b --config.input.source=tfds:data/pairs/1.0.0

`:small_memory` is for devices of 16 to 24 GB, such as v5e chips: micro-batches of 64 samples a
device, with the gradient of the whole batch.
Model, vocabulary and resolution are those of the weights, batch and length follow from the number
of pairs and the devices (`clipa_jax/training/derive.py` has the rules). Rate, weight decay and
schedule: arXiv 2212.00638, with a warm-up of a tenth.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipa_jax.config import recipes


def get_config(variant=""):
    recipes.check_variant(variant, "small_memory")
    c = recipes.follow(recipes.stage("finetune"), "finetune", after="")
    c.surgery = ("image_positions", "text_positions")  # for another input.res or input.text_len
    c.warmup_percent = 10.0
    c.log_percent, c.log_steps = 2.0, None
    c.eval_percent = 25.0
    recipes.recompute(c, image="full", text="none")
    recipes.as_weights(c)
    c.model.dtype = ""  # derived, like all that is 0, "" or None
    c.sharding.preset = "fsdp"
    c.input.preprocess = recipes.augmentation(jitter=0.0)
    c.input.cache = ""
    c.input.shuffle_window = 0
    c.optim.lr_per_256 = 5e-6
    c.optim.layer_decay = 0.75
    c.optim.weight_decay = 0.1
    c.optim.b2 = 0.98
    c.optim.grad_clip = 1.0
    held_out = {"source": placeholder(str), "split": "validation"}
    c.evals = ConfigDict({"retrieval": {"type": "retrieval", **held_out}})
    c.pairs = placeholder(int)  # that training reads; None: those of the source
    c.minutes = placeholder(float)  # of training and evaluation
    c.samples_per_root, c.passes = 1_000.0, 10.0
    c.batch_per_device = 256
    c.microbatch_per_device = 64 if variant else 0
    return c
