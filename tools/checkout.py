"""Makes clipa_jax importable from this checkout, for the scripts beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
