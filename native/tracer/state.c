/* State of the tracer and the predicates over it. */
#define _GNU_SOURCE
#include "state.h"

#include <string.h>
#include <time.h>

#include "syscall.h"

#define NS_PER_SPIN 40 /* about, for one pause instruction */
#define MAX_LAP_NS 20000000L

struct trace_session trace_session;
_Atomic int trace_state;
uint32_t trace_generation = 1;
uint32_t trace_exact_generation;
volatile char *trace_fork_mark;
uint64_t trace_fork_lineage;
__thread struct trace_tls trace_tls;
uint8_t trace_filter[TRACE_FILTER_SIZE];

bool trace_session_is_over(void)
{
	return atomic_load_explicit(&trace_state, memory_order_relaxed) == TRACE_OVER;
}

bool trace_session_has_ended(void)
{
	const struct trace_control *control = trace_session.control;

	return control && (__atomic_load_n(&control->off, __ATOMIC_RELAXED) ||
			   !trace_collector_lives(control));
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

long trace_lap_ns(struct timespec *since)
{
	struct timespec before = *since;

	clock_gettime(CLOCK_MONOTONIC, since);
	long passed =
		(since->tv_sec - before.tv_sec) * 1000000000L + since->tv_nsec - before.tv_nsec;
	return passed < MAX_LAP_NS ? passed : MAX_LAP_NS;
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
