/* A thread's ring and caches: claimed on its first event, released at its end. */
#define _GNU_SOURCE
#include "thread.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "memory.h"
#include "ring.h"
#include "stack.h"
#include "syscall.h"
#include "thread_stack.h"

struct trace_thread *trace_untimed_thread;
static pthread_key_t thread_key;
static bool have_key;
static bool shared_ring_held;

extern void *__libc_stack_end;

static void release_ring(void *argument)
{
	struct trace_thread *thread = argument;

	/* In a later session the slot is wiped, or another thread's. */
	if (trace_tls.thread != thread || trace_tls.generation != trace_generation)
		return;
	trace_tls.thread = NULL;
	trace_tls.counting = false;
	trace_tls.exiting = true; /* libc still frees: those go through the shared ring */
	trace_tls.left = 0;
	if (!trace_is_forked())
		__atomic_store_n(&thread->ring->state, TRACE_RING_CLOSED, __ATOMIC_RELEASE);
}

bool trace_threads_start(void)
{
	static uint32_t slot_count;

	if (trace_session.slots && slot_count == trace_session.most_rings)
		trace_syscall(SYS_madvise, trace_session.slots, trace_slot_bytes() * slot_count,
			      MADV_DONTNEED);
	else
		trace_session.slots =
			trace_map(trace_slot_bytes() * trace_session.most_rings, PROT_NONE);
	slot_count = trace_session.most_rings;
	have_key = have_key || pthread_key_create(&thread_key, release_ring) == 0;
	return trace_session.slots && have_key;
}

void trace_threads_reset(void)
{
	trace_tls.thread = NULL;
	trace_tls.counting = trace_tls.shared_ring = false;
	trace_tls.left = 0;
	__atomic_store_n(&shared_ring_held, false, __ATOMIC_RELEASE);
	/* The caches refer to records in the parent's rings. */
	trace_syscall(SYS_madvise, trace_session.slots,
		      trace_slot_bytes() * trace_session.most_rings, MADV_DONTNEED);
}

static bool claim_entry(unsigned index)
{
	uint32_t unused = TRACE_RING_FREE;

	return __atomic_compare_exchange_n(&trace_session.rings[index].state, &unused,
					   TRACE_RING_ACTIVE, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* The shared ring is set up on first use; most processes never need it. */
static bool shared_ring_is_open(void)
{
	return __atomic_load_n(&trace_session.rings[0].state, __ATOMIC_ACQUIRE) ==
	       TRACE_RING_ACTIVE;
}

static int claim_ring(void)
{
	struct trace_process *process = trace_session.process;
	uint32_t used = __atomic_load_n(&process->rings, __ATOMIC_ACQUIRE);

	for (unsigned i = 1; i < used; i++)
		if (claim_entry(i))
			return (int)i;
	while (used < __atomic_load_n(&trace_session.most_rings, __ATOMIC_ACQUIRE)) {
		if (!trace_populate_page(&trace_session.rings[used]))
			return -1;
		if (__atomic_compare_exchange_n(&process->rings, &used, used + 1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
			if (claim_entry(used))
				return (int)used;
			used++;
		}
	}
	return -1;
}

static void find_main_stack(struct trace_thread *thread)
{
	struct rlimit limit;
	size_t size = 1ull << 33;

	if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < size)
		size = limit.rlim_cur;
	thread->bounds.stack_high = (uintptr_t)__libc_stack_end + 256;
	thread->bounds.stack_low =
		thread->bounds.stack_high > size ? thread->bounds.stack_high - size : 1;
}

/* Looked up once per thread: a thread without its own ring comes here on every event. */
static void find_stack(struct trace_thread *thread)
{
	uintptr_t low, high;

	thread->bounds.stack_low = trace_tls.stack_low;
	thread->bounds.stack_high = trace_tls.stack_high;
	if (trace_tls.stack_high)
		return;
	if (trace_syscall(SYS_gettid) == getpid()) {
		find_main_stack(thread);
	} else if (trace_find_thread_stack(&low, &high)) {
		thread->bounds.stack_low = low;
		thread->bounds.stack_high = high;
	}
	trace_tls.stack_low = thread->bounds.stack_low;
	trace_tls.stack_high = thread->bounds.stack_high;
}

static uint64_t first_random(int tid)
{
	uint64_t seed = trace_session.control->seed;
	uint64_t x = (seed ? seed : trace_now_ordered()) ^ (uint64_t)tid * 0xbf58476d1ce4e5b9ull;

	if (seed)
		x = seed * 0x94d049bb133111ebull + (uint64_t)(tid - trace_session.process->pid);
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ull;
	return x ? x : 1;
}

/* Sets up the caches and the ring of one directory entry; NULL: no memory. */
static struct trace_thread *open_slot(unsigned index)
{
	struct trace_ring *ring = &trace_session.rings[index];
	char *slot = trace_session.slots + trace_slot_bytes() * (size_t)index;
	struct trace_thread *thread = (struct trace_thread *)slot;

	if (trace_syscall(SYS_mprotect, slot, trace_slot_bytes(), PROT_READ | PROT_WRITE) < 0)
		return NULL;
	thread->ring = ring;
	thread->words =
		(uint64_t *)trace_session.data + (size_t)trace_session.ring_words * (size_t)index;
	thread->mask = trace_session.ring_words - 1;
	thread->head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
	thread->limit = 0;
	thread->tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	thread->bounds.own_start = trace_session.own_start;
	thread->bounds.own_end = trace_session.own_end;
	thread->untimed = thread->burst = 0;
	trace_stack_start(thread);
	return trace_populate(thread, 1) ? thread : NULL;
}

static struct trace_thread *claim_own_ring(void)
{
	int index = trace_tls.exiting ? -1 : claim_ring();

	if (index < 0)
		return NULL;
	struct trace_ring *ring = &trace_session.rings[index];
	struct trace_thread *thread = open_slot((unsigned)index);
	if (!thread) {
		__atomic_store_n(&ring->state, TRACE_RING_FREE, __ATOMIC_RELEASE);
		return NULL;
	}
	int tid = (int)trace_syscall(SYS_gettid);
	thread->random = first_random(tid);
	find_stack(thread);
	ring->tid = tid;
	ring->stack_low = thread->bounds.stack_low;
	ring->stack_high = thread->bounds.stack_high;
	ring->routine = trace_tls.routine;
	pthread_setspecific(thread_key, thread);
	return thread;
}

#define MAX_WAITS 40000u /* without progress: a thread was killed while it held the ring */
#define WAIT_NS 50000L

/* The first thread to time out marks the ring abandoned, so the others don't wait. */
static bool hold_shared_ring(void)
{
	static _Atomic bool abandoned;
	const struct trace_ring *ring = &trace_session.rings[0];
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);

	for (unsigned waits = 0; __atomic_exchange_n(&shared_ring_held, true, __ATOMIC_ACQUIRE);) {
		uint64_t now = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
		waits = now == head ? waits + 1 : 0;
		head = now;
		if (waits == MAX_WAITS)
			atomic_store(&abandoned, true);
		if (atomic_load_explicit(&abandoned, memory_order_relaxed))
			return false;
		trace_sleep(WAIT_NS);
	}
	return true;
}

/* Ring 0 serves threads that have none of their own: too many threads, no memory, a limit on address
 * space, or a thread about to exit. It is held until the hook returns. */
static struct trace_thread *hold_shared_thread(void)
{
	struct trace_thread *thread = (struct trace_thread *)trace_session.slots;

	if (!hold_shared_ring())
		return NULL;
	if (!shared_ring_is_open()) {
		thread = open_slot(0);
		if (!thread) {
			__atomic_store_n(&shared_ring_held, false, __ATOMIC_RELEASE);
			return NULL;
		}
		thread->random = first_random(0);
		__atomic_store_n(&trace_session.rings[0].state, TRACE_RING_ACTIVE,
				 __ATOMIC_RELEASE);
	}
	find_stack(thread);
	thread->walk.reusable = false;
	trace_tls.shared_ring = true;
	return thread;
}

void trace_shared_ring_release(void)
{
	trace_tls.thread = NULL;
	trace_tls.shared_ring = false;
	__atomic_store_n(&shared_ring_held, false, __ATOMIC_RELEASE);
}

static void count_without_ring(const struct trace_thread *thread)
{
	struct trace_process *process = trace_session.process;

	if (!thread)
		__atomic_add_fetch(&process->untraced_threads, 1, __ATOMIC_RELAXED);
	else if (trace_tls.shared_ring)
		__atomic_add_fetch(&process->sharing_threads, 1, __ATOMIC_RELAXED);
}

static TRACE_SLOW struct trace_thread *set_up(void)
{
	struct trace_thread *thread = NULL;

	if (!trace_session.sandboxed) {
		thread = trace_tls.counting ? NULL : claim_own_ring();
		if (!thread)
			thread = hold_shared_thread();
	}
	if (!trace_tls.counting && !trace_tls.exiting)
		count_without_ring(thread);
	if (!thread) {
		trace_tls.counting = true;
		return NULL;
	}
	trace_tls.thread = thread;
	trace_tls.generation = trace_generation;
	if (!trace_tls.counting)
		trace_tls.left = trace_session.exact ? -1 : trace_draw_gap(thread);
	trace_tls.counting = true;
	return thread;
}

TRACE_SLOW struct trace_thread *trace_thread_set_up(void)
{
	if (trace_tls.generation != trace_generation) {
		trace_tls.thread = NULL;
		trace_tls.counting = trace_tls.shared_ring = trace_tls.exiting = false;
		trace_tls.generation = trace_generation;
	}
	return trace_tls.thread ? trace_tls.thread : set_up();
}

/* ln(x) for x in (0, 1], to about 1e-15. The tracer does not link libm. */
static double natural_log(double x)
{
	union {
		double value;
		uint64_t bits;
	} u = {.value = x};
	int exponent = (int)(u.bits >> 52 & 0x7ff) - 1023;

	u.bits = (u.bits & 0xfffffffffffffull) | 1023ull << 52;
	if (u.value > 1.4142135623730951) {
		u.value /= 2;
		exponent++;
	}
	double s = (u.value - 1) / (u.value + 1);
	double square = s * s;
	double sum = 0;
	for (int k = 21; k >= 1; k -= 2)
		sum = sum * square + 1.0 / k;
	return exponent * 0.6931471805599453 + 2 * s * sum;
}

/* The gap is exponential with the session's mean, so a block of s bytes is sampled with probability
 * 1 - exp(-s / mean), independent of earlier blocks. */
int64_t trace_draw_gap(struct trace_thread *thread)
{
	uint64_t x = thread->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	thread->random = x;
	double uniform = ((double)(x >> 11) + 1) * 0x1p-53;
	return (int64_t)(-natural_log(uniform) * (double)trace_session.sample_bytes);
}
