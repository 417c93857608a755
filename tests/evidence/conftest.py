"""One workdir with a small stage, for all tests here."""

import made
import pytest


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A workdir with the finished stage `small`."""
    root = tmp_path_factory.mktemp("evidence") / "W"
    made.stage(root, made.config())
    return root
