"""The knobs of `mematlas tune`: plans, refusals, and the table of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from knob_tree import VM, WANTED, change, values
from mematlas.cli.main import main
from mematlas.control.tune import knobs, plan
from mematlas.errors import MematlasError, UsageError


def test_plan_and_apply_without_yes_write_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes the diff is shown, with meaning and risk, and no file changes."""
    before = values(root)
    for words in (["plan"], ["apply"]):
        assert main(["tune", *words, "swappiness=10", "compact", "--root", str(root)]) == 0
        out = capsys.readouterr().out
        assert "- 60" in out
        assert "+ 10" in out
        assert "no swapping until memory is nearly out" in out
        assert "a one-shot action cannot be undone" in out
    assert "add --yes" in out
    assert values(root) == before
    assert not (root / "var").exists()


def test_a_value_that_is_set_already_is_not_written(root: Path) -> None:
    """A value that is in force already is no change, in each way to write it."""
    made = plan.make(root, {"vm.swappiness": "60", "thp.enabled": "madvise", "zswap.enabled": "0"})
    assert made.changes == ()
    assert len(made.unchanged) == 3


def test_files_that_set_the_same_knob_are_named(root: Path) -> None:
    """The plan names a sysctl.d file, or tuned, that sets the same knob."""
    (root / "etc/sysctl.d").mkdir(parents=True)
    (root / "etc/sysctl.d/90-db.conf").write_text("# vm.max_map_count=1\nvm.swappiness = 1\n")
    (root / "etc/tuned").mkdir()
    (root / "etc/tuned/active_profile").write_text("throughput-performance\n")
    notes = "\n".join(plan.make(root, WANTED).notes)
    assert "vm.swappiness is also set in /etc/sysctl.d/90-db.conf" in notes
    assert "vm.max_map_count is also set" not in notes
    assert "tuned is active with profile throughput-performance" in notes


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["swap=3"], 2, "there is no knob"),
        (["swappiness"], 2, "has no value"),
        (["swappiness=many"], 2, "not a whole number"),
        (["swappiness=201"], 2, "out of range, 0 to 200"),
        (["thp.enabled=sometimes"], 2, "not one of always, madvise, never"),
        (["dirty_bytes=0"], 2, "out of range"),
        (["dirty_bytes=64M", "dirty_ratio=5"], 2, "two forms of one value"),
        (["swappiness=1", "vm.swappiness=2"], 2, "given twice"),
        (["ksm.run=1"], 5, "no such knob"),
        (["hugepages.16M=1"], 5, "no such knob"),
        (["oom_score_adj.4194304=5"], 3, "no such knob"),
        (["--profile", "fast"], 2, "the profiles are"),
        ([], 2, "nothing to set"),
    ],
)
def test_invalid_values(
    root: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid request is refused in one line, before anything is written."""
    assert main(["tune", "apply", *words, "--yes", "--root", str(root)]) == code
    assert message in capsys.readouterr().err
    assert not (root / "var").exists()


def test_show_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of this machine lists its knobs, as JSON too."""
    assert main(["tune", "show", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]
    found = {row["knob"]["key"]: row["value"] for row in rows}
    assert found["vm.swappiness"] == Path("/proc/sys/vm/swappiness").read_text().strip()
    assert all(row["knob"]["meaning"] and row["knob"]["risk"] for row in rows)
    assert main(["tune", "show", "thp"]) == 0
    assert "thp.enabled" in capsys.readouterr().out


def test_profiles_consist_of_knobs() -> None:
    """Every value of every profile fits its knob."""
    from mematlas.control.tune.profiles import PROFILES

    for profile in PROFILES.values():
        for key in profile.values:
            assert knobs.find(key).key == key
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        for profile in PROFILES.values():
            plan.make(Path("/"), profile.values)


def test_every_file_of_zswap_ksm_and_khugepaged_that_can_be_set_is_a_knob() -> None:
    """Every writable file in these directories is in the table."""
    known = {knob.path for knob in knobs.all_of(Path("/"))}
    left = set()
    for folder in ("sys/module/zswap/parameters", "sys/kernel/mm/transparent_hugepage/khugepaged"):
        for file in Path("/", folder).glob("*"):
            if file.stat().st_mode & 0o200 and str(file)[1:] not in known:
                left.add(str(file))
    assert left == set()


def test_a_name_is_checked_by_the_kernel(root: Path, tmp_path: Path) -> None:
    """A compressor may be any word."""
    file = tmp_path / "sys/module/zswap/parameters/compressor"
    file.write_text("lzo\n")
    change(root, {"zswap.compressor": "zstd"})
    assert file.read_text() == "zstd"
    with pytest.raises(MematlasError, match="is not a name"):
        plan.make(root, {"zswap.compressor": "two words"})


def test_a_compressor_that_the_kernel_lacks_is_refused(root: Path) -> None:
    """The kernel accepts any name while zswap is off; one without a module or built-in is refused."""
    (root / "sys/module/zswap/parameters/compressor").write_text("lzo\n")
    (root / "proc/crypto").write_text(
        "name         : lzo\ndriver       : lzo-scomp\ntype         : scomp\n\n"
        "name         : sha256\ndriver       : x\ntype         : shash\n"
    )
    with pytest.raises(UsageError, match=r"this kernel has no sha256.*it has lzo$"):
        plan.make(root, {"zswap.compressor": "sha256"})
    modules = root / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.alias").write_text("alias crypto-zstd zstd\n")
    assert plan.make(root, {"zswap.compressor": "zstd"}).changes


def test_families_of_knobs(root: Path) -> None:
    """Keys of pools by size and node, of folios by size, of nodes and of processes map to their files."""
    paths = {
        "hugepages.1G.node1": "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages",
        "hugepages.2M.overcommit": "sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages",
        "thp.64K.shmem": "sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled",
        "compact.node1": "sys/devices/system/node/node1/compact",
        "weight.node0": "sys/kernel/mm/mempolicy/weighted_interleave/node0",
        "oom_score_adj.42": "proc/42/oom_score_adj",
    }
    assert {key: knobs.find(key).path for key in paths} == paths
    assert "hugepages.2M.node0" in values(root)


def test_every_value_this_machine_has_fits_its_knob() -> None:
    """The current value of each knob is in its range, and setting it is no change."""
    root = Path("/")
    readings = [knobs.read(root, knob) for knob in knobs.all_of(root)]
    now = {each.knob.key: each.value for each in readings if each.value}
    for pair in [each.knob.key for each in readings if each.knob.counterpart and each.value == "0"]:
        del now[pair]  # 0: its counterpart is in force
    assert len(now) > 20
    for key, value in now.items():
        if key != "zswap.compressor":  # may name a module that is not loaded
            assert plan.make(root, {key: value}).changes == (), key


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"vm.min_free_kbytes": str(5 << 20)}, "5.00 GiB of 16.0 GiB of memory"),
        ({"hugepages.2M": "3000"}, "5.85 GiB more, and 4.00 GiB are available"),
        ({"hugepages.2M.node0": "3000"}, "are available"),
    ],
)
def test_what_would_end_the_machine_is_refused(
    root: Path, wanted: dict[str, str], told: str
) -> None:
    """A reserve of more than a quarter, or pools larger than what is available, are not planned."""
    (root / "proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n")
    (root / VM / "min_free_kbytes").write_text("67584\n")
    with pytest.raises(UsageError, match=told):
        plan.make(root, wanted)
    assert (
        len(plan.make(root, {"hugepages.2M": "2000", "vm.min_free_kbytes": "4194304"}).changes) == 2
    )
