/* The tracer's own memory in the traced program: named, excluded from core dumps, and published to the
 * collector, which subtracts it from the program's account. */
#define _GNU_SOURCE
#include "memory.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include "state.h"
#include "syscall.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

struct range {
	uint64_t start, end; /* start == 0: unused */
};

static struct range private_maps[TRACE_PRIVATE_MAPS];

void *trace_pages(size_t size, int protection, int flags, int fd)
{
	long result = trace_syscall(SYS_mmap, NULL, size, protection, flags, fd, 0L);

	return result < 0 && result >= -4095 ? MAP_FAILED : (void *)result;
}

static void publish(unsigned index)
{
	struct trace_process *process = trace_session.process;

	if (!process)
		return;
	process->private_start[index] = private_maps[index].start;
	__atomic_store_n(&process->private_end[index], private_maps[index].end, __ATOMIC_RELEASE);
}

static void add_range(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++) {
		uint64_t unused = 0;
		if (!__atomic_compare_exchange_n(&private_maps[i].start, &unused, start, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		private_maps[i].end = end;
		publish(i);
		return;
	}
}

/* `end` is cleared first and `start` last: a start of 0 frees the slot for other threads. */
static void remove_range(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++) {
		if (private_maps[i].start != start || private_maps[i].end != end)
			continue;
		private_maps[i].end = 0;
		publish(i);
		__atomic_store_n(&private_maps[i].start, 0, __ATOMIC_RELEASE);
		return;
	}
}

static void shorten_range(uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++) {
		if (private_maps[i].start != start)
			continue;
		private_maps[i].end = end;
		publish(i);
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
	add_range((uintptr_t)memory, (uintptr_t)memory + size);
	return memory;
}

void trace_unmap(void *memory, size_t size)
{
	remove_range((uintptr_t)memory, (uintptr_t)memory + size);
	trace_syscall(SYS_munmap, memory, size);
}

void trace_shorten_map(void *memory, size_t size, size_t kept)
{
	shorten_range((uintptr_t)memory, (uintptr_t)memory + kept);
	trace_syscall(SYS_munmap, (char *)memory + kept, size - kept);
}

void trace_publish_maps(void)
{
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++)
		publish(i);
}
