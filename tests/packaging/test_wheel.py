"""The wheel, installed into an environment of its own outside the checkout."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "clipa_jax",
    "configs",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "data/emoji/vocab.txt",
)
CONFIG = """
from clipa_jax.config import recipes


def get_config():
    c = recipes.load("demo/pretrain")  # of the installed package, with its vocabulary
    c.name, c.total_examples, c.total_steps = "own", None, 2
    c.input.source = "tfds:{data}"
    c.input.split, c.input.batch_size, c.input.cache = "heldout_pictures", 8, "none"
    c.model.image.depth = c.model.text.depth = 1
    c.model.image.width = c.model.text.width = 24
    c.log_percent, c.log_steps, c.eval_percent = None, 1, 0.0
    c.logs.tensorboard = False
    return c
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    uv = shutil.which("uv")
    build = [uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", out]
    if uv is None:
        build = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "-w",
            out,
        ]
    call([*build, source], source)
    (file,) = out.glob("*.whl")
    return file


def call(command: list, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command that must succeed, without the checkout on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiles in half the time
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The folder of the commands in a new environment; requirements are those of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    install = [uv, "pip", "install", "--python", python]
    if uv is None:
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index"]
    call([*install, "--no-deps", wheel], folder)
    # Found after the new environment, and without its .pth files: an editable install.
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "requirements.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def test_the_wheel_has_configs_and_vocabulary_inside_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "clipa_jax",
        next(name for name in names if ".dist-info" in name).split("/")[0],
    }
    packed = {Path(name) for name in names if name.startswith("clipa_jax/configs/")}
    source = [file for kind in ("*.py", "*.json") for file in (ROOT / "configs").rglob(kind)]
    assert packed == {"clipa_jax" / file.relative_to(ROOT) for file in source}
    assert "clipa_jax/data/emoji/vocab.txt" in names and "clipa_jax/report/assets/page.js" in names
    code = {
        f"clipa_jax/{f.relative_to(ROOT / 'clipa_jax')}" for f in ROOT.glob("clipa_jax/**/*.py")
    }
    assert code <= set(names)


def test_every_command_names_a_function_that_exists():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for command, place in scripts.items():
        module, function = place.split(":")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in names, f"{command} = {place}"


def test_two_steps_with_an_own_config_from_another_folder(programs, tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG.format(data=ROOT / "data/emoji/1.0.0"))
    call([programs / "clipa-train", "--config=mine.py", "--workdir=W"], tmp_path)
    lines = (tmp_path / "W" / "own" / "metrics.jsonl").read_text().splitlines()
    assert [record["step"] for record in map(json.loads, lines) if "loss" in record] == [1, 2]


def test_the_recipes_of_the_package_are_found_by_their_name_in_the_repository(programs, tmp_path):
    plan = [programs / "clipa-plan", "--config=configs/model_h/schedule.py", "--device=h200"]
    done = call([*plan, "--stages=finetune_336", "--json=-"], tmp_path)
    assert json.loads(done.stdout)["stages"][0]["image_tokens"] == 346


def test_the_help_of_a_command_shows_its_text_and_flags(programs, tmp_path):
    command = [str(programs / "clipa-plan"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Estimates memory, time and cost" in done.stdout and "--topology" in done.stdout
