"""A config for evaluation alone, as a user would write it; one of its datasets is not there."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from tests.helpers import small_stage  # noqa: E402


def get_config():
    """The evaluators of the small stage."""
    return small_stage.evaluation({"gone": small_stage.NOT_THERE, **small_stage.EVALS})
