"""Secret regions: who can read them, what is left of them, and what their placement says."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from machine_state import in_child
from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.memory import Region, advice, secret
from mematlas.memory.page_mapping import PageMapping

PAGE = 4096
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def without_memfd_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the system call fail as on a kernel that has none."""

    def refuse() -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(_core, "create_secret_memfd", refuse)


@pytest.fixture(params=["memfd_secret", "locked"])
def protection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide both ways to protect, where the kernel has both."""
    if request.param == "locked":
        without_memfd_secret(monkeypatch)
    else:
        with Region("4K", secret=True) as region:
            if region.protection != "memfd_secret":
                pytest.skip(region.reasons[0])
    return str(request.param)


def is_mapped(address: int) -> bool:
    """Return whether any mapping contains an address."""
    return advice._mapping_at(address) is not None


def test_the_placement_says_what_protects(protection: str) -> None:
    """The region tells its protection; smaps shows locked memory that is neither dumped nor forked."""
    with Region("64K", secret=True, guard=True) as region:
        region.view[:5] = b"hello"
        assert region.protection == protection
        assert protection.split("_", maxsplit=1)[0] in region.explain().replace(
            "mlock(2)", "locked"
        )
        assert bool(region.reasons) is (protection == "locked")
        assert region.placement.locked == region.placement.resident == 65536
        mapping = advice._mapping_at(region.address)
        assert mapping is not None
        assert {"lo", "dd", "dc"} <= mapping.flags
        assert in_child(lambda: region.view[0] == 0) == -signal.SIGSEGV
        assert bytes(region.view[:5]) == b"hello"


def test_other_processes_cannot_read_it(protection: str) -> None:
    """By memfd_secret neither /proc/PID/mem nor process_vm_readv reads it; locked memory they do read."""
    readable = protection == "locked"
    with Region("4K", secret=True) as region:
        region.view[:5] = b"hello"
        descriptor = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            assert (os.pread(descriptor, 5, region.address) == b"hello") is readable
        except OSError:
            assert not readable
        finally:
            os.close(descriptor)
        script = (
            "import ctypes, sys\n"
            "class Part(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
            "libc, into = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(5)\n"
            "mine, other = Part(ctypes.addressof(into), 5), Part(int(sys.argv[2]), 5)\n"
            "got = libc.process_vm_readv(int(sys.argv[1]), ctypes.byref(mine), 1, ctypes.byref(other), 1, 0)\n"
            "print(got, ctypes.get_errno(), into.raw)\n"
        )
        words = [sys.executable, "-c", script, str(os.getpid()), str(region.address)]
        got, number, *_ = subprocess.check_output(words, text=True).split()
        if number == "1":
            pytest.skip("this process may not read others' memory")
        assert (int(got) == 5) is readable


@pytest.mark.parametrize("secret_", [True, False])
def test_core_dumps_do_not_contain_it(tmp_path: Path, protection: str, *, secret_: bool) -> None:
    """A core file holds the bytes of an ordinary region, and not those of a secret one."""
    if CORE_PATTERN.read_text().startswith(("|", "/")):
        pytest.skip("core files go elsewhere")
    os_environment = {**os.environ, "WITHOUT": "1" if protection == "locked" else ""}
    script = (
        "import os, resource, sys\n"
        "from mematlas import _core\n"
        "from mematlas.memory import Region\n"
        "def refuse(): raise OSError(38, '')\n"
        "if os.environ['WITHOUT']: _core.create_secret_memfd = refuse\n"
        f"region = Region('64K', secret={secret_})\n"
        "for at in range(4096): region.view[at] = (at * 37 + 11) % 251\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))\n"
        "os.abort()\n"
    )
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("no core files here")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os_environment, check=False
    )
    assert done.returncode == -signal.SIGABRT
    cores = list(tmp_path.glob("*core*"))
    if not cores:
        pytest.skip("the kernel writes no core file here")
    pattern = bytes((at * 37 + 11) % 251 for at in range(2048))
    assert (pattern in cores[0].read_bytes()) is not secret_


def test_it_is_wiped_at_its_end(protection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """close(), and the end of the last view, overwrite the memory before it is unmapped."""
    seen: list[bytes] = []
    original = PageMapping.unmap

    def unmap(mapping: PageMapping) -> None:
        seen.append(ctypes.string_at(mapping.start, 5))
        original(mapping)

    monkeypatch.setattr(PageMapping, "unmap", unmap)
    region = Region("4K", secret=True)
    region.view[:5] = b"hello"
    view, address = region.view, region.address
    with pytest.raises(BufferError):
        region.close()
    assert bytes(view[:5]) == b"hello"
    view.release()
    del view
    region.close()
    region.close()
    assert region.closed
    assert not is_mapped(address)
    region = Region("4K", secret=True)
    region.view[:5] = b"again"
    array, address = region.array(), region.address
    del region
    gc.collect()
    assert array.tobytes()[:5] == b"again"
    del array
    gc.collect()
    assert not is_mapped(address)
    assert seen == [bytes(5)] * 2
    assert protection


def test_it_is_wiped_at_the_end_of_python(protection: str) -> None:
    """What is open when the interpreter ends is overwritten; a child that ends before leaves it alone."""
    script = (
        "import atexit, ctypes, os\n"
        "atexit.register(lambda: print(ctypes.string_at(region.address, 5)))\n"
        "from mematlas.memory import Region\n"
        "region = Region('4K', secret=True)\n"
        "region.view[:5] = b'hello'\n"
        "if os.fork() == 0: os._exit(0)\n"
        "os.wait()\n"
        "print(bytes(region.view[:5]), flush=True)\n"
    )
    text = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert text.split() == ["b'hello'", r"b'\x00\x00\x00\x00\x00'"]
    assert protection


def test_a_child_that_exits_does_not_crash(protection: str) -> None:
    """A forked child has no mapping there, and neither its exit nor its garbage collector touches one."""
    region = Region("4K", secret=True)
    region.view[:5] = b"hello"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            del region
            gc.collect()
            secret._wipe_all()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(region.view[:5]) == b"hello"
    region.close()
    assert protection


def test_an_inherited_region_leaves_the_childs_own_alone(protection: str) -> None:
    """A child's new region may be where its parent's was; the end of the inherited object does not touch it."""
    region = Region("64K", secret=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = Region("64K", secret=True)
            own.view[:3] = b"own"
            region.close()
            code = 0 if bytes(own.view[:3]) == b"own" else 2
            own.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    region.close()
    assert protection


def test_require_refuses_the_weaker_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With require, a kernel without memfd_secret is an error; other options are refused."""
    without_memfd_secret(monkeypatch)
    with pytest.raises(MematlasError, match=r"secretmem\.enable"):
        Region("4K", secret=True, require=True)
    for options in ({"huge": "thp"}, {"share": True}, {"fork": "copy"}, {"node": 0}):
        with pytest.raises(UsageError, match="secret takes no other option"):
            Region("4K", secret=True, **options)


def test_closing_an_inherited_region_spares_those_of_the_child(protection: str) -> None:
    """A child's own memory often lies where its parent's was; only the child's own end ends it."""
    inherited = [Region("64K", secret=True) for _ in range(4)]

    def child() -> bool:
        own = [Region("64K", secret=True) for _ in range(4)]
        for each in own:
            each.view[0:3] = b"abc"
        places = {each.address for each in own}
        assert places & {each.address for each in inherited}, "the case needs a common address"
        inherited[0].close()
        inherited.clear()
        gc.collect()
        assert all(bytes(each.view[0:3]) == b"abc" for each in own)
        for each in own:
            each.close()
        return True

    assert in_child(child) == 0
    for each in inherited:
        each.close()
    assert protection


NESTED = """
import ctypes, gc, os, sys
from mematlas.memory import Region
libc = ctypes.CDLL(None, use_errno=True)
assert os.getpid() == 1
inherited = [Region('64K', secret=True) for _ in range(4)]
for each in inherited:
    each.view[:3] = b'abc'
assert libc.unshare(0x20000000) == 0  # CLONE_NEWPID: the next child is PID 1 as well
clone = 56 if os.uname().machine == 'x86_64' else 220
child = os.fork() if sys.argv[1] == 'fork' else libc.syscall(clone, 17, 0, 0, 0, 0)
if child == 0:
    code = 1
    try:
        assert os.getpid() == 1
        own = [Region('64K', secret=True) for _ in range(4)]
        assert {each.address for each in own} & {each.address for each in inherited}
        for each in own:
            each.view[:3] = b'own'
        inherited[0].close()
        inherited.clear()
        gc.collect()
        assert all(bytes(each.view[:3]) == b'own' for each in own)
        code = 0
    finally:
        os._exit(code)
status = os.waitpid(child, 0)[1]
assert all(bytes(each.view[:3]) == b'abc' for each in inherited)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


@pytest.mark.parametrize("way", ["fork", "clone"])
def test_a_child_with_the_same_pid_is_another_process(way: str) -> None:
    """In a nested PID namespace the child has its parent's PID, and a raw clone runs no hook of Python."""
    words = ["unshare", "--pid", "--fork", sys.executable, "-c", NESTED, way]
    if subprocess.run([*words[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not make PID namespaces")
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_each_process_has_its_token_before_its_threads() -> None:
    """Threads that drew the token of their process would forget what another one has mapped meanwhile."""
    before = secret._token_page[:8]

    def child() -> bool:
        found = secret._token_page[:8]
        return any(found) and found != before and secret._live == {}

    assert any(before)
    assert in_child(child) == 0
