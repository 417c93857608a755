"""Conversion to an open_clip folder, and from one (or from a state_dict) to .npz.

Results are moved to their final place after the parity check.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
import transformers  # noqa: F401, open_clip's tokenizers need it, but open_clip does not require it
from absl import logging
from ml_collections import ConfigDict

from clipa_jax.convert import parity
from clipa_jax.convert import tokenizer as tokenizers
from clipa_jax.convert.staging import staging
from clipa_jax.errors import CheckpointError
from clipa_jax.models import CLIP
from clipa_jax.preprocess import cleaning
from clipa_jax.preprocess.text import Tokenizer, load_tokenizer
from clipa_jax.runtime import files, fingerprint
from clipa_jax.training import workdir
from clipa_jax.weights import keys, npz, open_clip_folder, open_clip_weights, open_weights
from clipa_jax.weights.keys import Json
from clipa_jax.weights.rules import Arrays


def to_torch(checkpoint: str, out: Path, config: ConfigDict | None = None) -> parity.Report:
    """Write weights as a folder that open_clip loads as `local-dir:OUT`.

    `checkpoint` is what `open_weights` takes, `config` that of a stage, for files that carry none.
    Returns the parity report, which is also in OUT/parity.json. Weights that cannot be read, an
    architecture that open_clip lacks or embeddings that differ are a `UserError`.
    """
    with staging(out) as temporary:
        config, model, leaves = open_weights(checkpoint).build(config)
        tokenizer = _tokenizer(config)
        name = tokenizers.name(tokenizer.vocabulary) if tokenizer else "unknown"
        folder = temporary / out.name
        folder.mkdir()
        open_clip_folder.write(folder, model, leaves, config.input, name)
        report = _measure(model, leaves, folder, config, tokenizer)
        written = tokenizer is not None and tokenizers.write(tokenizer.vocabulary, folder)
        report["tokenizer"] = _compare_tokens(folder, config, tokenizer if written else None)
        report["weights"] = f"{fingerprint.of(leaves):08x}"  # as in the report of an evaluation
        files.write_json(folder / open_clip_folder.PARITY, report, indent=2)
        parity.check(report)
    return report


def from_torch(checkpoint: Path, out: Path, model_name: str = "") -> parity.Report:
    """Write an open_clip folder or state_dict as FILE.npz; returns the parity report.

    Its config and the report go beside it. `model_name` is a model that open_clip knows, such as
    ViT-L-14-CLIPA, whose architecture it is; "" for that in the open_clip_config.json beside the
    state_dict. Errors are as in `to_torch`.
    """
    if out.suffix != ".npz":
        raise CheckpointError(f"--out={out}: the name of the result must end in .npz")
    with staging(out) as temporary, tempfile.TemporaryDirectory() as original:
        file, content = _find(checkpoint, model_name)
        config, model, leaves = open_clip_weights(str(checkpoint), file, content).build()
        archive = temporary / out.name
        npz.write(archive, leaves)
        # The state_dict as it is, under names by which open_clip finds it.
        files.write_json(Path(original) / open_clip_folder.CONFIG, content)
        suffix = ".safetensors" if file.suffix == ".safetensors" else ".pth"
        (Path(original) / f"model{suffix}").symlink_to(file.resolve())
        report = _measure(model, npz.read(archive), Path(original), config, _tokenizer(config))
        files.write_json(npz.config_file(archive), workdir.to_json(config), indent=2)
        files.write_json(archive.with_suffix(f".{open_clip_folder.PARITY}"), report, indent=2)
        parity.check(report)
    return report


def _measure(
    model: CLIP, leaves: Arrays, path: Path, config: ConfigDict, tokenizer: Tokenizer | None
) -> parity.Report:
    """Parity with an open_clip folder, loaded as its users load it."""
    images_BRRC = parity.random_images(config.input.res)
    theirs = functools.partial(_embed, path)
    report = parity.measure(model, leaves, config.input, tokenizer, theirs, images_BRRC)
    report["versions"] |= {"torch": torch.__version__, "open_clip_torch": open_clip.__version__}
    return report


def _embed(path: Path, images_BRRC: np.ndarray, tokens_BL: np.ndarray) -> parity.Embeddings:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{path}")
    model.eval()
    with torch.inference_mode():
        images = torch.from_numpy(images_BRRC.transpose(0, 3, 1, 2).copy())
        zimg = model.encode_image(images, normalize=True)
        ztxt = model.encode_text(torch.from_numpy(tokens_BL).long(), normalize=True)
        scale = model.logit_scale.exp()
    return zimg.numpy(), ztxt.numpy(), float(scale)


def _tokenizer(config: ConfigDict) -> Tokenizer | None:
    return load_tokenizer(config.input.vocab) if config.input.vocab else None


def _compare_tokens(path: Path, config: ConfigDict, tokenizer: Tokenizer | None) -> str:
    """The report's line on the tokenizer in the folder; raises if its tokens are not ours."""
    if tokenizer is None:
        logging.warning(
            "the folder has no tokenizer: only WordPiece vocabularies can be written; encode_text "
            "of open_clip then takes the token ids that clipa_jax makes"
        )
        return "not written"
    texts = [*parity.CAPTIONS, *parity.many_scripts()]
    theirs_BL = open_clip.get_tokenizer(f"local-dir:{path}")(texts).numpy()
    cleaned = [cleaning.open_clip(text) for text in texts]
    ours_BL = tokenizer.encode(cleaned, config.input.text_len)
    other = np.flatnonzero((ours_BL != theirs_BL).any(1))
    if len(other):
        raise CheckpointError(
            f"the written tokenizer gives different tokens for {len(other)} of {len(texts)} "
            f"texts, the first {texts[other[0]]!r}: {theirs_BL[other[0]]} for {ours_BL[other[0]]}"
        )
    line = f"equal on {len(texts)} texts that open_clip has cleaned"
    clean = config.input.clean
    if clean != "open_clip":
        line += f"; it cleans every text, and this model has input.clean={clean}"
        logging.info("%s: evaluate with --config.input.clean=open_clip to do the same", line)
    return line


def _find(checkpoint: Path, model_name: str) -> tuple[Path, Json]:
    """(state_dict file, open_clip_config.json of its folder or of the named model)."""
    weights = open_weights(str(checkpoint))
    if weights.kind != "open_clip":
        raise CheckpointError(
            f"--checkpoint={checkpoint} holds weights of kind {weights.kind}; expected an "
            "open_clip folder or a state_dict file"
        )
    file = weights.source
    return file, _named(model_name) if model_name else open_clip_folder.read_config(file.parent)


def _named(name: str) -> Json:
    """The content of open_clip_config.json for a model that open_clip knows by name."""
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None:
        raise CheckpointError(f"open_clip knows no model {name!r}; see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(name)
    pretrained = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    known = set(keys.DEFAULTS["preprocess_cfg"])
    preprocess = [{key: values[key] for key in known & set(values)} for values in pretrained]
    if any(values != preprocess[0] for values in preprocess):
        raise CheckpointError(
            f"open_clip has weights of {name} with more than one preprocessing; put an "
            f"{open_clip_folder.CONFIG} with the right one beside the file"
        )
    return {"model_cfg": model_cfg, "preprocess_cfg": preprocess[0] if preprocess else {}}
