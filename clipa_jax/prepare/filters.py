"""Filters on picture size, caption length, similarity, and likeness to evaluation pictures."""

from clipa_jax.prepare.near_duplicates import Excluded
from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Sample

TOO_SMALL, TOO_LONG = "too_small", "too_elongated"
LOW_SCORE = "low_score"
NEAR = "near duplicate of "  # before the name of an evaluation set
CAPTION_SHORT, CAPTION_LONG = "caption_too_short", "caption_too_long"


def drop_reason(
    sample: Sample,
    options: Options,
    score: float | None = None,
    excluded: Excluded | None = None,
) -> tuple[str, tuple[bytes, ...]]:
    """The reason to drop a sample, "" to keep it, and the captions that pass.

    A sample with several captions loses those that fail, and is dropped for the fault of the
    first one when none is left.
    """
    if sample.reason:
        return sample.reason, ()
    short, long = sorted((sample.height, sample.width))
    if short < options.min_side:
        return TOO_SMALL, ()
    if options.max_aspect and long > options.max_aspect * short:
        return TOO_LONG, ()
    if score is not None and not score >= options.min_score:  # true of NaN, too
        return LOW_SCORE, ()
    like = excluded.like(sample.hash) if excluded else ""
    if like:
        return NEAR + like, ()
    faults = [_fault(caption, options) for caption in sample.captions]
    passed = [text for text, fault in zip(sample.captions, faults, strict=True) if not fault]
    if faults and not passed:
        return faults[0], ()
    return "", tuple(passed)


def _fault(caption: bytes, options: Options) -> str:
    text = caption.decode("utf-8", errors="replace").strip()
    if len(text) < options.min_chars or len(text.split()) < options.min_words:
        return CAPTION_SHORT
    if options.max_chars and len(text) > options.max_chars:
        return CAPTION_LONG
    return ""
