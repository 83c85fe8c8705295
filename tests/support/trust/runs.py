"""One run of a case, and the judgement of each claim about the run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.units import parse_bytes
from traced_runs import run_text

from .catalogue import CASES

if TYPE_CHECKING:
    from pathlib import Path

    from .catalogue import Case, Claim

HEADERS = CASES.parents[1] / "native/include"
TIMEOUT_S = 300
_ROUNDING = 0.006  # of a size printed with three digits


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether one claim held, and the text it was judged by."""

    kind: str
    right: bool
    reason: str  # empty if right
    text: str


def build(case: Case, folder: Path) -> list[str]:
    """Return the command of the case's program; compile C into `folder`."""
    source = CASES / case.source if case.source else _source(case.name)
    if source.suffix == ".py":
        return [sys.executable, str(source), *case.arguments]
    program = folder / source.stem
    # A program that runs cannot be written to: each build is a new file.
    partial = program.with_suffix(".new")
    flags = ["-g", "-O1", "-pthread", f"-I{HEADERS}", *case.flags]
    subprocess.run(["gcc", str(source), "-o", str(partial), *flags], check=True)
    partial.rename(program)
    return [str(program), *case.arguments]


def run(case: Case, command: list[str], folder: Path) -> list[Judgement]:
    """Trace the case once in an empty folder and judge every claim."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = {"file": str(folder / "run.atlas"), "tmp": str(folder)}
    if case.beside:
        return _judge_beside(case, command, names, folder)
    try:
        done = _traced(case, command, names, folder)
    except subprocess.TimeoutExpired as error:
        reason = f"no end in {error.timeout:.0f} s"
        return [Judgement(claim.kind, False, reason, "") for claim in case.claims]
    if done.returncode != case.status:
        reason = f"the program's status is {done.returncode}, not {case.status}"
        return [Judgement(claim.kind, False, reason, done.stderr) for claim in case.claims]
    truths = {
        words[1]: int(words[2])
        for words in map(str.split, done.stdout.splitlines())
        if len(words) == 3 and words[0] == "truth"
    }
    return [_judge(claim, done.stderr, names, truths, folder) for claim in case.claims]


def _traced(
    case: Case, command: list[str], names: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    if case.shell:
        shell = _fill(case.shell, names | {"python": sys.executable, "program": " ".join(command)})
        return _run(["bash", "-c", shell], folder)
    return run_text(["run", *case.options, "-o", names["file"], "--", *command], folder)


def _judge_beside(
    case: Case, command: list[str], names: dict[str, str], folder: Path
) -> list[Judgement]:
    """Check every claim while the program runs, from the time at which it prints "ready"."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        limit = threading.Timer(TIMEOUT_S, program.kill)
        limit.start()
        try:
            assert program.stdout is not None
            if program.stdout.readline() != "ready\n":
                reason = "the program did not become ready"
                return [Judgement(claim.kind, False, reason, "") for claim in case.claims]
            known = names | {"pid": str(program.pid)}
            return [_judge(claim, "", known, {}, folder) for claim in case.claims]
        finally:
            limit.cancel()
            program.kill()


def _judge(
    claim: Claim, stderr: str, names: dict[str, str], truths: dict[str, int], folder: Path
) -> Judgement:
    """Check one claim by what `run` printed, or by what its command prints."""
    text, reason = stderr, ""
    if claim.command:
        try:
            done = run_text([_fill(word, names) for word in claim.command], folder)
        except subprocess.TimeoutExpired as error:
            return Judgement(claim.kind, False, f"no end in {error.timeout:.0f} s", text)
        text = done.stdout + done.stderr
        if done.returncode != claim.status:
            reason = f"exit status {done.returncode}, not {claim.status}"
    text = " ".join(text.split())
    reason = reason or _differs(claim, text, truths)
    return Judgement(claim.kind, not reason, reason, text)


def _differs(claim: Claim, text: str, truths: dict[str, int]) -> str:
    """Return how a text differs from a claim; empty if the text is right."""
    found = re.search(claim.pattern, text)
    if not found:
        return f"{claim.pattern!r} does not occur"
    if claim.absent and (wrong := re.search(claim.absent, text)):
        return f"{wrong.group()!r} occurs"
    if not claim.truth:
        return ""
    truth = truths[claim.truth] if claim.truth in truths else parse_bytes(claim.truth)
    size = parse_bytes(found["size"])
    error = parse_bytes(found["error"]) if claim.errors and found["error"] else 0
    allowed = max(claim.within * truth, claim.errors * error) + _ROUNDING * size
    return "" if abs(size - truth) <= allowed else f"{found['size']}, the truth is {truth} bytes"


def _fill(text: str, names: dict[str, str]) -> str:
    """Replace {name} where the name is known."""
    return re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], match[0]), text)


def _run(argv: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with its output captured; for signal N the status is 128 + N."""
    done = subprocess.run(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode < 0:
        done.returncode = 128 - done.returncode
    return done


def _source(name: str) -> Path:
    """Return the source beside a case's table."""
    return next(path for path in (CASES / f"{name}.c", CASES / f"{name}.py") if path.exists())
