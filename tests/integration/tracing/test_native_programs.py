"""C programs under `mematlas run`: same behaviour as untraced, and the right lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mematlas
from mematlas.cli import main
from mematlas.recording.reader import read
from mematlas.report.analyse.lines import lines
from traced_runs import MEMATLAS, bare, trace
from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Build, Run


MODES = ((), ("--exact",))
both_modes = pytest.mark.parametrize("options", MODES, ids=["sampled", "exact"])


def test_totals_are_those_the_program_counted(build: Build, traced: Run) -> None:
    """Exact mode agrees to the byte with the program's own counts, for each allocation function."""
    run = traced(build("counted"), options=("--exact",))
    counted = json.loads(run.outcome.stdout)
    seen = {
        function: {
            "allocated": run.sum("allocated_bytes", function),
            "count": run.sum("allocations", function),
            "live": run.left("live_bytes", function),
            "live_count": run.left("live_count", function),
        }
        for function in counted
    }
    assert seen == counted


def test_lines_are_those_of_the_source(build: Build, traced: Run) -> None:
    """A frame names the function, its file and the line of the allocation."""
    run = traced(build("touch_tenth"), options=("--exact",))
    (stack,) = run.stacks("ask_for_much")
    frame = next(frame for frame in stack["frames"] if frame["function"] == "ask_for_much")
    source = (build("touch_tenth"), frame["file"], frame["line"])
    assert frame["file"].endswith("touch_tenth.c"), source
    text = Path(frame["file"]).read_text().splitlines()
    assert "malloc" in text[frame["line"] - 1]


@both_modes
def test_a_tenth_touched_is_a_tenth_resident(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """With 1 GiB allocated and 10 % used, the allocating function has both figures."""
    run = traced(build("touch_tenth"), options=options)
    asked, used = 1 << 30, (1 << 30) // 10
    assert run.sum("live_bytes", "ask_for_much") == asked
    resident = run.sum("resident_bytes", "ask_for_much")
    assert used <= resident <= used + (4 << 20)  # huge pages may round up


@both_modes
def test_residency_belongs_to_the_allocating_line(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """Memory touched by another function is resident at the line that allocated it."""
    run = traced(build("allocate_here_touch_there"), options=options)
    size = 64 << 20
    assert run.sum("live_bytes", "allocate_here") == size
    assert run.sum("live_bytes", "leave_untouched") == size
    assert size - 8192 <= run.sum("resident_bytes", "allocate_here") <= size + (2 << 20)
    assert run.sum("resident_bytes", "leave_untouched") <= 2 << 20
    assert run.sum("allocated_bytes", "touch_there") == 0


def test_threads_free_what_others_allocated(build: Build, traced: Run) -> None:
    """Blocks freed by another thread are freed, and kept ones are live, with 8 threads."""
    run = traced(build("threads"), "8", options=("--exact",))
    assert run.left("live_bytes", "hand_over") == 0
    assert run.sum("allocations", "hand_over") == 8 * 50
    assert run.left("live_bytes", "keep") == 8 * 1000


@pytest.mark.slow
@both_modes
def test_a_thousand_threads_with_small_stacks(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """1,000 threads with stacks of 16 KiB run as they do untraced."""
    run = traced(build("threads"), "1000", "16", options=options)
    if options:
        assert run.left("live_bytes", "keep") == 1000 * 1000


@both_modes
@pytest.mark.parametrize("way", ["fork", "exec", "vfork", "spawn"])
def test_children_are_recorded(
    build: Build, traced: Run, way: str, options: tuple[str, ...]
) -> None:
    """A child created in any way is a process of its own in the same recording."""
    run = traced(build("forks"), way, options=options)
    assert run.outcome.status == 5
    processes = run.report["processes"]
    assert len({process["pid"] for process in processes}) == 2
    if options:
        assert run.sum("allocated_bytes", "in_child") == 300000


def test_a_storm_of_forks(build: Build, traced: Run) -> None:
    """200 short-lived children, ten at a time, are all recorded."""
    run = traced(build("forks"), "storm", options=("--exact",))
    assert len(run.report["processes"]) == 201
    assert run.sum("allocated_bytes", "in_child") == 200 * 300000


def test_libraries_that_come_and_go(build: Build, traced: Run) -> None:
    """Functions of a library loaded, closed and loaded again are named."""
    plugin = build("plugin", "-shared", "-fPIC")
    run = traced(build("dlopen_lib"), plugin, options=("--exact",))
    assert run.sum("allocated_bytes", "plugin_allocates") == 3 * 70000


def test_a_title_is_read_again_at_the_end(build: Build, traced: Run) -> None:
    """The process list shows the role that a process wrote into its command line."""
    run = traced(build("titled"), "some", "longer", "arguments")
    assert run.outcome.status == 0
    (process,) = run.report["processes"]
    assert process["command"] == "titled: worker 7"
    recorded = mematlas.open(run.file).processes[0]
    assert recorded.command[1:] == ("some", "longer", "arguments")


def test_a_stripped_program_owns_through_its_wrapper(build: Build, traced: Run) -> None:
    """The largest owner is the function that wanted the memory, by its address, not the one that calls malloc."""
    named, program = build("wrapped"), build("wrapped", "-s")
    symbols = subprocess.run(["nm", named], check=True, capture_output=True, text=True).stdout
    address = next(row.split()[0] for row in symbols.splitlines() if row.endswith(" load_table"))
    run = traced(program, options=("--exact",))
    (largest, *_) = lines(mematlas.open(run.file).report().stacks, "live")
    assert largest.frame is not None
    assert largest.frame.function == f"{Path(program).name}+{int(address, 16):#x}"
    assert largest.bytes["live"] > 32 << 20
    kept = mematlas.open(run.file, keep=["."])
    (kept_largest, *_) = lines(kept.report().stacks, "live")
    assert kept_largest.frame != largest.frame
    assert not kept.notes


@both_modes
def test_code_at_an_address_used_twice(build: Build, traced: Run, options: tuple[str, ...]) -> None:
    """Memory of a closed library stays that of its function when another library has its addresses."""
    first = build("plugin", "-shared", "-fPIC")
    second = build("plugin_other", "-shared", "-fPIC")
    run = traced(build("plugins_in_turn"), first, second, options=options)
    assert run.outcome.status == 0
    error = 0.3 if not options else 0  # 2 MiB blocks are sampled with a probability of 98 %
    for function, size in (("plugin_allocates", 5 << 20), ("other_allocates", 2 << 20)):
        assert run.sum("live_bytes", function) == pytest.approx(9 * size, rel=error)
    starts = {
        name: {
            each.start % (1 << 57) for each in read(run.file).modules[0] if each.path == str(name)
        }
        for name in (first, second)
    }
    assert starts[first] & starts[second], "the libraries never shared an address"


@both_modes
def test_a_killed_program_leaves_its_recording(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """After kill -9 of the program the report shows its memory."""
    run = traced(build("killed"), options=options)
    assert run.outcome.status == 137
    assert run.sum("live_bytes", "before_the_end") == 20 << 20
    assert "SIGKILL" in run.report["processes"][0]["ending"]


def memory_cgroup(limit: int) -> Path:
    """Create a memory cgroup with a limit; skip if that is impossible."""
    name = f"mematlas-test-{os.getpid()}"
    for parent, file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / name
        try:
            group.mkdir()
            (group / file).write_text(str(limit))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        return group
    pytest.skip("cannot make a memory cgroup here: needs root and a memory controller")


def test_an_oom_killed_program_leaves_its_recording(build: Build, tmp_path: Path) -> None:
    """The recording of a program killed by the OOM killer is right up to the end."""
    group = memory_cgroup(64 << 20)
    enter = 'echo $$ > "$0/cgroup.procs"; exec "$1"'
    try:
        run = trace(tmp_path / "o.atlas", ["sh", "-c", enter, str(group), build("oom")], "--exact")
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), "an empty cgroup")
        group.rmdir()
    assert run.outcome.status == 137
    # At the end, not in a snapshot: when the last one was before the kill is up to the scheduler.
    assert 48 << 20 <= run.left("live_bytes", "take_more") <= 66 << 20
    assert "SIGKILL" in run.report["processes"][-1]["ending"]


@both_modes
@pytest.mark.parametrize(
    "way",
    ["return", "_exit", "quick_exit", "abort", "exec", "exec-missing", "syscall", "segv", "thread"],
)
def test_every_way_out(build: Build, traced: Run, way: str, options: tuple[str, ...]) -> None:
    """For each way to exit, the status is the program's own, and its memory is recorded."""
    run = traced(build("exits"), way, options=options)
    if options:
        assert run.sum("allocated_bytes", "leave_behind") == 50000


def test_before_main_and_after_it(build: Build, traced: Run) -> None:
    """Constructors and destructors are traced too."""
    run = traced(build("early_late"), options=("--exact",))
    assert run.left("live_bytes", "allocate_early") == 30000
    assert run.sum("allocated_bytes", "allocate_late") == 40000


@both_modes
def test_signals_in_the_middle_of_it(build: Build, traced: Run, options: tuple[str, ...]) -> None:
    """Signals may interrupt malloc at any instruction."""
    traced(build("signals"), options=options)


@both_modes
def test_errno_is_left_alone(build: Build, traced: Run, options: tuple[str, ...]) -> None:
    """Successful calls keep errno; failing calls set it as the C library does."""
    traced(build("errnos"), options=options)


@both_modes
def test_deep_stacks_and_alternate_stacks(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """Recursion beyond the largest recorded stack, and a handler on an alternate stack, are recorded."""
    run = traced(build("deep"), options=options)
    if options:
        assert run.sum("allocated_bytes", "from_handler") == 0
        assert run.sum("allocated_bytes", "down") == 10000


BAD_FREES = {
    "stack": ("stack memory", None, "freed memory of its own stack", "never allocated"),
    "static": ("static memory", None, "freed static memory", "never allocated"),
    "double": (
        "freed twice",
        5000,
        "freed a block twice",
        "was freed before by release badfree.c:",
    ),
    "again": (
        "freed twice",
        5000,
        "freed a block twice",
        "was freed before by release badfree.c:",
    ),
    "inside": (
        "interior pointer",
        5000,
        "freed a pointer into the middle of a block",
        "lies 64 bytes inside a live block of 5,000 bytes allocated by make badfree.c:",
    ),
}


@pytest.mark.parametrize("way", BAD_FREES)
def test_bad_frees_are_described_and_the_abort_stays(
    build: Build, traced: Run, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Glibc aborts as untraced; summary, text and JSON say what was freed wrongly, and where."""
    reason, size, sentence, story = BAD_FREES[way]
    run = traced(build("badfree"), way, options=("--exact",))
    assert run.outcome.status == 134
    for data in (run.leaks, run.report):
        (bad,) = data["bad_frees"]
        assert "free_wrongly" in [frame["function"] for frame in bad["frames"]]
        assert (bad["reason"], bad["block_bytes"]) == (reason, size)
        assert ("make" in [frame["function"] for frame in bad["block_frames"]]) == bool(size)
        freed = [frame["function"] for frame in bad["freed_frames"]]
        assert freed == (["release"] if reason == "freed twice" else [])
    assert sentence in " ".join(run.stderr.split())
    main(["leaks", str(run.file)])
    text = " ".join(capsys.readouterr().out.split())
    assert story in re.sub(r"(?<= )/\S*/", "", text)


@both_modes
@pytest.mark.parametrize("way", ["plain", "daemon"])
def test_programs_that_close_every_descriptor(
    build: Build, traced: Run, way: str, options: tuple[str, ...]
) -> None:
    """Tracing works after the program closes all descriptors."""
    run = traced(build("closes_fds"), way, options=options)
    if options:
        assert run.left("live_bytes", "allocate_after") == 123456


def refused(command: list[str | Path], file: Path) -> tuple[int, str]:
    """Run a program that cannot be traced; return the status and the message."""
    run = trace(file, command)
    lines = [line for line in run.stderr.splitlines() if line.startswith("mematlas")]
    assert lines, run.stderr
    return run.outcome.status, lines[0]


def test_a_missing_program(tmp_path: Path) -> None:
    """A command that does not exist ends with status 3."""
    status, line = refused(["no-such-program-here"], tmp_path / "m.atlas")
    assert status == 3
    assert "no-such-program-here" in line


def test_arguments_stdin_and_descriptors_pass_through(traced: Run) -> None:
    """Standard input, and arguments that are empty or have spaces, reach the program unchanged."""
    script = 'printf "<%s>" "$@"; cat'
    run = traced("bash", "-c", script, "bash", "a b", "", "*", stdin=b"in\0put")
    assert run.outcome.stdout == b"<a b><><*>in\0put"


def test_the_death_of_the_parent_harms_nothing(build: Build, tmp_path: Path) -> None:
    """After kill -9 of mematlas the program goes on to its end, and the recording can be read."""
    program = 'echo started; read go; "$0" > "$1"; echo $? >> "$1"'
    answer, file = tmp_path / "answer", tmp_path / "r.atlas"
    command = [*MEMATLAS, "run", "-o", str(file), "--", "sh", "-c", program]
    with subprocess.Popen(
        [*command, build("threads"), answer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        assert parent.stdout.readline() == b"started\n"
        parent.kill()
        parent.wait()
        parent.stdin.write(b"go\n")
        parent.stdin.flush()
        expected = bare([build("threads")]).stdout + b"0\n"
        wait_until(lambda: answer.exists() and answer.read_bytes() == expected, "the answer")
