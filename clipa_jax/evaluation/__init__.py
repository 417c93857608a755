"""Evaluations as evidence: written down with intervals, read again, and compared in pairs."""

from clipa_jax.evaluation.record import NAME, make, run, values, write

__all__ = ["NAME", "make", "run", "values", "write"]
