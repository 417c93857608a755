"""Evaluations as records: written with intervals, read again, compared in pairs."""
