"""Adds the config files and the demo's vocabulary to the package; the rest is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies them below clipa_jax/, where `clipa_jax.config.bundled` looks for them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for file in (*Path("configs").rglob("*.py"), *Path("configs").rglob("*.json"), VOCAB):
                target = Path(self.build_lib, "clipa_jax", file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)


VOCAB = Path("data/emoji/vocab.txt")
setup(cmdclass={"build_py": BuildWithConfigs})
