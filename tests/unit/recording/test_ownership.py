"""The owner of a stack: through wrappers, past launchers and interpreters, named before unnamed."""

from __future__ import annotations

from re import _parser as parser  # type: ignore[attr-defined]  # has no public name
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.recording.model import Frame
from mematlas.recording.ownership import OWN, RUNTIME, owning_frame, tier
from mematlas.recording.wrapper_names import (
    DISPATCHERS,
    START,
    WRAPPERS,
    is_dispatcher,
    is_wrapper,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

JVM = "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so"
RUBY = "/lib/x86_64-linux-gnu/libruby-3.1.so.3.1"
R = "/usr/lib/R/lib/libR.so"
POLARS = "/venv/lib/python3.11/site-packages/_polars_runtime_32/_polars_runtime.abi3.so"
ARROW = "/venv/lib/python3.11/site-packages/pyarrow/libarrow_compute.so.2600"
STACKS = [  # as recorded from programs of Debian 12, leaf first; the owner is marked by *
    ("/usr/bin/perl", "Perl_safesysrealloc < Perl_sv_grow < *Perl_pp_repeat < Perl_runops_standard < main"),
    (RUBY, "libruby-3.1.so.3.1+0xd8460 < libruby-3.1.so.3.1+0x1ec5a0 < *rb_str_times < rb_vm_exec < ruby_run_node"),
    (R, "Rf_allocVector3 < Rf_allocMatrix < *libR.so+0x96fe0 < libR.so+0x136de0 < Rf_eval < Rf_applyClosure < run_Rmainloop"),
    ("/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "erts_mmap < beam.smp+0x2723c6 < erts_mseg_alloc_opt < beam.smp+0x11669b < erts_alcu_alloc_thr_pref < beam.smp+0x205211 < *erts_garbage_collect_nobump"),
    (JVM, "os::pd_commit_memory_or_exit < os::commit_memory_or_exit < G1PageBasedVirtualSpace::commit < *G1CollectedHeap::expand < Threads::create_vm < JavaMain"),
    (JVM, "os::malloc < *Unsafe_AllocateMemory0"),
    ("/usr/sbin/nginx", "ngx_memalign < ngx_create_pool < *ngx_init_cycle < main"),
    ("/usr/bin/redis-server", "zmalloc < *aeCreateEventLoop < initServer < main"),
    ("/usr/lib/postgresql/15/bin/postgres", "AllocSetAlloc < palloc0 < *ExecInitHashJoin < PostmasterMain < main"),
    ("/lib/x86_64-linux-gnu/libx264.so.164", "x264_malloc < libx264.so.164+0x223c3 < libx264.so.164+0x26040 < *x264_encoder_encode"),
    ("/lib/x86_64-linux-gnu/libMagickCore-6.Q16.so.6", "AcquireAlignedMemory < libMagickCore-6.Q16.so.6+0x50b75 < *MorphologyApply < BlurImageChannel"),
    ("/usr/bin/php8.2", "php8.2+0x2d3b58 < _safe_femalloc < php8.2+0x267b90 < *zend_hash_real_init_mixed < execute_ex < php_execute_script"),
    (POLARS, "*polars_compute::cast::from_to_binview < rayon::iter::plumbing::bridge_producer_consumer::helper::<u8> < <rayon_core::registry::WorkerThread>::wait_until_cold"),
    (POLARS, "rayon_core::join::join_context::<u8> < rayon::slice::sort::merge_recurse::<u8> < *<rayon_core::thread_pool::ThreadPool>::install::<polars_core::chunked_array::ops::sort::sort_by_branch<u8>::{closure#0}, ()>::{closure#0} < <rayon_core::registry::WorkerThread>::wait_until_cold"),
    (ARROW, "arrow::BaseMemoryPoolImpl<arrow::(anonymous namespace)::MimallocAllocator>::Allocate < arrow::PoolBuffer::Reserve < arrow::AllocateResizableBuffer < *arrow::compute::SwissTable::grow_double < arrow::internal::ThreadPool::LaunchWorkersUnlocked"),
    ("/usr/bin/emacs-nox", "*emacs-nox+0x137980 < load-with-code-conversion < startup--load-user-init-file < emacs-nox+0x1090"),
    ("/home/me/app", "xmalloc < *read_config < main"),
    ("/home/me/app", "operator new < std::vector<int>::reserve < *Index::grow < main"),
    ("/home/me/gocode", "x_cgo_mmap < runtime.callCgoMmap < runtime.sysMap < runtime.(*mheap).grow < runtime.mallocgc < runtime.makeslice < *main.load < runtime.main"),
    ("/home/me/rusty", "__rust_alloc < alloc::alloc::alloc < <alloc::vec::Vec<T> as core::iter::FromIterator<T>>::from_iter < *rusty::read_rows < main"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "text"), STACKS)
def test_owners_of_real_stacks(module: str, text: str) -> None:
    """The owner is what a developer of the program would name."""
    names = text.split(" < ")
    frames = tuple(Frame(each.lstrip("*"), None, None, module, "native") for each in names)
    expected = next(each for each in names if each.startswith("*")).lstrip("*")
    found = owning_frame(frames)
    assert found is not None
    assert found.function == expected


def test_a_launcher_of_the_system_is_not_the_owner() -> None:
    """Code in the library owns, although the executable is nearer to the program's main."""
    frames = (
        Frame("rb_str_times", None, None, RUBY, "native"),
        Frame("ruby_run_node", None, None, RUBY, "native"),
        Frame("ruby3.1+0x10b0", None, None, "/usr/bin/ruby3.1", "native"),
    )
    assert owning_frame(frames) == frames[0]
    own = Frame("embed+0x11d0", None, None, "/home/me/embed", "native")
    assert owning_frame((*frames, own)) == own


@pytest.mark.parametrize(
    "function",
    ["plugin_alloc", "other_alloc", "allocate_table", "load", "Buffer::grow", "new_node", "mapper",
     "parse_value", "zoom", "x", "newline", "palace", "scan", "mainline", "evaluate", "sdsomething",
     "allocate", "alloc_frames", "core_load", "std_input", "Array<int>::sort", "Matrix::Matrix", "pool_size", "new_operator",
     "sprint_realloc_variable", "export_malloc_error", "dealloc", "ext_prealloc",
     "os_validate_config", "newblock", "new_chunk_resize", "allocHeapNode"],
)  # fmt: skip
def test_functions_that_a_program_may_have_are_no_wrappers(function: str) -> None:
    """A name that only resembles an allocator's stays an owner."""
    assert not is_wrapper(function)
    assert not is_dispatcher(function)
    assert tier(Frame(function, "/home/me/a.c", 3, "/home/me/a", "native")) == OWN


@pytest.mark.parametrize(
    "function",
    ["llvm::User::operator new", "my_large_malloc", "AllocSetContextCreateInternal", "caml_alloc_shr",
     "expand_heap", "camlStdlib__Array__init_103", "rtl_uString_alloc", "pool_get_from_os", "lalloc",
     "asmjit::_abi_1_9::VirtMem::allocDualMapping", "agalloc", "gmalloc", "getMBlocks", "Perl_newSViv",
     "Array<double, std::allocator<double> >::clear", "os::pd_map_memory", "ngx_shm_alloc",
     "v8::internal::Deserializer<v8::internal::Isolate>::Allocate",
     "xla::(anonymous namespace)::AlignedAllocator::Allocate"],
)  # fmt: skip
def test_wrappers_of_programs_of_the_zoo(function: str) -> None:
    """Each was the largest owner of a program, which no developer of that program would name."""
    assert is_wrapper(function)


@pytest.mark.parametrize(
    "function",
    ["jv_mem_alloc", "BigAlloc", "png_malloc_warn",
     "z7_AlignedAlloc", "tsl::port::AlignedMalloc", "alloc", "uprv_malloc_78", "XtRealloc", "ber_memalloc_x", "nghttp2_mem_calloc", "ksba_realloc",
     "os_alloc_gc_space", "PL_malloc_atomic", "newblock"],
)  # fmt: skip
def test_wrappers_of_libraries_by_the_form_of_their_names(function: str) -> None:
    """Each was the largest owner of a program of the system; a program of one's own may just use malloc in it."""
    assert (
        tier(Frame(function, None, None, "/usr/lib/x86_64-linux-gnu/libjq.so.1", "native"))
        == RUNTIME
    )
    assert tier(Frame(function, "/home/me/a.c", 3, "/home/me/a", "native")) == OWN


@pytest.mark.parametrize(
    ("function", "file"),
    [
        ("argmap_pagerank_30", "<class 'networkx.utils.decorators.argmap'> compilation 33"),
        ("__init__", "<sqlalchemy generated __init__ for class Item>"),
        ("__init__", "<attrs generated init shop.Item>"),
        ("__create_fn__.<locals>.__init__", "<string>"),
        ("concatenate", "<__array_function__ internals>"),
        ("solve", "<decorator-gen-12>"),
    ],
)
def test_generated_code_is_not_the_programs_own(function: str, file: str) -> None:
    """Its file cannot be opened: the line that called it owns. What `python -c` runs is the program's own."""
    caller = Frame("fill", "/home/me/shop.py", 9, None, "python")
    assert owning_frame((Frame(function, file, 3, None, "python"), caller)) == caller
    own_files = "<string> <stdin> <ipython-input-1-abc> <python-input-3> <timeit-src> <command-4123> <pyshell#2>"
    for own in own_files.split():
        frame = Frame("make", own, 3, None, "python")
        assert owning_frame((frame, caller)) == frame


def test_a_marked_frame_is_looked_through() -> None:
    """What the user skips is no owner while another frame is there."""
    marked = Frame("make", "/home/me/a.py", 3, None, "python", wrapper=True)
    caller = Frame("load", "/home/me/a.py", 9, None, "python")
    assert tier(marked) == RUNTIME
    assert owning_frame((marked, caller)) == caller
    assert owning_frame((marked,)) == marked


def test_the_starts_of_a_row_are_those_of_all_names_it_matches() -> None:
    """A start that is missing would hide wrappers; one too many costs a compilation."""
    for title, starts, expression in (*WRAPPERS, *DISPATCHERS):
        assert title
        if starts:
            assert sorted(starts.split()) == sorted(first_letters(expression)), title


def first_letters(expression: str) -> set[str]:
    """Return the first letters of all names that a regular expression matches; fewer where any may follow."""
    return {text[:START] for text, _ in _texts(parser.parse(expression))}


def _texts(items: Iterable[tuple[Any, Any]]) -> set[tuple[str, bool]]:
    """Return how the matches of a sequence begin, and whether that is all of them."""
    found = {("", True)}
    for item in items:
        open_ended = {each for each in found if not each[1] or len(each[0]) >= START}
        further = _texts_of(*item) if found - open_ended else set()
        found = open_ended | {
            (text + more, whole) for text, _ in found - open_ended for more, whole in further
        }
    return found


def _texts_of(kind: Any, what: Any) -> set[tuple[str, bool]]:
    if kind is parser.LITERAL:
        return {(chr(what), True)}
    if kind is parser.SUBPATTERN:
        return _texts(what[-1])
    if kind is parser.BRANCH:
        return set().union(*map(_texts, what[1]))
    if kind is parser.IN and all(each is parser.LITERAL for each, _ in what):
        return {(chr(each), True) for _, each in what}
    if kind is parser.MAX_REPEAT:
        least, most, items = what
        counts = range(least, min(most, START) + 1)  # no more are needed to compare the letters
        return set().union(*(_texts([*items] * count) for count in counts))
    return {("", False)}
