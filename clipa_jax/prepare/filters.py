"""Which samples are left out although they could be used, and under what name."""

from clipa_jax.prepare.options import Options
from clipa_jax.prepare.samples import Seen

TOO_SMALL, TOO_LONG = "too_small", "too_elongated"
CAPTION_SHORT, CAPTION_LONG = "caption_too_short", "caption_too_long"


def drop_reason(seen: Seen, options: Options) -> tuple[str, tuple[bytes, ...]]:
    """Why a sample is left out, "" if it is not; and the captions that stay.

    A sample with several captions loses those that do not fit, and is left out when none
    is left, for what is wrong with the first one.
    """
    if seen.reason:
        return seen.reason, ()
    short, long = sorted((seen.height, seen.width))
    if short < options.min_side:
        return TOO_SMALL, ()
    if options.max_aspect and long > options.max_aspect * short:
        return TOO_LONG, ()
    faults = [_fault(caption, options) for caption in seen.captions]
    fine = [text for text, fault in zip(seen.captions, faults, strict=True) if not fault]
    if faults and not fine:
        return faults[0], ()
    return "", tuple(fine)


def _fault(caption: bytes, options: Options) -> str:
    text = caption.decode("utf-8", errors="replace").strip()
    if len(text) < options.min_chars or len(text.split()) < options.min_words:
        return CAPTION_SHORT
    if options.max_chars and len(text) > options.max_chars:
        return CAPTION_LONG
    return ""
