"""One workdir with a small stage, for all tests here."""

import pytest

from tests.helpers import small_stage


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A workdir with the finished stage `small`."""
    root = tmp_path_factory.mktemp("evidence") / "W"
    small_stage.stage(root, small_stage.config())
    return root
