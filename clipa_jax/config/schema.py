"""Every legal key of a stage's config, declared once, with its default.

A stage is one training run: `recipes.stage` sets what all CLIPA stages share, the files in
`configs/` set the rest. `configs/own/` and `configs/finetune/` add keys that `training/derive.py`
turns into others. Keys that end in _examples, _steps, _epochs or _percent are forms of one
duration; set one of them (on the command line it replaces the others). Every key can be overridden
from the shell: `--config.optim.b2=0.98`.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def default() -> ConfigDict:
    """A stage's config with every key; the values that matter come from the recipe."""
    c = ConfigDict()
    c.name = "train"  # the stage; its files go to WORKDIR/<name>
    c.after = ""  # the stage in the same workdir whose weights this one starts from
    c.init = ""  # weights to start from instead: a stage's folder or a weights file; "scratch"
    c.surgery = ()  # load-time edits that those weights may need, see clipa_jax/models/surgery.py
    c.seed = 0  # of the initial weights, the data order, augmentation and masks

    c.total_examples = placeholder(int)  # length of the stage
    c.total_steps = placeholder(int)
    c.total_epochs = placeholder(float)
    c.warmup_examples = placeholder(int)  # linear warm-up of the learning rate
    c.warmup_steps = placeholder(int)
    c.warmup_epochs = placeholder(float)
    c.warmup_percent = placeholder(float)
    c.log_examples = placeholder(int)  # how often metrics are written
    c.log_steps = 50
    c.log_percent = placeholder(float)
    c.eval_examples = placeholder(int)  # how often evaluators run, and at the end; 0 for never
    c.eval_steps = placeholder(int)
    c.eval_percent = 10.0
    c.checkpoint_examples = placeholder(int)  # how often a checkpoint is saved, and at the end
    c.checkpoint_steps = placeholder(int)
    c.checkpoint_percent = 5.0

    c.model = model()
    c.mask = ConfigDict()  # image patches that training leaves out
    c.mask.name = "random"  # of MASKS in clipa_jax/models/masks.py
    c.mask.ratio = 0.0  # share of the patches that is dropped
    c.loss = loss()
    c.microbatch = placeholder(int)  # samples whose activations are held; None: the whole batch
    c.on_nonfinite = "stop"  # the run, or skip the update: if loss or gradient is not finite
    c.max_skips = 10  # consecutive updates that may be skipped; one more stops the run
    c.on_spike = placeholder(str)  # None: only log a spike of the loss; or rollback
    c.max_rollbacks = 3  # per stage; one more spike stops the run
    # XLA options for the step, as "NAME=VALUE NAME=VALUE"; those for other devices are ignored.
    c.compiler_options = ""
    c.profile_steps = ()  # first and last step to trace for TensorBoard and Perfetto: (100, 105)
    c.input = inputs()
    c.optim = optim()

    machine(c)

    c.checkpoint = ConfigDict()
    c.checkpoint.keep_last = 2  # how many of the newest to keep
    c.checkpoint.keep_every = placeholder(int)  # multiples of so many steps are never deleted

    c.logs = logs()
    evaluators(c)
    return c


def evaluation() -> ConfigDict:
    """A config for `clipa_jax.evaluate` alone, to which `evals` is added.

    Keys that are None are taken from the checkpoint's config.
    """
    c = ConfigDict()
    c.input = ConfigDict()
    c.input.res = placeholder(int)
    c.input.text_len = placeholder(int)
    c.input.vocab = placeholder(str)
    c.input.clean = placeholder(str)
    c.input.preprocess_eval = placeholder(str)
    c.model = ConfigDict()
    c.model.dtype = placeholder(str)
    c.model.attention = placeholder(str)
    machine(c)
    evaluators(c)
    return c


def evaluators(c: ConfigDict) -> None:
    """Adds the evaluators; docs/evaluation.md has their keys."""
    # By name: their type and its keys; when="end": not during the stage, only at its end.
    c.evals = ConfigDict()
    c.root = ""  # a folder with evaluation datasets; those of TFDS have their own (TFDS_DATA_DIR)
    c.evals_required = False  # whether missing data is an error; else its evaluators are skipped


def machine(c: ConfigDict) -> None:
    """Adds the keys of devices, mesh and processes."""
    c.mesh = ConfigDict()  # devices along each axis; one may be -1: the rest
    c.mesh.replica = 1  # copies of the parameters
    c.mesh.fsdp = -1  # the batch is split along it; so are parameters, by the preset
    c.mesh.tensor = 1  # single layers are split along it
    c.sharding = ConfigDict()
    c.sharding.preset = "dp"  # dp, fsdp or fsdp_tp
    c.sharding.rules = ()  # overrides: pairs (regex of parameter names, axis of each dimension)
    c.cpu_devices = placeholder(
        int
    )  # on a machine without accelerator: how many devices to simulate
    c.compilation_cache = "workdir"  # of compiled programs: WORKDIR/cache/xla; none, or a folder
    c.distributed = distributed()


def distributed() -> ConfigDict:
    """Several processes as one run."""
    c = ConfigDict()
    c.coordinator = "auto"  # JAX detects a cluster; or none, or HOST:PORT of process 0
    c.processes = placeholder(int)  # with HOST:PORT: their number
    c.process = placeholder(int)  # with HOST:PORT: the index of this one
    c.start_timeout = 300  # seconds to wait for the others at the start
    c.peer_timeout = 60  # seconds after which a dead process ends the others
    return c


def model() -> ConfigDict:
    """The architecture; sizes come from the table in clipa_jax/models/sizes.py."""
    c = ConfigDict()
    c.size = "H/14"  # row of the table / patch
    c.embed_dim = placeholder(int)  # None: the table's
    c.temperature_init = 1 / 0.07  # inverse temperature at the start
    c.temperature_max = 100.0  # its cap; None for none
    c.bias_init = placeholder(float)  # of the logits, for the sigmoid loss; None: no bias
    c.mean = (0.485, 0.456, 0.406)  # of the pixels, which are between 0 and 1; red, green, blue
    c.std = (0.229, 0.224, 0.225)  # the tower sees (pixels - mean) / std
    c.dtype = "float32"  # of the arithmetic: float32 or bfloat16; parameters are float32
    # auto, xla or cudnn: implementations of jax.nn.dot_product_attention; packed: kernels for
    # short sequences on TPU, never taken by auto.
    c.attention = "auto"
    c.layers = "unrolled"  # or scanned: compiles one layer instead of all
    c.unroll = 1  # layers of one iteration of the scan
    c.image = tower()
    c.image.posemb = "sincos2d"  # or learned
    c.image.pre_norm = False  # a norm before the first layer, as in OpenAI's CLIP
    c.image.pool = "gap"  # gap, tok or map
    c.text = tower()
    c.text.vocab_size = 32_000  # rows of the table, at least the vocabulary's size
    c.text.pool = "last"  # last, first, gap, map or argmax
    c.text.causal = False  # whether a token attends only to those before it
    return c


def tower() -> ConfigDict:
    """Keys of both towers."""
    c = ConfigDict()
    c.width = placeholder(int)  # None: the table's, as for the next three
    c.depth = placeholder(int)
    c.mlp_dim = placeholder(int)
    c.num_heads = placeholder(int)
    c.gelu = "tanh"  # tanh (CLIPA), exact (open_clip) or quick (OpenAI)
    c.norm_eps = 1e-6
    # Values that the backward pass recomputes: none, dots, dots_no_batch, full, or all but named
    # ones, any of qkv, attention, out and hidden: qkv+out; auto: as few as the memory allows.
    c.remat = "none"
    return c


def loss() -> ConfigDict:
    """The loss over the global batch, see clipa_jax/losses/."""
    c = ConfigDict()
    c.name = "softmax"  # or sigmoid; softmax_naive and sigmoid_naive hold all B x B logits
    c.duplicates = "keep"  # texts equal to an image's own: keep as negatives, or mask
    return c


def inputs() -> ConfigDict:
    """Training data, and how samples become arrays."""
    c = ConfigDict()
    # KIND:PLACE such as tfds:NAME, see docs/data.md; a mixture as "0.7*tfds:a + 0.3*folder:b",
    # as a dict or as pairs
    c.source = placeholder(object)
    c.split = "train"
    # The field of the captions, or several with their shares: {"re_caption": 0.7, "text": 0.3};
    # None: the first of the usual names that has text.
    c.caption = placeholder(object)
    c.clean = "none"  # how texts are cleaned before they are tokenized: none or open_clip
    c.batch_size = 0  # global
    c.cache = "none"  # or encoded: the samples stay in memory, with random access
    c.order = "auto"  # global: one shuffle of all samples; lanes; auto: global if access is random
    # In the order of lanes: files that all hosts together read side by side; None: 16 for one
    # host, 8 each for two, 4 each for more.
    c.lanes = placeholder(int)
    # Samples that are shuffled together there; None: 16,384, or 1,024 a lane.
    c.shuffle_window = placeholder(int)
    c.max_skip_percent = 1.0  # share of unusable samples above which the run stops
    c.max_pixels = 67_108_864  # of a picture; larger ones are skipped without decoding
    c.res = 0  # pixels a side
    c.text_len = 0  # text tokens
    c.vocab = "bert-base-uncased"  # or a path: WordPiece vocabulary or SentencePiece model
    c.reduction = "truncate"  # of longer captions, see clipa_jax/preprocess/reduce.py
    c.preprocess = ""  # ops on a training sample; {res} and the other keys here are filled in
    c.preprocess_eval = ""  # ops on an image in evaluation
    return c


def optim() -> ConfigDict:
    """AdamW as in the released recipes."""
    c = ConfigDict()
    c.lr_per_256 = 0.0  # the peak learning rate is this times batch_size / 256
    c.schedule = "cosine"  # after warm-up: cosine, linear or constant
    c.b1 = 0.9
    c.b2 = 0.95
    c.eps = 1e-8
    c.mu_dtype = "bfloat16"  # of Adam's first moment
    c.weight_decay = 0.2
    c.decay = "kernels"  # which parameters decay: kernels, all_but_small or none
    c.grad_clip = placeholder(float)  # largest global norm of the gradient
    # Names of parameters in rules are those of checkpoints, with a layer's index, whether or not
    # the layers are scanned: img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel.
    c.lr_rules = ()  # pairs (regex, factor of the learning rate); 0 freezes; first match counts
    c.freeze = placeholder(tuple)  # regexes, or image and text for a whole tower; None: nothing
    c.layer_decay = placeholder(float)  # factor of the learning rate per layer below the top
    return c


def logs() -> ConfigDict:
    """Destinations of metrics besides metrics.jsonl."""
    c = ConfigDict()
    c.tensorboard = True
    c.wandb_project = ""  # Weights & Biases project; "" for none
    c.wandb_entity = ""  # its owner; the key comes from the environment or `wandb login`
    c.wandb_name = ""  # of the run; "" for the name of the folder
    c.wandb_mode = "online"  # or offline
    c.compare = ()  # drawn beside this run's accuracy: workdirs, or a recorded curve (.json)
    return c


def schedule(stages: dict[str, ConfigDict]) -> ConfigDict:
    """All stages of a model, by name and in order, as one config.

    `--config.pretrain.optim.b2=0.98` overrides a key of one stage, `--config.all.seed=1` of all of
    them.
    """
    c = ConfigDict()
    c.stages = tuple(stages)  # which to train, in order
    c.all = unset(next(iter(stages.values())))  # values set here apply to every stage
    for name, stage in stages.items():
        c[name] = stage
    return c


def allows_none(key: str) -> bool:
    """Whether None is legal for a key of a stage, such as `optim.grad_clip`."""
    value: Any = default()
    for part in key.split("."):
        if not isinstance(value, ConfigDict) or part not in value:
            return False
        value = value[part]
    return value is None or key == "model.temperature_max"


def unset(config: ConfigDict) -> ConfigDict:
    """The same keys, all None, of any type."""
    c = ConfigDict()
    for key, value in config.items():
        c[key] = unset(value) if isinstance(value, ConfigDict) else placeholder(object)
    return c
