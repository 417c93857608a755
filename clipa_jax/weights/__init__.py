"""Weights by name in every format that is read or written."""
