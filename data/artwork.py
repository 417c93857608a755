"""Drawings from npm packages, rendered: what the scripts that build datasets share."""

import functools
import io
import pathlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from typing import Any

from PIL import Image

from clipa_jax.errors import UserError

RENDERER = "resvg-py==0.5.0"


def fetch(package: str, cache: pathlib.Path) -> pathlib.Path:
    """Returns the package's archive in `cache`; npm fetches it if it is missing."""
    archive = cache / (package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz")
    if archive.exists():
        return archive
    if shutil.which("npm") is None:
        raise UserError(
            f"{archive} is missing and npm, which would fetch it, is not on the PATH; "
            "install npm or put the archive there yourself"
        )
    cache.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=cache, capture_output=True, text=True
    )
    if done.returncode or not archive.exists():
        raise UserError(f"npm pack {package} gave no {archive}:\n{done.stdout}{done.stderr}")
    return archive


def members(archive: pathlib.Path, pattern: str) -> dict[str, bytes]:
    """Reads the files whose path matches; keys are the pattern's first group."""
    contents = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            match = re.fullmatch(pattern, member.name)
            if match and (file := tar.extractfile(member)):
                contents[match[1]] = file.read()
    if not contents:
        raise UserError(f"{archive} has no file like {pattern!r}; is it the expected version?")
    return contents


def iconify_svg(icon: Mapping[str, Any], icons: Mapping[str, Any], side: int, flip=False) -> str:
    """The SVG of a drawing of an Iconify set, in the frame that Iconify gives it."""
    size = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (icon.get(k, icons.get(k, value)) for k, value in size.items())
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{side}" height="{side}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


@functools.cache
def _renderer():
    try:
        import resvg_py  # only here: rebuilding is rare, and reading the data must not need it
    except ImportError as error:
        raise UserError(f"SVG needs a renderer: pip install {RENDERER}") from error
    return resvg_py


def render(svg: str, side: int) -> bytes:
    """The PNG of an SVG, `side` pixels wide and high, without the fonts of the system."""
    return _renderer().svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)


def on_white(image: bytes) -> Image.Image:
    """A picture with its transparent parts white, RGBA."""
    rgba = Image.open(io.BytesIO(image)).convert("RGBA")
    flat = Image.new("RGBA", rgba.size, "white")
    flat.alpha_composite(rgba)
    return flat
