"""Every published command with a `--config=` resolves: its keys exist, its stages form a chain."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from clipa_jax.config import schedules
from clipa_jax.runtime import arguments, cli

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "TPU_USAGE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "data").glob("*/README.md")),
    *sorted((ROOT / "configs").rglob("*.py")),
]
BLOCK = re.compile(r"```(\w*)\n(.+?)```", re.DOTALL)
TRAINING = ("clipa_jax.train", "clipa-train", "pod.py run", "pod.py keep", "slurm/submit.py")
RECIPES = ("configs/demo", "configs/scaling")  # that name their data


def commands(page: Path) -> list[str]:
    """The commands of a page's blocks, or of a config's docstring, each in one line."""
    text = page.read_text()
    if page.suffix == ".py":
        blocks = [text.split('"""')[1].replace("\\\\\n", "\\\n")]
    else:
        blocks = [block for language, block in BLOCK.findall(text) if language != "python"]
    joined = [re.sub(r"\\\n\s*", "", block) for block in blocks]
    lines = [line for block in joined for line in block.splitlines()]
    return [line for line in lines if "--config=" in line and "--config=..." not in line]


FOUND = [(page, line) for page in PAGES for line in commands(page)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout's configs, and those that docs/fork_a_recipe.md makes."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    blocks = BLOCK.findall((ROOT / "docs/fork_a_recipe.md").read_text())
    subprocess.run(["bash", "-ec", blocks[0][1]], cwd=tmp_path, check=True)
    (code,) = (block for language, block in blocks if language == "python")
    (tmp_path / "my_configs" / "schedule.py").write_text(code)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("page", "line"), FOUND, ids=[f"{page.relative_to(ROOT)}-{line}" for page, line in FOUND]
)
@pytest.mark.usefixtures("folder")
def test_a_published_command_resolves(page, line, monkeypatch):
    words = [word for word in shlex.split(line) if word.startswith("--config")]
    config = resolve(words, monkeypatch)
    if not any(name in line for name in TRAINING):
        return
    stages, earlier = schedules.split(config), [""]
    for stage in stages:
        assert stage.input.source or page.suffix == ".py" or any(name in line for name in RECIPES)
        assert stage.after in earlier or len(stages) == 1
        earlier.append(stage.name)


def resolve(arguments_of_config, monkeypatch):
    """The config of a command line, parsed on flags of its own."""
    values = flags.FlagValues()
    define = functools.partial(config_flags.DEFINE_config_file, flag_values=values)
    monkeypatch.setattr(config_flags, "DEFINE_config_file", define)
    monkeypatch.setattr(flags, "FLAGS", values)
    holder = cli.define_config()
    argv = ["command", *arguments_of_config]
    monkeypatch.setattr(sys, "argv", argv)
    arguments.parse(argv)
    return holder.value


def test_commands_are_found():
    pages = {str(page.relative_to(ROOT)) for page, _ in FOUND}
    assert len(FOUND) > 60 and {"README.md", "TPU_USAGE.md", "docs/fork_a_recipe.md"} <= pages
