"""The agent keeps to its share of a core, whatever its work costs."""

from __future__ import annotations

import random

from mematlas.agent.pace import Pace


class Machine:
    """A clock, and the CPU time of a process."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now, self.used = 0.0, 0.0

    def pace(self, share: float) -> Pace:
        """Return the account of this process."""
        return Pace(share, lambda: self.now, lambda: self.used)


def test_dear_work_is_done_less_often() -> None:
    """Work of any cost, done whenever there is time: the share of an hour is below the limit."""
    for cost in (0.001, 0.02, 0.5, 5.0):
        machine = Machine()
        pace = machine.pace(0.01)
        random.seed(1)
        done = 0
        for _ in range(3600):
            machine.now += 1
            machine.used += 0.0005  # what is done each second anyway
            pace.update()
            while pace.has_time(cost):
                machine.used += cost
                done += 1
                if done % 10 == 0:
                    break
        assert machine.used / machine.now < 0.01
        assert done


def test_other_processes_are_paid_from_the_same_account() -> None:
    """A recorder that takes the whole share leaves nothing for what can wait."""
    machine = Machine()
    pace = machine.pace(0.01)
    for _ in range(400):
        machine.now += 1
        pace.update(0.01)
    assert not pace.has_time()
    assert pace.slowdown > 1
    assert pace.recent_share == 0


def test_debt_is_bounded() -> None:
    """After a long halt on a busy machine the agent goes on within the hour that its debt stands for."""
    machine = Machine()
    pace = machine.pace(0.01)
    machine.used += 1000
    pace.update()
    for _ in range(3900):
        machine.now += 1
        pace.update()
    assert pace.has_time()
    assert pace.slowdown == 1
