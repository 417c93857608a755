"""What became of the samples: counts by name, and where the first few of each are."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NAMED = 5  # of each kind


@dataclass
class Tally:
    """Counts that can be added up, in any order.

    Attributes:
      counts: by name.
      rows: by name, places in the input of the first ones.
    """

    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, count: int = 1, rows: Iterable[int] = ()) -> None:
        """Counts something, and where it was, if that is among the first places."""
        self.counts[name] = self.counts.get(name, 0) + count
        both = {*self.rows.get(name, ()), *rows}
        if both:
            self.rows[name] = sorted(both)[:NAMED]

    def merge(self, other: "Tally") -> "Tally":
        """Adds another one's counts; returns itself."""
        for name, count in other.counts.items():
            self.add(name, count, other.rows.get(name, ()))
        return self

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"counts": self.counts, "rows": self.rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Tally":
        """What `as_dict` gave."""
        return cls(dict(values["counts"]), {name: list(r) for name, r in values["rows"].items()})
