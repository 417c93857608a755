"""Counts of samples by name, with the places of the first few of each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FIRST_ROWS = 5  # places that are kept for each name


@dataclass
class Counters:
    """Counts by name that can be added up in any order."""

    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)  # the first places in the input

    def add(self, name: str, count: int = 1, rows: Iterable[int] = ()) -> None:
        """Adds to a count; `rows` are the places of what is counted."""
        self.counts[name] = self.counts.get(name, 0) + count
        places = {*self.rows.get(name, ()), *rows}
        if places:
            self.rows[name] = sorted(places)[:FIRST_ROWS]

    def merge(self, other: "Counters") -> "Counters":
        """Adds the counts of another object; returns itself."""
        for name, count in other.counts.items():
            self.add(name, count, other.rows.get(name, ()))
        return self

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {"counts": self.counts, "rows": self.rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Counters":
        """The inverse of `as_dict`."""
        return cls(dict(values["counts"]), {name: list(r) for name, r in values["rows"].items()})
