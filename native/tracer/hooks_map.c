/* The functions by which a program maps memory, commits it and gives it back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "mappings.h"
#include "mark.h"
#include "real.h"
#include "state.h"
#include "syscall.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14; glibc 2.34 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

TRACE_EXPORT void *mmap(void *start, size_t length, int prot, int flags, int fd, off_t offset)
{
	if (flags & MAP_FIXED)
		trace_mapping_shrinks();
	void *mapped = trace_real.mmap(start, length, prot, flags, fd, offset);

	if (mapped != MAP_FAILED)
		trace_mapping_made(mapped, length, prot, flags, fd, __builtin_return_address(0));
	return mapped;
}

TRACE_EXPORT void *mmap64(void *start, size_t length, int prot, int flags, int fd, off_t offset)
	__attribute__((alias("mmap")));

TRACE_EXPORT int munmap(void *start, size_t length)
{
	if (length)
		trace_mapping_ends(start, length);
	else
		trace_unmapped_nothing(start, __builtin_frame_address(0));
	return trace_real.munmap(start, length);
}

TRACE_EXPORT void *mremap(void *start, size_t length, size_t new_length, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	void *target = flags & MREMAP_FIXED ? va_arg(arguments, void *) : NULL;
	va_end(arguments);

	if (new_length < length)
		trace_mapping_shrinks();
	void *moved = trace_real.mremap(start, length, new_length, flags, target);
	if (moved != MAP_FAILED)
		trace_mapping_moved(start, length, moved, new_length);
	return moved;
}

TRACE_EXPORT int mprotect(void *start, size_t length, int protection)
{
	int result = trace_real.mprotect(start, length, protection);

	if (result == 0 && length)
		trace_protection_changed(start, length, protection);
	return result;
}

TRACE_EXPORT int pkey_mprotect(void *start, size_t length, int protection, int key)
{
	int result = trace_real.pkey_mprotect(start, length, protection, key);

	if (result == 0 && length)
		trace_protection_changed(start, length, protection);
	return result;
}

static bool populates(int advice)
{
	return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
}

TRACE_EXPORT int madvise(void *start, size_t length, int advice)
{
	if (length)
		trace_advised(start, length, advice);
	int result = trace_real.madvise(start, length, advice);
	if (result == 0 && length && populates(advice))
		trace_populated(start, length);
	return result;
}

/* Inside, the C library gives memory back without the functions above. */
TRACE_EXPORT int malloc_trim(size_t kept)
{
	trace_mapping_shrinks();
	return trace_real.malloc_trim(kept);
}

/* Pages of shared memory go where a mapped file is cut, or gets a hole. */
TRACE_EXPORT int ftruncate(int fd, off_t length)
{
	trace_mapping_shrinks();
	return trace_real.ftruncate(fd, length);
}

TRACE_EXPORT int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));

TRACE_EXPORT int fallocate(int fd, int mode, off_t start, off_t length)
{
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		trace_mapping_shrinks();
	return trace_real.fallocate(fd, mode, start, length);
}

TRACE_EXPORT int fallocate64(int fd, int mode, off_t start, off_t length)
	__attribute__((alias("fallocate")));

/* The C library's own malloc() moves the break without these functions: a call is the program's. */
TRACE_EXPORT int brk(void *end)
{
	void *before = trace_real.sbrk(0);
	if ((uintptr_t)end < (uintptr_t)before)
		trace_mapping_shrinks();
	int result = trace_real.brk(end);

	if (result == 0)
		trace_break_moved((uintptr_t)before, (uintptr_t)end, __builtin_return_address(0));
	return result;
}

TRACE_EXPORT void *sbrk(intptr_t change)
{
	if (change < 0)
		trace_mapping_shrinks();
	void *before = trace_real.sbrk(change);

	if (before != (void *)-1)
		trace_break_moved((uintptr_t)before, (uintptr_t)before + (uintptr_t)change,
				  __builtin_return_address(0));
	return before;
}

TRACE_EXPORT void *shmat(int segment, const void *address, int flags)
{
	void *start = trace_real.shmat(segment, address, flags);

	if (start != (void *)-1)
		trace_segment_attached(start, segment);
	return start;
}

TRACE_EXPORT int shmdt(const void *address)
{
	trace_mapping_ends(address, 0);
	return trace_real.shmdt(address);
}

/* The same by syscall(). The assembly of sandbox.c jumps here for these numbers only; none of them
 * switches stacks or returns twice. */
#if defined(__x86_64__)
__attribute__((used)) long trace_memory_syscall(long number, long a, long b, long c, long d, long e,
						long f);

static bool may_shrink(long number, const long *a, long break_before)
{
	switch (number) {
	case SYS_mmap:
		return a[3] & MAP_FIXED;
	case SYS_mremap:
		return a[2] < a[1];
	case SYS_brk:
		return a[0] && a[0] < break_before;
	default:
		return false;
	}
}

static void before_syscall(long number, const long *a, long break_before)
{
	if (number == SYS_munmap && a[1])
		trace_mapping_ends((void *)a[0], (size_t)a[1]);
	if (number == SYS_shmdt)
		trace_mapping_ends((void *)a[0], 0);
	if (number == SYS_madvise && a[1])
		trace_advised((void *)a[0], (size_t)a[1], (int)a[2]);
	if (may_shrink(number, a, break_before))
		trace_mapping_shrinks();
}

static void after_syscall(long number, const long *a, long result, const void *caller)
{
	switch (number) {
	case SYS_mmap:
		trace_mapping_made((void *)result, (size_t)a[1], (int)a[2], (int)a[3], (int)a[4],
				   caller);
		break;
	case SYS_mremap:
		trace_mapping_moved((void *)a[0], (size_t)a[1], (void *)result, (size_t)a[2]);
		break;
	case SYS_mprotect:
	case SYS_pkey_mprotect:
		if (a[1])
			trace_protection_changed((void *)a[0], (size_t)a[1], (int)a[2]);
		break;
	case SYS_madvise:
		if (a[1] && populates((int)a[2]))
			trace_populated((void *)a[0], (size_t)a[1]);
		break;
	case SYS_shmat:
		trace_segment_attached((void *)result, (int)a[0]);
		break;
	default:
		break;
	}
}

long trace_memory_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	const long arguments[] = {a, b, c, d, e, f};
	long break_before = number == SYS_brk ? trace_syscall(SYS_brk, 0) : 0;

	before_syscall(number, arguments, break_before);
	long result = trace_real_syscall(number, a, b, c, d, e, f);
	if (number == SYS_brk)
		trace_break_moved((uintptr_t)break_before, (uintptr_t)result,
				  __builtin_return_address(0));
	else if (result != -1)
		after_syscall(number, arguments, result, __builtin_return_address(0));
	return result;
}
#endif
