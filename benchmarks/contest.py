"""Contests: programs that do the same work, in alternation. A peer that fails is named and ends nothing.

Records go, one JSON line each, to the file that the variable BENCHMARK_RECORDS names.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Runner = Callable[[], float]

TIMEOUT = 120.0  # seconds of one run of a peer
CLOSE = 0.02  # two figures this near each other are called equal


class PeerError(Exception):
    """A peer that did not run, or whose output has no figure."""


FAILURES = (
    PeerError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    subprocess.SubprocessError,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one contestant, one a round; `failure` says why there are no more."""

    name: str
    values: tuple[float, ...]
    failure: str | None = None
    mine: bool = False


@dataclass(frozen=True, slots=True)
class Contest:
    """What all contestants did. `lower`: less is better. `base`: what is divided by, if anything."""

    title: str
    unit: str
    lower: bool
    outcomes: tuple[Outcome, ...]
    base: str | None = None

    def best(self, outcome: Outcome) -> float | None:
        """Return the best value: what a disturbed machine can still show."""
        if not outcome.values:
            return None
        return min(outcome.values) if self.lower else max(outcome.values)

    def best_of(self, name: str) -> float | None:
        """Return the best value of a contestant by its name."""
        return next((self.best(each) for each in self.outcomes if each.name == name), None)

    def verdict(self) -> str:
        """Return whether a peer was better than the best of ours, and by how much."""
        ours = [best for each in self.outcomes if each.mine and (best := self.best(each))]
        peers = {
            each.name: best
            for each in self.outcomes
            if not each.mine and each.name != self.base and (best := self.best(each))
        }
        if not ours:
            return "mematlas has no figure"
        if not peers:
            return "no peer took part"
        mine = min(ours) if self.lower else max(ours)
        factors = {name: mine / best if self.lower else best / mine for name, best in peers.items()}
        name = max(factors, key=factors.__getitem__)
        if factors[name] > 1 + CLOSE:
            better = [each for each, factor in factors.items() if factor > 1 + CLOSE]
            told = ", ".join(f"{each} {factors[each]:.2f}x" for each in better)
            return f"a peer was better: {told}"
        if factors[name] > 1 - CLOSE:
            return f"equal to the best peer, {name}, within {CLOSE:.0%}"
        return f"better than every peer, {1 / factors[name]:.2f}x over {name}"


def hold(  # noqa: PLR0913 - what is done, by whom, and how to judge
    title: str,
    unit: str,
    rounds: int,
    contest: dict[str, Runner],
    *,
    ours: Sequence[str],
    lower: bool,
    base: str | None = None,
    absent: dict[str, str] | None = None,
) -> Contest:
    """Run all contestants in turn, `rounds` times, print and record the contest.

    absent: peers that cannot take part, with the reason. A contestant that fails runs no more.
    """
    values: dict[str, list[float]] = {name: [] for name in contest}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for name, run in contest.items():
            if name in failures:
                continue
            try:
                values[name].append(figure(run()))
            except FAILURES as error:
                failures[name] = reason(error)
    outcomes = [
        Outcome(name, tuple(found), failures.get(name), name in ours)
        for name, found in values.items()
    ]
    outcomes += [Outcome(name, (), why) for name, why in (absent or {}).items()]
    done = Contest(title, unit, lower, tuple(outcomes), base)
    print(text(done), flush=True)
    record(done)
    return done


def figure(value: float) -> float:
    """Check that a runner's result is a figure."""
    if not 0 <= value < float("inf"):
        message = f"no figure: {value}"
        raise PeerError(message)
    return value


def reason(error: Exception) -> str:
    """Return one line that says why a contestant failed."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr or error.output or ""
        lines = (said.decode(errors="replace") if isinstance(said, bytes) else said).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"ended with status {error.returncode}{': ' if last else ''}{last[:120]}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"did not end within {error.timeout:g} s"
    if isinstance(error, OSError):
        return f"cannot be run: {error.strerror or error}"
    return str(error)[:120] or type(error).__name__


def output(command: Sequence[str | Path], timeout: float = TIMEOUT) -> str:
    """Run a program and return what it prints; an error of subprocess, or OSError, if that fails."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=timeout
    ).stdout


def text(contest: Contest) -> str:
    """Format a contest for a terminal."""
    base = contest.best_of(contest.base) if contest.base else None
    lines = [f"\n{contest.title}, {contest.unit}: best, median, spread"]
    for each in contest.outcomes:
        best = contest.best(each)
        if best is None:
            lines.append(f"  {each.name:<32} {each.failure or 'no figure'}")
            continue
        ratio = f"  {best / base:5.2f} x" if base else ""
        lines.append(
            f"  {each.name:<32} {best:10.4g} {statistics.median(each.values):10.4g} {spread(each):>6}{ratio}"
            + (f"  then {each.failure}" if each.failure else "")
        )
    return "\n".join([*lines, f"  {contest.verdict()}"])


def spread(outcome: Outcome) -> str:
    """Return the distance of the least and the greatest value, as a share of the median."""
    middle = statistics.median(outcome.values)
    return f"{(max(outcome.values) - min(outcome.values)) / middle:.0%}" if middle else "-"


def record(contest: Contest) -> None:
    """Append the contest to the file of records, if there is one."""
    path = os.environ.get("BENCHMARK_RECORDS")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(contest) | {"verdict": contest.verdict()}) + "\n")


def read_record(line: str) -> Contest:
    """Build a contest from a record."""
    data = json.loads(line)
    del data["verdict"]
    outcomes = tuple(
        Outcome(**each | {"values": tuple(each["values"])}) for each in data["outcomes"]
    )
    return Contest(**data | {"outcomes": outcomes})
