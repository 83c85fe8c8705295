"""The rules. Each is a pure function of a state, so that it can be tested with synthetic states."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mematlas.doctor.model import (
    Checkup,
    Finding,
    Found,
    Passed,
    Rule,
    Severity,
    Unchecked,
    Unknown,
)
from mematlas.doctor.rules import (
    cgroup,
    host,
    kernel,
    limits,
    pages,
    process,
    small_pages,
    tmpfs,
)
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.doctor.model import HostState, ProcessState, RecordingState

_NOW_RULES: tuple[Rule[HostState], ...] = (
    *host.RULES,
    *cgroup.RULES,
    *tmpfs.RULES,
    *pages.RULES,
    *kernel.RULES,
)
HOST_RULES = (*_NOW_RULES, *host.PAST_RULES)
PROCESS_RULES: tuple[Rule[ProcessState], ...] = (
    *small_pages.RULES,
    *process.RULES,
    *limits.RULES,
    *tmpfs.PROCESS_RULES,
)

_State = TypeVar("_State")
_ORDER = {severity: number for number, severity in enumerate(Severity)}


def examine_host(state: HostState) -> Checkup:
    """Check a machine by all rules about machines."""
    return _examine("this machine", HOST_RULES, state)


def examine_process(state: ProcessState) -> Checkup:
    """Check a process by all rules about processes, and its machine as it is now."""
    name = state.info.status.lines.get("Name", "?")
    own = _examine(
        f"process {state.info.pid} ({name})",
        PROCESS_RULES,
        state,
        state.info.notes,
    )
    around = _examine("", _NOW_RULES, state.host)
    return Checkup(
        subject=f"{own.subject} and its machine",
        findings=_ranked((*own.findings, *around.findings)),
        passed=own.passed + around.passed,
        unchecked=own.unchecked + around.unchecked,
        notes=own.notes,
        about=_about(state),
    )


def _about(state: ProcessState) -> tuple[str, ...]:
    """Return the allocators of a process and the limit of its memory cgroup."""
    malloc = state.allocators.malloc
    words = f"malloc of {malloc}" if malloc else "malloc of an unknown or static library"
    if state.allocators.others:
        words += "; also " + ", ".join(map(str, state.allocators.others))
    group = next((each for each in state.host.now.cgroup if each.limit), None)
    if group is None or group.limit is None:
        return (words,)
    return (words, f"cgroup {group.path}, limit {format_bytes(group.limit)}")


def recording_rules() -> tuple[Rule[RecordingState], ...]:
    """Return the rules about recordings. They import NumPy, which a check of a process does without."""
    from mematlas.doctor.rules import endings, recording, slack

    return (*recording.RULES, *slack.RULES, *endings.RULES)


def examine_recording(state: RecordingState) -> Checkup:
    """Check a recording by all rules about recordings."""
    notes = tuple(state.recording.notes)
    return _examine(state.path, recording_rules(), state, notes)


def _examine(
    subject: str,
    rules: Sequence[Rule[_State]],
    state: _State,
    notes: tuple[str, ...] = (),
) -> Checkup:
    findings, passed, unchecked = [], [], []
    for rule in rules:
        answer = rule.check(state)
        if answer is None:
            passed.append(Passed(rule.key, rule.checks))
        elif isinstance(answer, Unknown):
            unchecked.append(Unchecked(rule.key, rule.checks, answer.reason))
        else:
            findings.append(_finding(rule, answer))
    return Checkup(subject, _ranked(findings), tuple(passed), tuple(unchecked), notes)


def _finding(rule: Rule[_State], found: Found) -> Finding:
    return Finding(
        rule=rule.key,
        severity=found.severity,
        headline=found.headline,
        evidence=found.evidence,
        why=rule.why,
        fixes=found.fixes,
        cost=found.cost,
    )


def _ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by urgency, then by the memory concerned."""
    return tuple(sorted(findings, key=lambda each: (_ORDER[each.severity], -each.cost)))
