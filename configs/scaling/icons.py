"""One point of the inverse scaling grid on icons, both stages; ten times the samples of emoji.

`tools/sweeps/inverse_scaling_icons.sh` overrides size, resolution, rate and seed. The data and the
vocabulary are those of docs/your_data.md with the pairs of data/icons/README.md.
"""

from ml_collections import ConfigDict

from clipa_jax.config import recipes

DATA = "tfds:data/mine/1.0.0"


def get_config():
    c = recipes.schedule("scaling/pretrain", "scaling/finetune")
    for name, samples in (("pretrain", 240_000), ("finetune", 24_000)):
        stage = c[name]
        stage.total_examples = samples
        stage.input.source = DATA
        stage.input.vocab = "vocab.txt"
        stage.input.batch_size = 128
        stage.input.text_len = 8
        stage.model.text.vocab_size = 4_096
        stage.evals = ConfigDict(
            {
                "contrastive": {"type": "contrastive", "source": DATA, "split": "validation"},
                "zero_shot": {
                    "type": "zero_shot",
                    "source": "class_folders:icons/held_out",
                    "split": "all",
                    "label": "label",
                    "templates": "plain",
                },
            }
        )
    c.finetune.optim.lr_per_256 = 1e-3
    return c
