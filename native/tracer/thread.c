/* A thread's ring and caches. Both belong to the ring entry: the next thread that takes it finds the
 * caches warm. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ring.h"
#include "syscall.h"
#include "tracer.h"

/* Slots are protected one by one, so each starts at a page boundary of any kernel. */
#define SLOT_BYTES                                                                                 \
	((sizeof(struct trace_thread) + TRACE_FILE_ALIGN - 1) & ~(size_t)(TRACE_FILE_ALIGN - 1))

__thread struct trace_tls trace_tls;
static pthread_key_t thread_key;
static bool have_key;
static bool shared_ring_held;

extern void *__libc_stack_end;

static void leave_thread(void *argument)
{
	struct trace_thread *thread = argument;

	if (trace_tls.thread != thread)
		return;
	trace_tls.thread = NULL;
	trace_tls.counting = false;
	trace_tls.late = true; /* libc still frees: that goes through the shared ring */
	trace_tls.left = 0;
	if (!trace_is_forked())
		__atomic_store_n(&thread->ring->state, TRACE_RING_CLOSED, __ATOMIC_RELEASE);
}

size_t trace_slot_bytes(void)
{
	return SLOT_BYTES;
}

bool trace_threads_start(void)
{
	static uint32_t made_for;

	if (trace_session.slots && made_for == trace_session.most_rings)
		trace_syscall(SYS_madvise, trace_session.slots, SLOT_BYTES * made_for,
			      MADV_DONTNEED);
	else
		trace_session.slots = trace_map(SLOT_BYTES * trace_session.most_rings, PROT_NONE);
	made_for = trace_session.most_rings;
	have_key = have_key || pthread_key_create(&thread_key, leave_thread) == 0;
	return trace_session.slots && have_key;
}

void trace_threads_forget(void)
{
	trace_tls.thread = NULL;
	trace_tls.counting = trace_tls.borrowed = false;
	trace_tls.left = 0;
	__atomic_store_n(&shared_ring_held, false, __ATOMIC_RELEASE);
	/* Caches speak of records in the parent's rings. */
	trace_syscall(SYS_madvise, trace_session.slots, SLOT_BYTES * trace_session.most_rings,
		      MADV_DONTNEED);
}

static bool take_ring(unsigned index)
{
	uint32_t unused = TRACE_RING_FREE;

	return __atomic_compare_exchange_n(&trace_session.rings[index].state, &unused,
					   TRACE_RING_ACTIVE, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Is the shared ring there? Most processes never need it. */
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
		if (take_ring(i))
			return (int)i;
	while (used < __atomic_load_n(&trace_session.most_rings, __ATOMIC_ACQUIRE)) {
		if (!trace_populate_page(&trace_session.rings[used]))
			return -1;
		if (__atomic_compare_exchange_n(&process->rings, &used, used + 1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
			if (take_ring(used))
				return (int)used;
			used++;
		}
	}
	return -1;
}

/* pthread_getattr_np() would parse /proc/self/maps for the main thread. */
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

/* Asked once a thread: a thread without a ring of its own takes a shared one many times. */
static void find_stack(struct trace_thread *thread)
{
	pthread_attr_t attributes;
	void *low;
	size_t size;

	thread->bounds.stack_low = trace_tls.stack_low;
	thread->bounds.stack_high = trace_tls.stack_high;
	if (trace_tls.stack_high)
		return;
	if (trace_syscall(SYS_gettid) == getpid()) {
		find_main_stack(thread);
	} else if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		if (pthread_attr_getstack(&attributes, &low, &size) == 0) {
			thread->bounds.stack_low = (uintptr_t)low;
			thread->bounds.stack_high = (uintptr_t)low + size;
		}
		pthread_attr_destroy(&attributes);
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

/* The caches and the ring of one directory entry; NULL: there is no memory for them. */
static struct trace_thread *open_slot(unsigned index)
{
	struct trace_ring *ring = &trace_session.rings[index];
	char *slot = trace_session.slots + SLOT_BYTES * (size_t)index;
	struct trace_thread *thread = (struct trace_thread *)slot;

	if (trace_syscall(SYS_mprotect, slot, SLOT_BYTES, PROT_READ | PROT_WRITE) < 0)
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
	thread->untimed = thread->quick = 0;
	trace_stack_start(thread);
	return trace_populate(thread, 1) ? thread : NULL;
}

static struct trace_thread *take_own_ring(void)
{
	int index = trace_tls.late ? -1 : claim_ring();

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
	pthread_setspecific(thread_key, thread);
	return thread;
}

#define PATIENCE 40000u /* naps; one who holds the ring that long was ended by force */
#define NAP_NS 50000L

/* Whoever waits in vain spares all others the wait. */
static bool hold_shared_ring(void)
{
	static _Atomic bool abandoned;
	const struct trace_ring *ring = &trace_session.rings[0];
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);

	for (unsigned naps = 0; __atomic_exchange_n(&shared_ring_held, true, __ATOMIC_ACQUIRE);) {
		uint64_t now = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
		naps = now == head ? naps + 1 : 0;
		head = now;
		if (naps == PATIENCE)
			atomic_store(&abandoned, true);
		if (atomic_load_explicit(&abandoned, memory_order_relaxed))
			return false;
		trace_nap(NAP_NS);
	}
	return true;
}

/* The first ring, for threads that get none to themselves: too many of them, no memory, a limit on
 * address space, or an end that is near. Held until the hook that wants it is through. */
static struct trace_thread *take_shared_ring(void)
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
	trace_tls.borrowed = true;
	return thread;
}

void trace_thread_give_back(void)
{
	trace_tls.thread = NULL;
	trace_tls.borrowed = false;
	__atomic_store_n(&shared_ring_held, false, __ATOMIC_RELEASE);
}

static TRACE_SLOW struct trace_thread *set_up(void)
{
	struct trace_process *process = trace_session.process;
	struct trace_thread *thread = NULL;

	if (!trace_session.sandboxed) {
		thread = trace_tls.counting ? NULL : take_own_ring();
		if (!thread)
			thread = take_shared_ring();
	}
	if (!trace_tls.counting && (!thread || trace_tls.borrowed) && !trace_tls.late)
		__atomic_add_fetch(thread ? &process->sharing_threads : &process->untraced_threads,
				   1, __ATOMIC_RELAXED);
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
		trace_tls.counting = trace_tls.borrowed = trace_tls.late = false;
		trace_tls.generation = trace_generation;
	}
	return trace_tls.thread ? trace_tls.thread : set_up();
}

void trace_thread_register(void)
{
	if (!trace_enter())
		return;
	if (trace_ready())
		trace_thread_get();
	trace_leave();
}

/* ln(x) for x in (0, 1], to about 1e-15: no libm in here. */
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

/* Bytes to the next sampled byte: exponential with the session's mean, so that a block of s bytes is
 * sampled with probability 1 - exp(-s / mean) whatever came before. */
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
