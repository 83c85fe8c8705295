/* Records out of the traced thread into its ring. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"
#include "syscall.h"
#include "tracer.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STALL_NS 200000L       /* between two looks at a full ring */
#define GIVE_UP_NS 3000000000L /* a collector silent for so long is gone */

uint64_t trace_count_up(void)
{
	return __atomic_add_fetch(&trace_session.control->counter, 1, __ATOMIC_SEQ_CST);
}

static long elapsed_ns(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000000000L + now.tv_nsec - since->tv_nsec;
}

#define LONGEST_NAP_NS 20000000L /* more than that between two looks: we were stopped ourselves */

/* The collector is behind: wait for it, but never for one that has gone. Time in which the program
 * itself stood still does not count. */
static TRACE_SLOW bool wait_for_room(struct trace_thread *thread, unsigned words)
{
	struct trace_control *control = trace_session.control;
	uint64_t beat = __atomic_load_n(&control->heartbeat, __ATOMIC_RELAXED);
	struct timespec last;
	long waited = 0;

	__atomic_add_fetch(&trace_session.process->stalls, 1, __ATOMIC_RELAXED);
	clock_gettime(CLOCK_MONOTONIC, &last);
	for (;;) {
		thread->tail_seen = __atomic_load_n(&thread->ring->tail, __ATOMIC_ACQUIRE);
		if (thread->head + words - thread->tail_seen <= trace_session.ring_words)
			return true;
		if (__atomic_load_n(&control->off, __ATOMIC_RELAXED)) {
			trace_disable("the recording has ended");
			return false;
		}
		if (__atomic_load_n(&trace_session.process->refused, __ATOMIC_RELAXED)) {
			trace_disable("mematlas could not map its records");
			return false;
		}
		uint64_t now = __atomic_load_n(&control->heartbeat, __ATOMIC_RELAXED);
		long passed = elapsed_ns(&last);
		clock_gettime(CLOCK_MONOTONIC, &last);
		waited = now != beat ? 0
				     : waited + (passed < LONGEST_NAP_NS ? passed : LONGEST_NAP_NS);
		beat = now;
		if (waited > GIVE_UP_NS) {
			trace_disable("mematlas stopped reading");
			return false;
		}
		trace_nap(STALL_NS);
	}
}

/* Shared memory may run out: ask for the pages, do not find out by SIGBUS. */
static bool populate(const void *start, size_t bytes)
{
	if (trace_session.sandboxed)
		return false;
	long error = trace_syscall(SYS_madvise, start, bytes, MADV_POPULATE_WRITE);
	return !error || (error == -EINVAL && trace_space_left(bytes)); /* before Linux 5.14 */
}

bool trace_populate_page(const void *shared)
{
	uintptr_t page = (uintptr_t)shared & ~(uintptr_t)(trace_session.page_bytes - 1);

	return populate((const void *)page, trace_session.page_bytes);
}

#define STEPS 16u /* in which a ring is made there: many threads have little to tell */

TRACE_SLOW bool trace_populate(struct trace_thread *thread, uint64_t words)
{
	uint64_t page = trace_session.page_bytes / sizeof(uint64_t);
	uint64_t step = trace_session.ring_words / STEPS;

	if (step < page)
		step = page;
	uint64_t until = (words + step - 1) / step * step;

	if (thread->populated >= words)
		return true;
	if (until > trace_session.ring_words)
		until = trace_session.ring_words;
	if (!populate(thread->words + thread->populated, (until - thread->populated) * 8))
		return false;
	thread->populated = until == trace_session.ring_words ? UINT64_MAX : until;
	return true;
}

TRACE_SLOW bool trace_make_room(struct trace_thread *thread, unsigned words)
{
	uint64_t room = trace_session.ring_words, end = thread->head + words;

	if (end > thread->populated && !trace_populate(thread, end))
		return false;
	if (end - thread->tail_seen > room && (words > room / 2 || !wait_for_room(thread, words)))
		return false;
	thread->limit = thread->tail_seen + room;
	if (thread->limit > thread->populated)
		thread->limit = thread->populated;
	return true;
}

void trace_bytes(struct trace_thread *thread, const char *bytes, size_t length)
{
	trace_word(thread, length);
	for (size_t at = 0; at < length; at += 8) {
		uint64_t word = 0;
		memcpy(&word, bytes + at, length - at < 8 ? length - at : 8);
		trace_word(thread, word);
	}
}
