"""A config for evaluation alone, as a user would write it; one of its datasets is not there."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import made  # noqa: E402


def get_config():
    """The evaluators of the small stage."""
    return made.evaluation({"gone": made.NOT_THERE, **made.EVALS})
