"""The short form of scripts/guest: two memory nodes and an older kernel in a guest."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECONDS = 170  # booting takes a third of it


def has_kvm() -> bool:
    """Return whether this machine virtualizes in hardware. KVM without, of the PVM kind, boots no Debian kernel."""
    flags = re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    hardware = flags is not None and {"svm", "vmx"} & {*flags[1].split()}
    return bool(hardware) and os.access("/dev/kvm", os.R_OK | os.W_OK)


@pytest.mark.slow
def test_two_nodes_on_kernel_6_1() -> None:
    """Placement, migration, interleaving, exec and statistics on two nodes, without the destructive tests."""
    if not os.environ.get("CI"):
        pytest.skip("a guest is booted; CI does it, or run scripts/guest")
    if not has_kvm():
        pytest.skip("no KVM here, and emulation takes three minutes: run scripts/guest")
    done = subprocess.run(
        [ROOT / "scripts/guest", "--short"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MEMATLAS_GUEST_TIMEOUT": str(SECONDS)},
    )
    said = done.stdout + done.stderr
    last = said.strip().splitlines()[-1] if said.strip() else "nothing said"
    if done.returncode == 77:
        pytest.skip(last)
    if done.returncode == 124:
        pytest.skip(f"the guest took more than {SECONDS} s")
    if "passed" not in said and "failed" not in said:
        pytest.skip(f"the guest did not boot, exit status {done.returncode}: {last}")
    assert done.returncode == 0, said
    assert " passed" in last
    assert "failed" not in last
