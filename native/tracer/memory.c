/* The tracer's own memory in the traced program: named, out of core dumps, and listed for the collector,
 * which takes it out of the program's account. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "syscall.h"
#include "tracer.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define PRIVATE_MAPS TRACE_PRIVATE_MAPS
struct range {
	uint64_t start, end;
};

static struct range private_maps[PRIVATE_MAPS];

void *trace_pages(size_t size, int protection, int flags, int fd)
{
	long result = trace_syscall(SYS_mmap, NULL, size, protection, flags, fd, 0L);

	return result < 0 && result >= -4095 ? MAP_FAILED : (void *)result;
}

/* Tells the collector which memory is ours. */
static void tell_private_map(unsigned index)
{
	struct trace_process *process = trace_session.process;

	if (!process)
		return;
	process->private_start[index] = private_maps[index].start;
	__atomic_store_n(&process->private_end[index], private_maps[index].end, __ATOMIC_RELEASE);
}

static void list_private_map(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < PRIVATE_MAPS; i++) {
		uint64_t unused = 0;
		if (!__atomic_compare_exchange_n(&private_maps[i].start, &unused, start, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		private_maps[i].end = end;
		tell_private_map(i);
		return;
	}
}

/* Its end goes first, its start last: then another may take the place. */
static void unlist_private_map(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < PRIVATE_MAPS; i++) {
		if (private_maps[i].start != start || private_maps[i].end != end)
			continue;
		private_maps[i].end = 0;
		tell_private_map(i);
		__atomic_store_n(&private_maps[i].start, 0, __ATOMIC_RELEASE);
		return;
	}
}

static void shorten_private_map(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < PRIVATE_MAPS; i++) {
		if (private_maps[i].start != start)
			continue;
		private_maps[i].end = end;
		tell_private_map(i);
	}
}

void *trace_map(size_t size, int protection)
{
	if (trace_session.sandboxed)
		return NULL;
	void *memory =
		trace_pages(size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	if (memory == MAP_FAILED)
		return NULL;
	trace_syscall(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, size, "mematlas");
	trace_syscall(SYS_madvise, memory, size, MADV_DONTDUMP);
	trace_syscall(SYS_madvise, memory, size, MADV_NOHUGEPAGE);
	list_private_map((uintptr_t)memory, (uintptr_t)memory + size);
	return memory;
}

void trace_unmap(void *memory, size_t size)
{
	unlist_private_map((uintptr_t)memory, (uintptr_t)memory + size);
	trace_syscall(SYS_munmap, memory, size);
}

void trace_shorten_map(void *memory, size_t size, size_t kept)
{
	shorten_private_map((uintptr_t)memory, (uintptr_t)memory + kept);
	trace_syscall(SYS_munmap, (char *)memory + kept, size - kept);
}

void trace_tell_maps(void)
{
	for (unsigned i = 0; i < PRIVATE_MAPS; i++)
		tell_private_map(i);
}
