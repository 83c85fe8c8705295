"""Every fix that the doctor suggests is valid and tested: commands parse, names exist, effects were measured."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from applied_fixes import applied, shown
from mematlas.cli.commands import COMMANDS
from mematlas.cli.parser import Parser
from mematlas.control.tune import plan
from mematlas.control.tune.profiles import values_of
from mematlas.doctor import rules
from mematlas.doctor.model import FixKind
from unit.doctor.test_host import CASES as HOSTS
from unit.doctor.test_process import CASES as PROCESSES
from unit.doctor.test_recording import CASES as RECORDINGS

if TYPE_CHECKING:
    from mematlas.doctor.model import Finding, Fix

FINDINGS: list[Finding] = [
    *(f for faulty, _ in HOSTS.values() for f in rules.examine_host(faulty).findings),
    *(f for faulty, _ in PROCESSES.values() for f in rules.examine_process(faulty).findings),
    *(f for faulty, _ in RECORDINGS.values() for f in rules.examine_recording(faulty).findings),
]
FIXES = {(each.rule, fix.command): fix for each in FINDINGS for fix in each.fixes}
OURS = {key: fix for key, fix in FIXES.items() if "mematlas " in fix.command}


@pytest.mark.parametrize("fix", OURS.values(), ids=lambda fix: fix.command)
def test_our_own_commands_parse(fix: Fix) -> None:
    """A `mematlas ...` command is accepted by the parser of that command."""
    words = shlex.split(fix.command.partition("mematlas ")[2].partition(" && ")[0])
    words = ["64M" if word == "SIZE" else word for word in words]
    command = next(each for each in COMMANDS if each.name == words[0])
    parser = Parser(prog="mematlas")
    importlib.import_module(command.module).add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    if words[0] == "tune" and arguments.profile:
        assert values_of(arguments.profile)
    elif words[0] == "tune":
        assert plan.parse(arguments.values)


def test_a_program_follows_each_start() -> None:
    """A fix for the program's start ends in the program's command."""
    for fix in FIXES.values():
        if fix.kind is FixKind.EXEC:
            assert re.search(r"(COMMAND|service --name 'a b'|orders\.py)$", fix.command), fix


def test_python_names_are_there() -> None:
    """Every name of mematlas.memory in a fix exists."""
    from mematlas import memory

    for fix in FIXES.values():
        for name in re.findall(r"mematlas\.memory\.(\w+)", fix.command + fix.note):
            assert hasattr(memory, name), fix


NAME = re.compile(r"[a-z-]+\.[a-z0-9-]+")
MAKERS = {"Fix", "tune", "restart"}
RULES = Path(rules.__file__).parent
IN_TUPLES = {"allocators.py", "limits.py"}  # names that are the first of a tuple


def names_in_source() -> set[str]:
    """Return the names of all fixes that the rules can print: none can be made up at run time."""
    found: set[str] = set()
    for path in RULES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS:
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
                else:
                    assert path.name in {*IN_TUPLES, "fixes.py"}, f"{path.name}:{node.lineno}"
            elif isinstance(node, ast.Tuple) and path.name in IN_TUPLES:
                first = node.elts[0] if node.elts else None
                if isinstance(first, ast.Constant) and NAME.fullmatch(str(first.value)):
                    found.add(str(first.value))
    return {name for name in found if name}


def test_each_fix_is_applied_by_a_test() -> None:
    """Each fix in the source of the rules has a test that applies it, and each such test a fix."""
    tests, names = applied(), names_in_source()
    assert {each.name for each in FIXES.values() if each.kind is not FixKind.INSPECT} <= names
    assert sorted(names - set(tests)) == []
    assert sorted(set(tests) - names) == []
    assert len(names) > 30


def test_a_printed_fix_has_a_test_that_has_run() -> None:
    """The test of each fix that is printed has passed as it stands now, and left a line in shown_fixes.txt.

    After a change of such a test, run the test with MEMATLAS_SHOWN_FIXES=FILE, and bring the lines in.
    """
    passed = shown()
    missing = {name for name, test in applied().items() if (name, test) not in passed}
    assert sorted(missing) == []


def test_inspections_change_nothing() -> None:
    """An inspection has no name and foretells nothing; everything else has a name."""
    for fix in FIXES.values():
        assert bool(fix.name) is (fix.kind is not FixKind.INSPECT), fix
        assert fix.gain is None or fix.kind is not FixKind.INSPECT, fix
