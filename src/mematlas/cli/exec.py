"""Run a program with a NUMA policy, huge pages, limits and an OOM score of its own.

Everything is checked first; then this process becomes the program, so its status and signals are its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from mematlas.cli.arguments import size
from mematlas.cli.environment import take_back
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    from mematlas.control.exec.model import LaunchPlan
    from mematlas.control.exec.steps import Step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `mematlas exec` takes."""
    parser.usage = "mematlas exec [options] [--] COMMAND ..."
    numa = parser.add_mutually_exclusive_group()
    for name, text in (
        ("membind", "take memory from these nodes only"),
        ("preferred", "take memory from this node while it has any"),
        ("interleave", "deal pages out over these nodes"),
        ("weighted", "the same, by the machine's weights (kernel 6.9)"),
    ):
        numa.add_argument(f"--{name}", metavar="NODES", type=nodes, help=text)
    parser.add_argument("--cpunodebind", metavar="NODES", type=nodes, help="run on their CPUs")
    parser.add_argument(
        "--huge",
        choices=("thp", "never", "2M"),
        help="malloc in huge pages (thp; 2M: hugetlb), or no transparent huge pages at all",
    )
    parser.add_argument("--no-aslr", action="store_true", help="the same addresses on every run")
    parser.add_argument("--oom-score", metavar="N", type=int, help="-1000 (never killed) to 1000")
    for name, text in (
        ("memlock", "limit of locked memory"),
        ("stack", "limit of the stack"),
        ("as", "limit of the address space"),
    ):
        parser.add_argument(
            f"--{name}", metavar="SIZE", type=limit, help=f"{text}: a size, or unlimited"
        )
    parser.add_argument("--lock-all", action="store_true", help="lock its memory (mlockall)")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--dry-run", action="store_true", help="show what would be set, and stop")
    show.add_argument(
        "--verify", action="store_true", help="check in a process after exec first, and show it"
    )
    parser.add_argument("--json", action="store_true", help="show it as JSON (mematlas/exec/1)")
    parser.add_argument("command", nargs="...", metavar="COMMAND", help="program and its arguments")


def nodes(text: str) -> list[int]:
    """Node numbers such as 0-3,8, for `type=` of an argument."""
    from mematlas.linux.cpulist import parse_list

    try:
        return parse_list(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def limit(text: str) -> int | str:
    """Read a size or "unlimited", for `type=` of an argument."""
    return text if text == "unlimited" else size(text)


def run(arguments: argparse.Namespace) -> int:
    """Check, show if asked, and become the command."""
    from mematlas.control.exec import preflight

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    program = _find(command)
    steps = _steps(arguments)
    plan = preflight.plan(command, steps)
    refused = [setting for setting in plan.settings if setting.refusal]
    if arguments.dry_run:
        _show(plan, arguments)
        return AccessError.exit_code if refused else 0
    if refused:
        raise AccessError(f"nothing was run: {refused[0].refusal}")
    if arguments.verify:
        plan = preflight.verify(plan, steps)
        _show(plan, arguments)
        wrong = [each.name for each in plan.settings if each.found != each.wanted]
        if wrong:
            raise MematlasError(f"nothing was run: {', '.join(wrong)} did not come out as asked")
    for step in steps:
        step.apply()
    return _become(program, command)


def _steps(arguments: argparse.Namespace) -> list[Step]:
    from mematlas.control.exec import steps

    chosen = [
        steps.policy(kind, getattr(arguments, kind))
        for kind in steps.POLICIES
        if getattr(arguments, kind)
    ]
    if arguments.cpunodebind:
        chosen.append(steps.cpu_nodes(arguments.cpunodebind))
    if arguments.huge:
        chosen.append(steps.huge(arguments.huge))
    if arguments.no_aslr:
        chosen.append(steps.no_aslr())
    if arguments.oom_score is not None:
        chosen.append(steps.oom_score(arguments.oom_score))
    for name in steps.LIMITS:  # "as" last: what follows it must fit in
        value = getattr(arguments, name)
        if value is not None:
            chosen.append(steps.limit(name, None if value == "unlimited" else value))
    if arguments.lock_all:
        chosen.append(steps.lock_all())
    return chosen


def _show(plan: LaunchPlan, arguments: argparse.Namespace) -> None:
    if arguments.json:
        from mematlas.present import json_writer

        stream = sys.stdout if arguments.dry_run else sys.stderr
        stream.write(json_writer.render("exec", plan))
        return
    from rich.console import Console

    from mematlas.control.exec.text import render_launch

    # Standard output is the program's.
    render_launch(plan, console=Console(stderr=not arguments.dry_run))


def _find(command: list[str]) -> str:
    from mematlas.tracing.program import find_program

    if not command:
        raise UsageError("no command given; write it after `--`, as in: mematlas exec -- ls -l")
    return find_program(command)


def _become(program: str, command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    take_back()
    try:
        os.execv(program, command)  # noqa: S606 - no shell wanted
    except FileNotFoundError:
        raise TargetError(f"{program}: it, or the interpreter it names, is not there") from None
    except OSError as error:
        raise UsageError(f"{program}: cannot be run: {error.strerror}") from None
