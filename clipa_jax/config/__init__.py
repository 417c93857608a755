"""Configs: every key with its default, recipes, durations, and reading without unread keys."""
