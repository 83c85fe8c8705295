"""Run programs of the zoo in each mode and print a table: `scripts/programs --help`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .catalogue import read_programs
from .figures import Figures, read_figures
from .judge import strange_owners, unnamed_owners
from .results import Result, read_results
from .runs import MODES, Outcome, run
from .table import format_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .catalogue import Program


_LEAST_CPU_S = 0.2  # of a bare run, whose time is comparable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen programs. Return 1 if one of them does not run as bare."""
    parser = argparse.ArgumentParser(prog="scripts/programs", description=__doc__)
    parser.add_argument("names", nargs="*", help="programs of tests/zoo/programs.toml; default all")
    parser.add_argument("--short", action="store_true", help="only the short form")
    parser.add_argument("--list", action="store_true", help="list the programs")
    parser.add_argument("--packages", action="store_true", help="list the Debian packages needed")
    parser.add_argument("--mode", action="append", choices=MODES[1:], help="only this mode")
    parser.add_argument("--folder", type=Path, default=Path("build/zoo"), help="scratch folder")
    parser.add_argument("--results", type=Path, help="append each result to this JSON-lines file")
    parser.add_argument(
        "--table", type=Path, help="print this file of results as Markdown; run nothing"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="read the recordings of the runs in --results again; run nothing",
    )
    options = parser.parse_args(arguments)
    if options.again and not options.results:
        parser.error("--again needs --results")
    programs = [
        program
        for program in read_programs()
        if (not options.names or program.name in options.names)
        and (program.short or not options.short)
    ]
    if options.list or options.packages:
        lines = {p for program in programs for p in program.packages}
        print("\n".join(sorted(lines) if options.packages else [p.name for p in programs]))
        return 0
    if options.table:
        print(format_table(programs, read_results(options.table)))
        return 0
    if options.again:
        _read_again(programs, options.results, options.folder)
        return 0
    failed = 0
    for program in programs:
        failed += _compare(program, options)
    print(f"{len(programs)} programs, {failed} with differences")
    return 1 if failed else 0


def _compare(program: Program, options: argparse.Namespace) -> int:
    """Run one program in each mode, print a line for each. Return 1 if it differs from bare."""
    if missing := [name for name in program.needs if not shutil.which(name)]:
        print(f"{program.name}: skipped: no {', '.join(missing)}; install {program.packages}")
        return 0
    folder = options.folder.resolve() / program.name
    python = _python(program, options.folder.resolve())
    try:
        bare = run(program, "bare", folder / "bare", python)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        print(f"{program.name}: bare: {error}")
        return 1
    modes = options.mode or (program.short if options.short else MODES[1:])
    return max(
        _compare_mode(program, mode, bare, folder / mode, python, options.results)
        for mode in modes
        if mode != "attached" or program.attach
    )


def _compare_mode(
    program: Program, mode: str, bare: Outcome, folder: Path, python: str, results: Path | None
) -> int:
    """Run one program in one mode, and print a line. Return 1 if it differs from bare."""
    try:
        outcome = run(program, mode, folder, python)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        outcome = Outcome(mode, None, str(error), 0.0)
    differences = outcome.differences(bare)
    figures = _figures(outcome.recording)
    if not figures and not differences:
        differences.append("no recording")
    compares = bare.cpu_s >= _LEAST_CPU_S and outcome.cpu_s
    overhead = outcome.cpu_s / bare.cpu_s if compares else None
    result = Result(program.name, mode, differences, overhead, figures)
    print(_line(program, result), flush=True)
    if results:
        result.append(results)
    return int(bool(differences))


def _read_again(programs: Sequence[Program], path: Path, folder: Path) -> None:
    """Read the figures of the recordings that earlier runs left behind, and keep them as results."""
    known = read_results(path)
    for program in programs:
        for mode, result in known.get(program.name, {}).items():
            figures = _figures(folder / program.name / mode / "run.atlas")
            again = replace(result, figures=figures or result.figures)
            print(_line(program, again), flush=True)
            again.append(path)


def _figures(recording: Path | None) -> Figures | None:
    return read_figures(recording) if recording is not None and recording.exists() else None


def _line(program: Program, result: Result) -> str:
    """Format one run as a line."""
    text = f"{program.name:16} {result.mode:8} "
    text += "; ".join(result.differences) or "as bare"
    if result.overhead:
        text += f" · CPU {result.overhead:.2f}x"
    if figures := result.figures:
        marks = dict.fromkeys(strange_owners(program, figures), "! ")
        marks |= dict.fromkeys(unnamed_owners(figures), "? ")
        text += (
            f" · {figures.rss_bytes / 2**20:.0f} MiB: {100 * figures.owned:.0f} % owned,"
            f" {100 * figures.files:.0f} % files, {100 * figures.slack:.0f} % slack,"
            f" {100 * figures.before:.0f} % before, {100 * figures.rest:.0f} % rest"
        )
        text += "" if figures.complete else " · not complete"
        text += "".join(
            f"\n{'':26}{100 * share:3.0f} % {marks.get(function, '')}{function}  {place}"
            for function, place, share in figures.owners
        )
    return text


def _python(program: Program, folder: Path) -> str:
    """Return a Python that has the program's packages from PyPI, in an environment of the zoo."""
    if not program.pip:
        return sys.executable
    venv = folder / "venv"
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(python), "-m", "pip", "-q", "install", *program.pip], check=True)
    return str(python)


if __name__ == "__main__":
    sys.exit(main())
