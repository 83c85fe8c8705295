/* State of the tracer and the predicates over it. */
#define _GNU_SOURCE
#include "state.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/statfs.h>
#include <time.h>

#include "syscall.h"

#define NS_PER_SPIN 40 /* about, for one pause instruction */

struct trace_session trace_session;
_Atomic int trace_state;
uint32_t trace_generation = 1;
uint32_t trace_exact_generation;
volatile char *trace_fork_mark;
__thread struct trace_tls trace_tls;
uint8_t trace_filter[TRACE_FILTER_SIZE];

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

bool trace_session_is_over(void)
{
	return atomic_load_explicit(&trace_state, memory_order_relaxed) == TRACE_OVER;
}

void trace_disable(const char *reason)
{
	struct trace_process *process = trace_session.process;

	atomic_store(&trace_state, TRACE_OVER);
	__atomic_store_n(&trace_exact_generation, 0, __ATOMIC_RELAXED);
	trace_tls.left = INT64_MAX;
	/* Bootstrap blocks keep their mark (255): they must never reach the real free(). */
	for (unsigned i = 0; i < TRACE_FILTER_SIZE; i++)
		if (trace_filter[i] != 255)
			trace_filter[i] = 0;
	if (process) {
		strncpy(process->reason, reason, sizeof process->reason - 1);
		__atomic_store_n(&process->state, TRACE_DISABLED, __ATOMIC_RELEASE);
	}
}

/* The loader's list has preloaded libraries before the loader itself, and later ones after it. */
static bool precedes_loader(void)
{
	struct link_map *map = NULL;
	Dl_info own;

	if (!dladdr1(&trace_session, &own, (void **)&map, RTLD_DL_LINKMAP))
		return true;
	for (; map; map = map->l_prev) {
		const char *name = map->l_name ? strrchr(map->l_name, '/') : NULL;
		if (name && strncmp(name, "/ld-linux", 9) == 0)
			return false;
	}
	return true;
}

bool trace_is_preloaded(void)
{
	static _Atomic int known; /* 0: not yet; 1: yes; -1: no */

	if (!atomic_load_explicit(&known, memory_order_relaxed)) {
		trace_session.own_start = (uintptr_t)__ehdr_start;
		trace_session.own_end = (uintptr_t)etext;
		atomic_store(&known, precedes_loader() ? 1 : -1);
	}
	return atomic_load_explicit(&known, memory_order_relaxed) > 0;
}

bool trace_space_left(size_t bytes)
{
	struct statfs fs;

	return statfs(trace_session.directory, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > 2 * bytes;
}

void trace_sleep(long ns)
{
	const struct timespec duration = {.tv_nsec = ns};

	if (!trace_session.sandboxed) {
		trace_syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &duration, NULL);
		return;
	}
	for (long i = 0; i < ns / NS_PER_SPIN; i++) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#else
		__asm__ volatile("" ::: "memory");
#endif
	}
}
