/* State of the tracer that every file may read: the session, its generations, and the predicates over
 * them. Everything in this library runs inside another program: no malloc, no stdio, errno is kept.
 *
 *   UNSTARTED -> JOINING -> JOINED -> OVER;  OVER -> JOINING only by attach */
#ifndef MEMATLAS_TRACER_STATE_H
#define MEMATLAS_TRACER_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "../include/trace_format.h"
#include "sampler.h"

#define TRACE_EXPORT __attribute__((visibility("default")))
#define TRACE_SLOW __attribute__((noinline, cold))

/* The session this process reports to.
 *
 *   process->rings <= most_rings <= TRACE_MAX_RINGS
 *   ring_words is a power of two, ring_words * 8 >= TRACE_MIN_RING_DATA
 *   exact => sample_bytes == 0 */
struct trace_session {
	/* Mapped for good once mapped, since they are used without the guard too: a detached program has
	 * empty memory of its own there. NULL: never joined. */
	const struct trace_control *control;
	struct trace_common *common;
	bool in_session; /* control and common are the session's */
	struct trace_process *process;
	struct trace_ring *rings;
	uint64_t clock_base;
	uint64_t sample_bytes;
	size_t page_bytes; /* of the kernel */
	uint32_t ring_words;
	uint32_t most_rings; /* directory entries this process maps */
	bool exact;
	bool attached; /* to a running program: its earlier allocations are unknown */
	bool counting; /* TRACE_CLOCK_COUNTER */
	bool sandboxed; /* under seccomp: a system call of the tracer may kill the program */
	uintptr_t own_start, own_end; /* text of this library */
	uint64_t image; /* number of this process image in the session */
};
extern struct trace_session trace_session;

/* Counts sessions. Caches made in an earlier one are stale. */
extern uint32_t trace_generation;
/* trace_generation while an exact session is on, else 0. */
extern uint32_t trace_exact_generation;

enum trace_state { TRACE_UNSTARTED, TRACE_JOINING, TRACE_JOINED, TRACE_OVER };
extern _Atomic int trace_state;

/* A page under MADV_WIPEONFORK: reads 0 in a child of any kind of fork. */
extern volatile char *trace_fork_mark;
/* Of the serials of the forks that led to this process; 0 of a program that exec started. */
extern uint64_t trace_fork_lineage;

static inline bool trace_is_joined(void)
{
	return atomic_load_explicit(&trace_state, memory_order_acquire) == TRACE_JOINED;
}

/* Is this process a forked child that has not joined on its own yet? */
static inline bool trace_is_forked(void)
{
	return trace_unlikely(trace_fork_mark && *trace_fork_mark == 0);
}

/* Has the session ended, or was there none? Final, except for attach. */
bool trace_session_is_over(void);

/* Has the collector ended, or detached? Then no other program can join either. */
bool trace_session_has_ended(void);

/* Stops recording for good and passes the reason to the collector. */
void trace_disable(const char *reason);

/* Sleeps, or spins where system calls are forbidden. */
void trace_sleep(long ns);

/* Nanoseconds since `since`, which becomes now. A gap of more than 20 ms between two polls means that the process was
 * stopped, and counts as 20 ms. */
long trace_lap_ns(struct timespec *since);

#endif
