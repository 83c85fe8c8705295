"""Change the memory settings of the machine: planned, written, journalled, verified, and undone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.cli.arguments import add_root
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mematlas.control.tune.model import ApplyResult, Plan


EXAMPLES = ("tune plan vm.swappiness=10", "tune apply --profile huge-heaps --yes")


@dataclass(frozen=True, slots=True)
class Answer:
    """Results of a change or an undo; number None: nothing was written."""

    number: int | None
    results: tuple[ApplyResult, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas tune`."""
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        part = parts.add_parser(name, help=text, description=text)
        part.add_argument(
            "--json", action="store_true", help=f"print JSON (mematlas/tune-{name}/1)"
        )
        add_root(part, "proc/ and sys/")
        return part

    show = add("show", "list the knobs with value and meaning")
    show.add_argument(
        "keys", nargs="*", metavar="KEY", help="only knobs with these names or prefixes"
    )
    show.add_argument(
        "--all", action="store_true", help="list knobs that this machine lacks as well"
    )
    for name, text in (
        ("plan", "print what a change would write, and its risks"),
        ("apply", "write a change; without --yes, print the plan"),
    ):
        part = add(name, text)
        part.add_argument(
            "values", nargs="*", metavar="KEY=VALUE", help="a value to set, or an action"
        )
        part.add_argument(
            "--profile", metavar="NAME", help="apply a set of values; `list` lists the profiles"
        )
        if name == "apply":
            part.add_argument(
                "--yes", action="store_true", help="write; without --yes, nothing is written"
            )
    for name, text in (
        ("verify", "compare the last change with the current values"),
        ("undo", "restore the values before a change, where they are still as applied"),
    ):
        part = add(name, text)
        part.add_argument(
            "number", nargs="?", type=int, help="number of the change (default the last)"
        )
        if name == "undo":
            part.add_argument(
                "--yes", action="store_true", help="write; without --yes, nothing is written"
            )
    add("history", "list all changes")


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    actions: dict[str, Callable[[argparse.Namespace, Path], int]] = {
        "show": _show,
        "plan": _plan,
        "apply": _apply,
        "verify": _verify,
        "undo": _undo,
        "history": _history,
    }
    return actions[arguments.action](arguments, Path(arguments.root))


def _show(arguments: argparse.Namespace, root: Path) -> int:
    from mematlas.control.tune import knobs

    keys = arguments.keys
    table = list(knobs.all_of(root))
    wanted = [] if keys else table
    for key in keys:
        begin_so = [knob for knob in table if knob.key.startswith((key, f"vm.{key}"))]
        wanted += begin_so or [knobs.find(key)]
    readings = [knobs.read(root, knob) for knob in wanted]
    if not (arguments.all or arguments.json or keys):
        readings = [each for each in readings if each.value is not None]
    _print(arguments, readings, "render_knobs")
    return 0


def _plan(arguments: argparse.Namespace, root: Path) -> int:
    if arguments.profile == "list":
        return _profiles(arguments)
    _print(arguments, _made(arguments, root), "render_plan")
    return 0


def _apply(arguments: argparse.Namespace, root: Path) -> int:
    from mematlas.control.tune import apply, journal
    from mematlas.control.tune.model import WriteOutcome

    if arguments.profile == "list":
        return _profiles(arguments)
    plan = _made(arguments, root)
    if not (arguments.yes and plan.changes):
        _print(arguments, plan, "render_plan")
        if plan.changes:
            _say(arguments, "nothing was changed; add --yes to write it")
        return 0
    number, results = apply.apply(root, plan)
    if arguments.json:
        _json(arguments, Answer(number, tuple(results)))
    else:
        _print(arguments, results, "render_results", f"Change {number}")
        if journal.can_be_undone(plan.changes):
            _say(arguments, f"undo it with: mematlas tune undo {number} --yes")
        else:
            _say(arguments, "it has no undo: a one-shot action leaves no value to restore")
    return int(any(each.outcome is not WriteOutcome.DONE for each in results))


def _verify(arguments: argparse.Namespace, root: Path) -> int:
    from mematlas.control.tune import apply, journal
    from mematlas.control.tune.model import WriteOutcome

    found = journal.find_applied(root, arguments.number)
    results = apply.verify(root, found)
    _results(arguments, found.number, results, f"Change {found.number} ({found.state})")
    fine = {WriteOutcome.KEPT, WriteOutcome.NO_UNDO}
    return int(any(each.outcome not in fine for each in results))


def _undo(arguments: argparse.Namespace, root: Path) -> int:
    from mematlas.control.tune import apply, journal
    from mematlas.control.tune.model import WriteOutcome

    found = journal.find_undoable(root, arguments.number)
    results = apply.undo(root, found, write=arguments.yes)
    heading = f"Undo of change {found.number} ({found.state})"
    _results(arguments, found.number if arguments.yes else None, results, heading)
    if not arguments.yes:
        _say(arguments, "nothing was changed; add --yes to restore the values")
        return 0
    fine = {WriteOutcome.RESTORED, WriteOutcome.NOT_WRITTEN, WriteOutcome.NO_UNDO}
    return int(any(each.outcome not in fine for each in results))


def _history(arguments: argparse.Namespace, root: Path) -> int:
    from mematlas.control.tune import journal

    _print(arguments, journal.read_all(root), "render_history")
    return 0


def _made(arguments: argparse.Namespace, root: Path) -> Plan:
    from mematlas.control.tune import plan, profiles

    wanted = dict(profiles.values_of(arguments.profile)) if arguments.profile else {}
    wanted.update(plan.parse(arguments.values))
    if not wanted:
        raise UsageError("nothing to set; name KEY=VALUE, or a profile with --profile NAME")
    return plan.make(root, wanted)


def _profiles(arguments: argparse.Namespace) -> int:
    from mematlas.control.tune.profiles import PROFILES

    if arguments.json:
        _json(arguments, PROFILES)
        return 0
    for name, profile in PROFILES.items():
        print(f"{name}: {profile.purpose}")
        for key, value in profile.values.items():
            print(f"    {key}={value}")
    return 0


def _results(
    arguments: argparse.Namespace, number: int | None, results: list[ApplyResult], heading: str
) -> None:
    if arguments.json:
        _json(arguments, Answer(number, tuple(results)))
    else:
        _print(arguments, results, "render_results", heading)


def _print(arguments: argparse.Namespace, model: Any, renderer: str, *more: str) -> None:
    if arguments.json:
        _json(arguments, model)
        return
    from rich.console import Console

    from mematlas.control.tune import text

    getattr(text, renderer)(model, *more, console=Console(highlight=False))


def _json(arguments: argparse.Namespace, model: Any) -> None:
    from mematlas.present import json_writer

    sys.stdout.write(json_writer.render(f"tune-{arguments.action}", model))


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.json:
        print(text)
