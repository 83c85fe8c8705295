"""`mematlas faults` on programs with a known number of page accesses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas.cli.main import main
from mematlas.observe.page_faults import read
from mematlas.observe.page_faults.analyse import fault_rates
from mematlas.observe.page_faults.model import FaultSnapshot, ThreadFaults
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

FAULTS = (sys.executable, "-m", "mematlas", "faults")
TOUCH = (
    "import mmap\n"
    "m = mmap.mmap(-1, {pages} * 4096, flags=34)\n"
    "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
    "for at in range(0, len(m), 4096): m[at] = 1\n"
)


def run(pages: int) -> dict[str, int]:
    """Count the faults of a Python that touches pages."""
    command = [*FAULTS, "--json", "--", sys.executable, "-S", "-c", TOUCH.format(pages=pages)]
    answer = json.loads(subprocess.check_output(command))
    assert answer["schema"] == "mematlas/faults/1"
    data: dict[str, int] = answer["data"]
    return data


def test_touched_pages_are_faults() -> None:
    """Twenty thousand more pages are twenty thousand more faults in user mode."""
    few, many = run(1), run(20_001)
    assert abs(many["minor"] - few["minor"] - 20_000) < 400
    if many["user_minor"] is not None:
        assert abs(many["user_minor"] - few["user_minor"] - 20_000) < 400
        assert many["user_minor"] <= many["all_minor"] <= many["minor"] + 50


def test_status_is_the_program_s_own() -> None:
    """Exit status, signal and a missing program are passed on; the output of the program is unchanged."""
    done = subprocess.run(
        [*FAULTS, "--", "sh", "-c", "echo out; exit 7"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "faults" in done.stderr
    killed = subprocess.run([*FAULTS, "--", "sh", "-c", "kill -9 $$"], check=False)
    assert killed.returncode == 137
    missing = subprocess.run([*FAULTS, "--", "no-such-program"], check=False)
    assert missing.returncode == 3


@pytest.fixture(scope="module")
def toucher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a program in which one function writes 16,384 pages that another function mapped."""
    folder = tmp_path_factory.mktemp("toucher")
    source = folder / "toucher.c"
    source.write_text(
        "#include <sys/mman.h>\n"
        "#include <unistd.h>\n"
        "__attribute__((noinline)) static void fill(volatile char *at, unsigned long size)\n"
        "{\n"
        "\tfor (unsigned long i = 0; i < size; i += 4096)\n"
        "\t\tat[i] = 1;\n"
        "}\n"
        "int main(int count, char **word)\n"
        "{\n"
        "\tunsigned long size = 64ul << 20;\n"
        "\tdo {\n"
        "\t\tchar *at = mmap(0, size, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
        "\t\tmadvise(at, size, 15);\n"
        "\t\tfill(at, size);\n"
        "\t\tmunmap(at, size);\n"
        "\t} while (count > 1 && word[1]);\n"
        "\treturn 0;\n"
        "}\n"
    )
    program = folder / "toucher"
    subprocess.run(["gcc", "-g", "-O1", str(source), "-o", str(program)], check=True)
    return program


def test_faults_are_put_down_to_line_and_mapping(toucher: Path) -> None:
    """The faults are attributed to the line of the loop and to anonymous memory; with period 1, exactly."""
    command = [*FAULTS, "--json", "--period", "1", "--", str(toucher)]
    profile = json.loads(subprocess.check_output(command))["data"]["profile"]
    if profile is None:
        pytest.skip("perf events are refused here")
    first = profile["lines"][0]
    assert (first["function"], first["mapping"]) == ("fill", "[anonymous]")
    assert str(first["file"]).endswith("toucher.c")
    assert first["line"] in {5, 6}
    if not profile["lost"]:
        assert (
            16_384
            <= sum(each["faults"] for each in profile["lines"] if each["function"] == "fill")
            <= 16_384 + 16
        )
    whole = sum(each["faults"] for each in profile["mappings"])
    assert whole == sum(each["faults"] for each in profile["lines"])


def test_profile_of_a_running_process(toucher: Path) -> None:
    """A running process is sampled, with its mappings from /proc/PID/maps."""
    with subprocess.Popen([toucher, "on"]) as busy:
        try:
            done = subprocess.run(
                [*FAULTS, "--where", "--duration", "300ms", "--json", str(busy.pid)],
                capture_output=True,
                check=False,
            )
        finally:
            busy.kill()
    if done.returncode == 4:
        pytest.skip("perf events are refused here")
    profile = json.loads(done.stdout)["data"]
    assert profile["lines"][0]["function"] == "fill"
    assert profile["mappings"][0]["name"] == "[anonymous]"


def test_live_process() -> None:
    """The fault rate of a process that keeps writing new pages is reported."""
    code = "print(flush=True)\nwhile True:\n"
    code += "".join(f"    {line}\n" for line in TOUCH.format(pages=500).splitlines())
    code += "    m.close()\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        assert busy.stdout
        busy.stdout.readline()
        before = read.read(busy.pid)
        wait_until(lambda: fault_rates(before, read.read(busy.pid)).minor > 500, "page faults")
        found = fault_rates(before, read.read(busy.pid))
        busy.kill()
    assert found.minor > 0
    assert [thread.tid for thread in found.threads] == [busy.pid]


def test_rates_per_thread() -> None:
    """Each thread has its own rate; a new thread counts from 0."""
    before = FaultSnapshot(1, 10.0, 4096, (ThreadFaults(1, "a) (b", 100, 2),))
    after = FaultSnapshot(
        1, 12.0, 12288, (ThreadFaults(1, "a) (b", 300, 4), ThreadFaults(2, "new", 10, 0))
    )
    found = fault_rates(before, after)
    assert (found.minor, found.major, found.growth) == (105, 1, 4096)
    assert [(thread.tid, thread.minor) for thread in found.threads] == [(1, 100), (2, 5)]


def test_usage() -> None:
    """Without a process and without a command there is a usage error."""
    for arguments in ([], ["--"], [str(os.getpid()), "extra"]):
        done = subprocess.run([*FAULTS, *arguments], capture_output=True, check=False)
        assert done.returncode == 2


def test_the_demonstration_counts_what_the_kernel_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Reads map the page of zeros, first writes take a fault each, and later writes none."""
    assert main(["faults", "--demo", "--pages", "1000", "--every", "10", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mematlas/faults/1"
    steps = answer["data"]["steps"]
    assert [each["resident"] for each in steps] == [0, 0, 100, 100, 1000, 0]
    assert [each["zero"] for each in steps] == [0, 100, 0, 0, 0, 0]
    for step, faults in zip(steps, (0, 100, 100, 0, 900, 0), strict=True):
        assert faults <= step["faults"] <= faults + 20  # Python's own, seldom
    assert main(["faults", "--demo"]) == 0
    assert "read 1 page in 3" in capsys.readouterr().out
    for words in (["--demo", "1"], ["--demo", "--pages", "9999999"], ["--demo", "--every", "0"]):
        assert main(["faults", *words]) == 2


def test_live_lines_have_totals_and_end_with_the_process() -> None:
    """--follow prints a line with totals for every interval, until the process ends."""
    script = (
        "import mmap\nwhile 1:\n    area = mmap.mmap(-1, 1 << 20)\n    area[::4096] = bytes(256)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        command = [
            sys.executable, "-m", "mematlas", "faults", "--follow", "--json", "--interval", "200ms",
            str(child.pid),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as live:
            assert live.stdout
            decoder, text, found = json.JSONDecoder(), "", list[dict[str, int]]()
            for line in live.stdout:
                text += line
                if line == "}\n":
                    found.append(decoder.decode(text)["data"])
                    text = ""
                if len(found) == 3:
                    child.kill()
            assert live.wait() == 0
    totals = [each["minor_total"] for each in found]
    assert len(totals) >= 3
    assert totals == sorted(totals)
    assert totals[-1] > totals[0] > 0


def test_live_ends_by_an_interrupt() -> None:
    """Ctrl-C ends --follow with status 0 and no traceback."""
    command = [
        sys.executable,
        "-m",
        "mematlas",
        "faults",
        "--follow",
        "--interval",
        "100ms",
        str(os.getpid()),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as live:
        assert live.stdout
        for line in live.stdout:
            if line[:2].isdigit():
                break
        live.send_signal(signal.SIGINT)
        _, error = live.communicate()
        assert (live.returncode, error) == (0, "")


def test_live_of_no_process(capsys: pytest.CaptureFixture[str]) -> None:
    """A process that does not exist is told before any heading."""
    assert main(["faults", "--follow", "4194304"]) in (2, 3)
    assert capsys.readouterr().out == ""
