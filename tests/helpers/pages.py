"""Commands of a page of the documentation, run as they stand there.

All run in one process, since importing TensorFlow and JAX takes longest.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def commands(page: str, language: str) -> Iterator[list[str]]:
    """The commands in the blocks of a page that match a language, "" for none; as for `run_tools`.

    A block of Python is one command.
    """
    text = (ROOT / page).read_text()
    for name, block in re.findall(r"```(\w*)\n(.+?)```", text, re.DOTALL):
        if name == "python" and name in language:
            yield ["-c", block]
        elif name != "python" and name in language.split("|"):
            for line in block.replace("\\\n", " ").strip().splitlines():
                words = shlex.split(line)
                yield words[words[0] == "python" :]


def prepare(folder: Path) -> Path:
    """A folder in which commands find `tools` and `configs` as in a checkout."""
    for name in ("tools", "configs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(
    page: Iterable[list[str]],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    status: int = 0,
) -> str:
    """Runs the commands in a folder, and returns what they print to standard error.

    `status` is expected of the last one.
    """
    words = [word for command in page for word in (*command, "--")]
    path = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.run_tools", *words],
        cwd=folder,
        env=os.environ | path | dict(variables or {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, f"{done.stdout[-2_000:]}{done.stderr[-6_000:]}"
    return done.stderr
