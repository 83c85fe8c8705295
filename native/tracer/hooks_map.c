/* Mappings that the program makes itself. They are few and large, so every one is recorded. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/mman.h>

#include "guard.h"
#include "join.h"
#include "late_modules.h"
#include "modules.h"
#include "python_eval.h"
#include "real.h"
#include "record.h"
#include "state.h"

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

/* A real malloc() under a slow path may map memory. Recording the mapping there is safe, since nothing of
 * the block's own record is written yet. */
static void report(void *start, size_t length, int prot, int flags, const void *caller)
{
	int before = trace_enter_nested();

	if (before < 0)
		return;
	if (trace_ready()) {
		if (trace_has_late_modules()) /* before the arenas of a Python among them */
			trace_look_for_late_modules();
		enum trace_kind kind =
			kind_of(flags, before == TRACE_IN_ALLOCATOR || is_allocator(caller));
		if (flags & MAP_FIXED)
			trace_unmapped(start, length);
		trace_allocated(kind, start, length,
				TRACE_FLAG_ALWAYS | (prot == PROT_NONE ? TRACE_FLAG_RESERVED : 0));
	}
	trace_leave_nested(before);
}

TRACE_EXPORT void *mmap(void *start, size_t length, int prot, int flags, int fd, off_t offset)
{
	void *mapped = trace_real.mmap(start, length, prot, flags, fd, offset);

	if (mapped != MAP_FAILED && !trace_session_is_over())
		report(mapped, length, prot, flags, __builtin_return_address(0));
	return mapped;
}

TRACE_EXPORT void *mmap64(void *start, size_t length, int prot, int flags, int fd, off_t offset)
	__attribute__((alias("mmap")));

TRACE_EXPORT int munmap(void *start, size_t length)
{
	int before = trace_session_is_over() || !length ? -1 : trace_enter_nested();

	if (before >= 0) {
		if (before == TRACE_OUTSIDE)
			trace_notice_end();
		if (trace_ready())
			trace_unmapped(start, length);
		trace_leave_nested(before);
	}
	return trace_real.munmap(start, length);
}

TRACE_EXPORT void *mremap(void *start, size_t length, size_t new_length, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	void *target = flags & MREMAP_FIXED ? va_arg(arguments, void *) : NULL;
	va_end(arguments);

	void *moved = trace_real.mremap(start, length, new_length, flags, target);
	int before = moved == MAP_FAILED || trace_session_is_over() ? -1 : trace_enter_nested();
	if (before < 0)
		return moved;
	if (trace_ready())
		trace_remapped(start, length, moved, new_length);
	trace_leave_nested(before);
	return moved;
}
