"""OOM kills in the kernel's log: of a cgroup, of the machine, of a group together, and lines without details."""

from __future__ import annotations

from pathlib import Path

from mematlas._core import PAGE
from mematlas.linux.oom_records import OomLog

DATA = Path(__file__).parents[2] / "data" / "oom"
TOGETHER = (
    "6,2,7,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/a,b,task_memcg=/a,b,task=x,pid=7,uid=0"
)


def lines(name: str) -> list[str]:
    """Return the lines of a captured log."""
    return (DATA / name).read_text().splitlines()


def killed(pid: int, kib: int, number: int) -> str:
    """Return the line of a killed process."""
    return (
        f"3,{number},7,-;Memory cgroup out of memory: Killed process {pid} (x) total-vm:9kB,"
        f" anon-rss:{kib}kB, file-rss:0kB, shmem-rss:0kB"
    )


def test_a_kill_at_the_limit_of_a_cgroup() -> None:
    """The limit, the figures of the group, each candidate, and the victim, whatever its name is."""
    (found,) = OomLog().add(lines("memcg-6.18.txt"))
    assert (found.group, found.task_group) == ("/app", "/app/b")
    assert (found.usage, found.limit) == (102400 << 10, 102400 << 10)
    assert found.stat["total_rss"] == 75878400
    assert found.kernel == 404 << 10
    assert [(each.pid, each.name) for each in found.tasks] == [
        (15261, "python3"),
        (15262, "12 a) b"),
    ]
    task = found.tasks[1]
    assert (task.resident, task.anonymous, task.file) == (20310 * PAGE, 18656 * PAGE, 1654 * PAGE)
    assert (task.page_tables, task.swap, task.oom_score_adj) == (204800, 7 * PAGE, -500)
    (victim,) = found.victims
    assert (victim.pid, victim.name, victim.anonymous) == (15262, "12 a) b", 74624 << 10)
    assert (victim.page_tables, victim.oom_score_adj) == (200 << 10, -500)
    assert found.time_s == 66137.300620


def test_the_machine_ran_out_and_a_line_without_details_follows() -> None:
    """Older kernels do not divide RSS: unknown, not zero. A kill without details is one of its own."""
    first, second = OomLog().add(lines("machine-6.1.txt"))
    assert (first.constraint, first.group) == ("CONSTRAINT_NONE", "")
    assert first.task_group == "/system.slice/redis.service"
    assert (first.limit, first.tasks[1].anonymous) == (None, None)
    assert first.tasks[1].resident == 1900000 * PAGE
    assert [each.pid for each in second.victims] == [901]
    assert (second.constraint, second.tasks) == ("", [])


def test_all_processes_of_a_group_are_one_kill() -> None:
    """memory.oom.group ends all: one record, also where its lines come in two readings."""
    log = OomLog()
    start = ["4,1,7,-;x invoked oom-killer: gfp_mask=0", TOGETHER]
    mark = "3,4,7,-;Tasks in /a,b are going to be killed due to memory.oom.group set"
    (found,) = log.add([*start, killed(7, 1, 3), mark, killed(8, 2, 5)])
    assert log.add([killed(9, 3, 6)]) == []
    assert found.group == "/a,b"
    assert [each.pid for each in found.victims] == [7, 8, 9]


def test_lines_that_were_added_are_left_out() -> None:
    """The log is read twice where an agent starts: each kill is told once."""
    log = OomLog()
    every = lines("machine-6.1.txt")
    first, second = log.add(every)
    third = "4,900,9000000,-;x invoked oom-killer: "
    (found,) = log.add([*every, third, killed(77, 1, 901)])
    assert [each.pid for each in found.victims] == [77]
    assert len(first.victims) == len(second.victims) == 1


def test_lines_of_users_are_not_the_kernels() -> None:
    """Root can write to the log, with another facility."""
    forged = [
        line.replace("4,", "12,", 1).replace("3,", "11,", 1) for line in lines("machine-6.1.txt")
    ]
    assert OomLog().add(forged) == []
    assert OomLog().add(["", "3,1", "3,1,2,-;Killed process", "[  pid  ]"]) == []
