"""Estimates of memory, time and cost of every stage, before launching."""
