"""Run a program with a NUMA policy, huge pages, limits and an OOM score of its own.

All settings are checked first. Then this process executes the program, which keeps its PID, exit status
and signals.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from mematlas.cli.arguments import size
from mematlas.cli.blas_threads import restore_environment
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    from mematlas._core import LeftKind
    from mematlas.control.exec.model import LaunchPlan
    from mematlas.control.exec.steps import Step


EXAMPLES = (
    "exec --huge thp --membind 0 -- python app.py",
    "exec --dry-run --memlock unlimited -- ls",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas exec`."""
    parser.usage = "mematlas exec [options] [--] COMMAND ..."
    numa = parser.add_mutually_exclusive_group()
    for name, text in (
        ("membind", "allocate on these nodes only"),
        ("preferred", "allocate on this node while it has free memory"),
        ("interleave", "interleave pages over these nodes"),
        ("weighted", "interleave by the weights of the machine (kernel 6.9)"),
    ):
        numa.add_argument(f"--{name}", metavar="NODES", type=nodes, help=text)
    parser.add_argument(
        "--cpunodebind", metavar="NODES", type=nodes, help="run on the CPUs of these nodes"
    )
    parser.add_argument(
        "--huge",
        choices=("thp", "never", "2M"),
        help="let malloc use huge pages (thp, or 2M of hugetlb), or disable THP (never)",
    )
    parser.add_argument(
        "--no-aslr", action="store_true", help="disable address space randomisation"
    )
    parser.add_argument(
        "--oom-score",
        metavar="N",
        type=int,
        help="OOM score adjustment, -1000 (never killed) to 1000",
    )
    for name, text in (
        ("memlock", "limit locked memory"),
        ("stack", "limit the stack"),
        ("as", "limit the address space"),
    ):
        parser.add_argument(
            f"--{name}", metavar="SIZE", type=limit, help=f"{text}; a size, or unlimited"
        )
    parser.add_argument("--lock-all", action="store_true", help="lock its memory (mlockall)")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--dry-run", action="store_true", help="print the settings and exit")
    show.add_argument(
        "--verify",
        action="store_true",
        help="run the program up to its entry point first, and print what took effect",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the settings as JSON (mematlas/exec/1)"
    )
    parser.add_argument("command", nargs="...", metavar="COMMAND", help="program and its arguments")


def nodes(text: str) -> list[int]:
    """Parse node numbers such as 0-3,8, for `type=` of an argument."""
    from mematlas.linux.cpulist import parse_list

    try:
        return parse_list(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def limit(text: str) -> int | str:
    """Parse a size or "unlimited", for `type=` of an argument."""
    return text if text == "unlimited" else size(text)


def run(arguments: argparse.Namespace) -> int:
    """Check the settings, print them if asked, and execute the command."""
    from mematlas.control.exec import preflight

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    program, left = _find(command)
    steps = _steps(arguments)
    plan = preflight.plan(command, steps, left)
    refused = [setting for setting in plan.settings if setting.refusal]
    if arguments.dry_run:
        _show(plan, arguments)
        return AccessError.exit_code if refused else 0
    if refused:
        raise AccessError(f"nothing was run: {refused[0].refusal}")
    if arguments.verify:
        plan = preflight.verify(plan, steps, program)
        _show(plan, arguments)
        wrong = [each.name for each in plan.settings if each.found != each.wanted]
        if wrong:
            raise MematlasError(
                f"nothing was run: {', '.join(wrong)} did not take effect, as far as can be seen"
            )
    for step in steps:
        step.apply()
    return _execute(program, command)


def _steps(arguments: argparse.Namespace) -> list[Step]:
    from mematlas.control.exec import after_exec, steps

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
    for name in after_exec.LIMITS:  # "as" last: later steps must fit into it
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

    # Standard output belongs to the program.
    render_launch(plan, console=Console(stderr=not arguments.dry_run))


def _find(command: list[str]) -> tuple[str, LeftKind]:
    from mematlas.tracing.program import check_program, find_program

    if not command:
        raise UsageError("name a command after `--`, as in: mematlas exec -- ls -l")
    program = find_program(command)
    return program, check_program(program)


def _execute(program: str, command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    restore_environment()
    try:
        os.execv(program, command)  # noqa: S606 - no shell wanted
    except FileNotFoundError:
        raise TargetError(f"{program}: no such file, or its interpreter does not exist") from None
    except OSError as error:
        raise UsageError(f"{program}: cannot be run: {error.strerror}") from None
