/* Mappings that the program makes itself. They are few and large, so every one is recorded. */
#define _GNU_SOURCE
#include "mappings.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/statfs.h>

#include "faults.h"
#include "guard.h"
#include "join.h"
#include "look.h"
#include "late_modules.h"
#include "modules.h"
#include "python_eval.h"
#include "real.h"
#include "record.h"
#include "state.h"
#include "syscall.h"

#define HUGE_BYTES (2u << 20)

#ifndef MADV_PAGEOUT /* Linux 5.4 */
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#endif

static bool is_python_arena(const void *caller)
{
	if (!trace_python_on_arena_map(caller))
		return false;
	trace_describe_python();
	return true;
}

/* A replacement allocator (jemalloc, mimalloc, tcmalloc) maps memory from its own code. Such mappings
 * hold blocks and are no allocations themselves. */
static bool is_allocator(const void *caller)
{
	return trace_arena_depth > 0 ||
	       trace_same_module(caller, (const void *)(uintptr_t)trace_real.malloc) ||
	       (trace_python.version && is_python_arena(caller));
}

static enum trace_kind kind_of(int flags, bool in_allocator)
{
	if (!(flags & MAP_ANONYMOUS) || (flags & MAP_TYPE) != MAP_PRIVATE)
		return TRACE_FILEMAP;
	return in_allocator ? TRACE_ARENA : TRACE_MMAP;
}

static bool is_shared_memory(int flags, int fd)
{
	struct statfs fs;

	if ((flags & MAP_TYPE) == MAP_PRIVATE)
		return false;
	return flags & MAP_ANONYMOUS ||
	       (trace_syscall(SYS_fstatfs, fd, &fs) == 0 &&
		(fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC));
}

/* A real malloc() under a slow path may map memory. Recording the mapping there is safe, since nothing of
 * the block's own record is written yet. -1: nothing may be recorded. */
static int begin(void)
{
	int before = trace_session_is_over() ? -1 : trace_enter_nested();

	if (before >= 0 && !trace_ready()) {
		trace_leave_nested(before);
		return -1;
	}
	return before;
}

void trace_mapping_made(void *start, size_t length, int protection, int flags, int fd,
			const void *caller)
{
	int before = begin();

	if (before < 0)
		return;
	if (trace_has_late_modules()) /* before the arenas of a Python among them */
		trace_look_for_late_modules();
	enum trace_kind kind = kind_of(flags, before == TRACE_IN_ALLOCATOR || is_allocator(caller));
	if (flags & MAP_FIXED)
		trace_unmapped(start, length);
	unsigned how = TRACE_FLAG_ALWAYS | (protection == PROT_NONE ? TRACE_FLAG_RESERVED : 0);
	if (kind == TRACE_FILEMAP && is_shared_memory(flags, fd))
		how |= TRACE_FLAG_SHARED;
	trace_allocated(kind, start, length, how);
	trace_leave_nested(before);
}

void trace_mapping_ends(const void *start, size_t length)
{
	int before = trace_session_is_over() ? -1 : trace_enter_nested();

	if (before < 0)
		return;
	if (before == TRACE_OUTSIDE)
		trace_notice_end();
	if (trace_ready()) {
		trace_look_before_fall();
		trace_unmapped(start, length);
	}
	trace_leave_nested(before);
}

void trace_mapping_shrinks(void)
{
	int before = begin();

	if (before < 0)
		return;
	trace_look_before_fall();
	trace_leave_nested(before);
}

void trace_mapping_moved(const void *start, size_t length, const void *moved, size_t new_length)
{
	int before = begin();

	if (before < 0)
		return;
	trace_remapped(start, length, moved, new_length);
	trace_leave_nested(before);
}

/* The collector knows which memory was reserved: only that becomes live. */
void trace_populated(const void *start, size_t length)
{
	int before = begin();

	if (before < 0)
		return;
	trace_committed(start, length);
	trace_leave_nested(before);
}

/* Allocators drop memory and then forbid access to it. The two calls together return the memory. */
static bool was_just_dropped(const void *start, size_t length)
{
	uintptr_t from = (uintptr_t)start;

	return from >= trace_tls.dropped_start && from + length <= trace_tls.dropped_end;
}

void trace_protection_changed(const void *start, size_t length, int protection)
{
	if (protection & PROT_WRITE) {
		trace_populated(start, length);
		return;
	}
	if (protection != PROT_NONE)
		return;
	int before = begin();
	if (before < 0)
		return;
	trace_returned(start, length,
		       TRACE_FLAG_CLOSED |
			       (was_just_dropped(start, length) ? TRACE_FLAG_DROPPED : 0));
	trace_leave_nested(before);
}

/* An allocator's own. NumPy asks for each of its arrays, wherever malloc() put that. */
static bool is_of_huge_pages(const void *start, size_t length)
{
	return length && ((uintptr_t)start | length) % HUGE_BYTES == 0;
}

static bool drops_pages(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE ||
	       advice == MADV_DONTNEED_LOCKED || advice == MADV_GUARD_INSTALL;
}

static void asked_for_huge_pages(void)
{
	int before = trace_is_forked() ? -1 : begin();

	if (before < 0)
		return;
	trace_faults_huge();
	trace_leave_nested(before);
}

void trace_advised(const void *start, size_t length, int advice)
{
	if (advice == MADV_HUGEPAGE && is_of_huge_pages(start, length))
		asked_for_huge_pages();
	if (advice == MADV_PAGEOUT)
		trace_mapping_shrinks();
	if (!drops_pages(advice))
		return;
	int before = begin();
	if (before < 0)
		return;
	trace_look_before_fall();
	trace_tls.dropped_start = (uintptr_t)start;
	trace_tls.dropped_end = (uintptr_t)start + length;
	trace_returned(start, length, TRACE_FLAG_DROPPED);
	trace_leave_nested(before);
}

void trace_break_moved(uintptr_t old, uintptr_t now, const void *caller)
{
	int before = old == now ? -1 : begin();

	if (before < 0)
		return;
	bool in_allocator = before == TRACE_IN_ALLOCATOR || is_allocator(caller);
	if (now > old)
		trace_allocated(in_allocator ? TRACE_ARENA : TRACE_MMAP, (void *)old, now - old,
				TRACE_FLAG_ALWAYS);
	else
		trace_unmapped((void *)now, old - now);
	trace_leave_nested(before);
}

void trace_segment_attached(void *start, int segment)
{
	struct shmid_ds description;
	int before = begin();

	if (before < 0)
		return;
	if (trace_syscall(SYS_shmctl, segment, IPC_STAT, &description) == 0)
		trace_allocated(TRACE_FILEMAP, start, description.shm_segsz,
				TRACE_FLAG_ALWAYS | TRACE_FLAG_SHARED);
	trace_leave_nested(before);
}
