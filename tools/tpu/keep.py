"""Keeps a run going on spot slices: `pod.py keep` creates, sets up, runs, watches and recreates.

What was spent is in a file, so that keep itself can be stopped and started again.
"""

import argparse
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Command = list[str]
Step = Callable[[argparse.Namespace], Iterator[Command]]
# Chips of a slice: v4 and v5p count two cores a chip in their type.
CORES = {"v4": 2, "v5p": 2}
GONE = ("SUSPENDED", "SUSPENDING", "FAILED", "DELETING")
LONGEST_SAVE = 20  # polls that a run which was told to stop gets for its checkpoint
UNREACHABLE = 10  # polls in a row after which an active slice counts as gone


def chips(kind: str) -> int:
    """`v5litepod-64` -> 64, `v4-128` -> 64."""
    family, _, number = kind.rpartition("-")
    if not number.isdigit():
        raise SystemExit(f"error: --type={kind} is not of the form v5litepod-64")
    return int(number) // CORES.get(family, 1)


class Ledger:
    """Attempts and dollars spent so far, in a file.

    Raises `SystemExit` when a bound is reached.
    """

    def __init__(self, args: argparse.Namespace):
        self._args, self._file = args, Path(args.state)
        old = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.attempts, self.hours = old.get("attempts", 0), old.get("hours", 0.0)
        self._seen: float | None = None

    @property
    def dollars(self) -> float:
        return self.hours * chips(self._args.type) * self._args.price

    def create(self) -> None:
        """Counts the creation of a slice."""
        if self.attempts >= self._args.attempts:
            raise SystemExit(f"error: {self.attempts} slices were created, the most allowed")
        self.attempts += 1
        self._save()

    def tick(self, active: bool) -> bool:
        """Counts the time since the last call if the slice was there; whether money is left."""
        now = time.monotonic()
        if active and self._seen is not None:
            self.hours += (now - self._seen) / 3600
        self._seen = now if active else None
        self._save()
        return self.dollars < self._args.max_dollars

    def _save(self) -> None:
        content = {"attempts": self.attempts, "hours": self.hours, "dollars": self.dollars}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(content))
        part.replace(self._file)


def keep(args: argparse.Namespace, pod: dict[str, Step], describe: Command, ask: Command) -> int:
    """Runs until the training has finished; 0, or the status with which it failed.

    `pod` has the steps create, setup, secrets, run, stop and delete, `describe` prints the state of
    the queued resource, `ask` prints `running`, `ended STATUS` or `fresh` for each worker.
    """
    ledger, silent = Ledger(args), 0
    while True:
        absent, state = _state(describe)
        if not ledger.tick(active=state == "ACTIVE"):
            print(f"stopping: ${ledger.dollars:.2f} are spent, --max-dollars={args.max_dollars}")
            _all(pod["stop"](args))
            for _ in range(LONGEST_SAVE):
                time.sleep(args.poll)
                if "running" not in _read(ask)[1]:
                    break
            _all(pod["delete"](args))
            return 1
        if absent or state in GONE or silent > UNREACHABLE:
            silent = 0
            if not absent:
                _all(pod["delete"](args))
            ledger.create()
            print(
                f"slice {ledger.attempts} of at most {args.attempts}, ${ledger.dollars:.2f} spent"
            )
            _all(pod["create"](args))
        elif state == "ACTIVE":
            status, output = _read(ask)
            words = output.splitlines()
            silent = silent + 1 if status or not words else 0
            ended = [word.split()[1] for word in words if word.startswith("ended")]
            if not silent and len(ended) == len(words):
                print(f"the run ended with status {' '.join(ended)}; ${ledger.dollars:.2f} spent")
                _all(pod["logs"](args))
                _all(pod["delete"](args))
                return max(int(code) for code in ended)
            if not silent and "running" not in words and "fresh" in words:
                silent += any(_all(pod[step](args)) for step in _steps(args))
        time.sleep(args.poll)


def show(args: argparse.Namespace, pod: dict[str, Step], describe: Command, ask: Command) -> int:
    """Prints the commands of one slice, for --dry-run."""
    for command in (
        describe,
        *pod["create"](args),
        describe,
        ask,
        *(command for step in _steps(args) for command in pod[step](args)),
        ask,
        *pod["delete"](args),
    ):
        print(shlex.join(command))
    most = args.max_dollars / (chips(args.type) * args.price)
    print(f"at most {args.attempts} slices and {most:.1f} hours of {chips(args.type)} chips")
    return 0


def _steps(args: argparse.Namespace) -> list[str]:
    """The commands of pod.py that start the run on a new slice."""
    return ["setup", *(["secrets"] if args.file else []), "run"]


def _state(describe: Command) -> tuple[bool, str]:
    """(whether there is no such slice, its state); (False, "") if the cloud cannot be asked."""
    done = subprocess.run(describe, capture_output=True, text=True, check=False)
    return done.returncode != 0 and "NOT_FOUND" in done.stderr, done.stdout.strip()


def _read(command: Command) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


def _all(commands: Iterator[Command]) -> int:
    """Runs commands until one fails; its status."""
    for command in commands:
        print(shlex.join(command), flush=True)
        status = subprocess.run(command, check=False).returncode
        if status:
            print(f"failed with status {status}")
            return status
    return 0
