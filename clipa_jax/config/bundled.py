"""Files that come with the package: config files, and data of the demo.

In a checkout `configs/` and `data/` lie beside the package. A wheel has the configs and the demo's
vocabulary under the same names inside it.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent


def find(path: str) -> str:
    """`configs/...` and `data/...`: the bundled file unless there is one in this folder."""
    bundled = ROOT / path
    is_ours = path.startswith(("configs/", "data/"))
    return str(bundled) if is_ours and not Path(path).exists() and bundled.exists() else path
