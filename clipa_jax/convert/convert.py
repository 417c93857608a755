"""The two journeys: to an open_clip folder, and from one (or from a state_dict) to .npz.

A result is built under another name, compared with its origin by `parity`, and takes its own
name only when both sides agree; nothing half-done is left behind.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import transformers  # noqa: F401, open_clip's tokenizers need it but do not ask for it
from absl import logging
from ml_collections import ConfigDict

from clipa_jax.convert import parity
from clipa_jax.convert import tokenizer as tokenizers
from clipa_jax.errors import CheckpointError, DataError
from clipa_jax.models import CLIP
from clipa_jax.preprocess.text import Tokenizer, load_tokenizer
from clipa_jax.runtime import files
from clipa_jax.training import workdir
from clipa_jax.weights import OpenClipWeights, keys, npz, open_clip_folder, open_weights, rules

REPORT = "parity.json"


def to_torch(checkpoint: str, out: Path, config: ConfigDict | None = None) -> parity.Report:
    """Writes weights as a folder that open_clip loads as `local-dir:OUT`.

    Args:
      checkpoint: what `open_weights` takes.
      out: the folder; must not exist.
      config: a stage's config; needed for files that do not carry one.

    Returns:
      The parity report, which is also in OUT/parity.json.

    Raises:
      UserError: the weights cannot be read or do not fit, open_clip has no such
        architecture, or the embeddings of the two sides differ.
    """
    _check_free(out)
    config, model, leaves = open_weights(checkpoint).build(config)
    inputs = config.input
    tokenizer = load_tokenizer(inputs.vocab) if inputs.vocab else None
    name = tokenizers.name(tokenizer.vocabulary) if tokenizer else "unknown"
    content, state = open_clip_folder.from_ours(model, leaves, inputs, name)

    def build(part: Path) -> parity.Report:
        part.mkdir()
        open_clip_folder.write(part, content, state)
        report = _compare(model, leaves, part, inputs, tokenizer)
        written = tokenizer is not None and tokenizers.write(tokenizer.vocabulary, part)
        report["tokenizer"] = _compare_tokens(part, inputs, tokenizer if written else None)
        files.write_json(part / REPORT, report, indent=2)
        return report

    return _build(out, build)


def from_torch(checkpoint: Path, out: Path, model_name: str = "") -> parity.Report:
    """Writes an open_clip model as a .npz archive, its config and the report beside it.

    Args:
      checkpoint: an open_clip folder, or a file with a state_dict: safetensors, or written by
        `torch.save`. A file's architecture is in the open_clip_config.json beside it, or
        is that of `model_name`.
      out: FILE.npz; FILE.config.json and FILE.parity.json are written too.
      model_name: a model that open_clip knows, for example ViT-L-14-CLIPA.

    Returns:
      The parity report.

    Raises:
      UserError: the files cannot be read, our model does not support the architecture
        (named), or the embeddings of the two sides differ.
    """
    if out.suffix != ".npz":
        raise CheckpointError(f"--out={out}: the name of the result must end in .npz")
    _check_free(out)
    weights = _open(checkpoint, model_name)
    config, model, leaves = weights.build()
    tokenizer = load_tokenizer(config.input.vocab) if config.input.vocab else None
    sidecars = (npz.config_file(out), out.with_suffix(f".{REPORT}"))

    def build(part: Path) -> parity.Report:
        npz.write(part, leaves)
        with tempfile.TemporaryDirectory() as original:
            # The files as they came, under names by which open_clip finds them.
            files.write_json(Path(original) / open_clip_folder.CONFIG, weights.content, indent=2)
            suffix = ".safetensors" if weights.file.suffix == ".safetensors" else ".pth"
            (Path(original) / f"model{suffix}").symlink_to(weights.file.resolve())
            report = _compare(model, npz.read(part), Path(original), config.input, tokenizer)
        files.write_json(sidecars[0], workdir.to_json(config), indent=2)
        files.write_json(sidecars[1], report, indent=2)
        return report

    return _build(out, build, sidecars)


def _build(
    out: Path, build: Callable[[Path], parity.Report], sidecars: tuple[Path, ...] = ()
) -> parity.Report:
    """Calls `build` with a temporary name beside `out`; renames the result if parity holds.

    If it does not, `sidecars` are removed as well.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".part-{out.name}")
    _remove(part)
    try:
        report = build(part)
        parity.log(report)
        parity.check(report)
        part.rename(out)
    except BaseException:
        for file in sidecars:
            file.unlink(missing_ok=True)
        raise
    finally:
        _remove(part)
    return report


def _compare(
    model: CLIP, leaves: rules.Arrays, path: Path, inputs: Any, tokenizer: Tokenizer | None
) -> parity.Report:
    tokens_BL = parity.random_tokens(model.txt.config.vocab_size, inputs.text_len)
    if tokenizer:
        captions_BL = tokenizer.encode(parity.CAPTIONS, inputs.text_len)
        tokens_BL = np.concatenate([captions_BL, tokens_BL])
    return parity.measure(model, leaves, path, res=inputs.res, tokens_BL=tokens_BL)


def _compare_tokens(path: Path, inputs: Any, tokenizer: Tokenizer | None) -> str:
    """What the report says of the tokenizer in the folder.

    Raises:
      CheckpointError: it gives other tokens than ours.
    """
    if tokenizer is None:
        logging.warning(
            "the folder has no tokenizer: only WordPiece vocabularies can be written; encode_text "
            "of open_clip then takes the token ids that clipa_jax makes"
        )
        return "not written"
    theirs_BL = open_clip.get_tokenizer(f"local-dir:{path}")(list(parity.CAPTIONS)).numpy()
    ours_BL = tokenizer.encode(parity.CAPTIONS, inputs.text_len)
    if not np.array_equal(ours_BL, theirs_BL):
        raise CheckpointError(
            f"the tokenizer that was written gives other tokens: {theirs_BL} for {ours_BL}"
        )
    return f"equal on {len(ours_BL)} captions"


def _open(checkpoint: Path, model_name: str) -> OpenClipWeights:
    """The weights, with the open_clip_config.json of their folder or of a model known by name."""
    weights = open_weights(str(checkpoint))
    if not isinstance(weights, OpenClipWeights):
        raise CheckpointError(
            f"--checkpoint={checkpoint} holds weights of kind {weights.kind}; expected an "
            "open_clip folder or a state_dict file"
        )
    folder = weights.file.parent
    content = _named(model_name) if model_name else open_clip_folder.read_config(folder)
    return dataclasses.replace(weights, content=content)


def _named(name: str) -> dict[str, Any]:
    """The content of open_clip_config.json for a model that open_clip knows by name."""
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None:
        raise CheckpointError(f"open_clip knows no model {name!r}; see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(name)
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    ways = [{key: way[key] for key in keys.PREPROCESS if key in way} for way in known]
    if any(way != ways[0] for way in ways):
        raise CheckpointError(
            f"open_clip has weights of {name} with more than one preprocessing; put an "
            f"{open_clip_folder.CONFIG} with the right one beside the file"
        )
    return {"model_cfg": model_cfg, "preprocess_cfg": ways[0] if ways else {}}


def _check_free(out: Path) -> None:
    if out.exists():
        raise DataError(f"{out} exists already; move it away or choose another --out")


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
