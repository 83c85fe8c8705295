/* Records out of the traced thread into its ring. */
#define _GNU_SOURCE
#include "ring.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "syscall.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since Linux 5.14 */
#endif

#define POLL_NS 200000L            /* sleep between two polls of a full ring */
#define MAX_POLL_NS 20000000L      /* a longer gap between two polls means we were stopped */
#ifndef SILENCE_NS
#define SILENCE_NS 10000000000L    /* of a collector that lives; then records are dropped */
#endif
#define POPULATE_STEPS 16u         /* per ring: most threads write little */

uint64_t trace_counter_next(void)
{
	return __atomic_add_fetch(&trace_session.common->clock, 1, __ATOMIC_SEQ_CST);
}

/* Nanoseconds since `since`, which becomes now. */
static long lap_ns(struct timespec *since)
{
	struct timespec before = *since;

	clock_gettime(CLOCK_MONOTONIC, since);
	return (since->tv_sec - before.tv_sec) * 1000000000L + since->tv_nsec - before.tv_nsec;
}

static const char *why_stop(void)
{
	if (__atomic_load_n(&trace_session.control->off, __ATOMIC_RELAXED))
		return "the recording has ended";
	if (!trace_collector_lives(trace_session.control))
		return "mematlas was killed";
	return NULL;
}

/* Heartbeat at which some thread waited in vain: until the next one, no thread waits again. */
static _Atomic uint64_t silent_at = UINT64_MAX;

static bool has_space(struct trace_thread *thread, unsigned words)
{
	thread->tail_seen = __atomic_load_n(&thread->ring->tail, __ATOMIC_ACQUIRE);
	return thread->head + words - thread->tail_seen <= trace_session.ring_words;
}

/* Waits for a slow collector, for SILENCE_NS if it reads nothing at all, and not for one that is gone. Time
 * while the program itself was stopped does not count. False: the record is lost. */
static TRACE_SLOW bool wait_for_space(struct trace_thread *thread, unsigned words)
{
	const uint64_t *counter = &trace_session.control->heartbeat;
	uint64_t heartbeat = __atomic_load_n(counter, __ATOMIC_RELAXED);
	struct timespec last;
	long waited = 0;

	if (has_space(thread, words))
		return true;
	__atomic_add_fetch(&trace_session.process->stalls, 1, __ATOMIC_RELAXED);
	clock_gettime(CLOCK_MONOTONIC, &last);
	while (trace_is_joined() && !has_space(thread, words)) {
		const char *reason = why_stop();
		uint64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED);
		long passed = lap_ns(&last);
		waited = now != heartbeat ? 0
					  : waited + (passed < MAX_POLL_NS ? passed : MAX_POLL_NS);
		heartbeat = now;
		if (reason) {
			trace_disable(reason);
			return false;
		}
		if (waited > SILENCE_NS)
			atomic_store(&silent_at, now);
		if (atomic_load_explicit(&silent_at, memory_order_relaxed) == now)
			return false;
		trace_sleep(POLL_NS);
	}
	return trace_is_joined();
}

/* Memory may run out. Populating it in advance returns an error where a write would end the program. Before
 * Linux 5.14 there is no such call. */
static bool populate(const void *start, size_t bytes)
{
	if (trace_session.sandboxed)
		return false;
	long error = trace_syscall(SYS_madvise, start, bytes, MADV_POPULATE_WRITE);
	return !error || error == -EINVAL;
}

bool trace_populate_page(const void *shared)
{
	uintptr_t page = (uintptr_t)shared & ~(uintptr_t)(trace_session.page_bytes - 1);

	return populate((const void *)page, trace_session.page_bytes);
}

TRACE_SLOW bool trace_populate(struct trace_thread *thread, uint64_t words)
{
	uint64_t page = trace_session.page_bytes / sizeof(uint64_t);
	uint64_t step = trace_session.ring_words / POPULATE_STEPS;

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

static bool reserve(struct trace_thread *thread, unsigned words)
{
	uint64_t capacity = trace_session.ring_words, end = thread->head + words;

	if (end > thread->populated && !trace_populate(thread, end))
		return false;
	if (end - thread->tail_seen > capacity &&
	    (words > capacity / 2 || !wait_for_space(thread, words)))
		return false;
	thread->limit = thread->tail_seen + capacity;
	if (thread->limit > thread->populated)
		thread->limit = thread->populated;
	return true;
}

TRACE_SLOW bool trace_ring_reserve(struct trace_thread *thread, unsigned words)
{
	bool reserved = reserve(thread, words);

	if (!reserved && trace_is_joined())
		__atomic_add_fetch(&trace_session.process->lost_events, 1, __ATOMIC_RELAXED);
	return reserved;
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
