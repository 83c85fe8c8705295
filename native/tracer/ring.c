/* Records out of the traced thread into its ring. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "tracer.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STALL_NS 200000L       /* between two looks at a full ring */
#define GIVE_UP_NS 3000000000L /* a collector silent for so long is gone */

static uint64_t read_clock(bool ordered)
{
	struct trace_control *control = trace_session.control;

	if (control->clock == TRACE_CLOCK_COUNTER)
		return __atomic_add_fetch(&control->counter, 1, __ATOMIC_SEQ_CST);
#if defined(__x86_64__)
	if (ordered)
		_mm_lfence();
	return __rdtsc() - trace_session.clock_base;
#elif defined(__aarch64__)
	uint64_t ticks;
	if (ordered)
		__asm__ volatile("isb" ::: "memory");
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks - trace_session.clock_base;
#else
	(void)ordered;
	return 0;
#endif
}

uint64_t trace_now(void)
{
	return read_clock(false);
}

uint64_t trace_now_ordered(void)
{
	return read_clock(true);
}

static long elapsed_ns(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000000000L + now.tv_nsec - since->tv_nsec;
}

/* The collector is behind: wait for it, but never for one that has gone. */
static TRACE_SLOW bool wait_for_room(struct trace_thread *thread, unsigned words)
{
	struct trace_control *control = trace_session.control;
	const struct timespec nap = {.tv_nsec = STALL_NS};
	uint64_t beat = __atomic_load_n(&control->heartbeat, __ATOMIC_RELAXED);
	struct timespec since;

	__atomic_add_fetch(&trace_session.process->stalls, 1, __ATOMIC_RELAXED);
	clock_gettime(CLOCK_MONOTONIC, &since);
	for (;;) {
		thread->tail_seen = __atomic_load_n(&thread->ring->tail, __ATOMIC_ACQUIRE);
		if (thread->head + words - thread->tail_seen <= trace_session.ring_words)
			return true;
		if (__atomic_load_n(&control->off, __ATOMIC_RELAXED)) {
			trace_disable("the recording has ended");
			return false;
		}
		uint64_t now = __atomic_load_n(&control->heartbeat, __ATOMIC_RELAXED);
		if (now != beat) {
			beat = now;
			clock_gettime(CLOCK_MONOTONIC, &since);
		} else if (elapsed_ns(&since) > GIVE_UP_NS) {
			trace_disable("mematlas stopped reading");
			return false;
		}
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &nap, NULL);
	}
}

/* Shared memory may run out: ask for the pages, do not find out by SIGBUS. */
static TRACE_SLOW bool populate(struct trace_thread *thread)
{
	size_t bytes = (size_t)trace_session.ring_words * 8;

	if (syscall(SYS_madvise, thread->words, bytes, MADV_POPULATE_WRITE) < 0 &&
	    !trace_space_left(bytes)) {
		__atomic_add_fetch(&trace_session.process->untraced_threads, 1, __ATOMIC_RELAXED);
		thread->refused = true;
		return false;
	}
	thread->populated = true;
	return true;
}

bool trace_begin(struct trace_thread *thread, unsigned words)
{
	if (trace_unlikely(!thread->populated) && (thread->refused || !populate(thread)))
		return false;
	if (trace_likely(thread->head + words - thread->tail_seen <= trace_session.ring_words))
		return true;
	if (words > trace_session.ring_words / 2)
		return false;
	return wait_for_room(thread, words);
}

void trace_word(struct trace_thread *thread, uint64_t word)
{
	thread->words[thread->head++ & (trace_session.ring_words - 1)] = word;
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

void trace_publish(struct trace_thread *thread)
{
	__atomic_store_n(&thread->ring->head, thread->head, __ATOMIC_RELEASE);
}
