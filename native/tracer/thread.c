/* A thread's ring and caches: claimed on its first event, and its own until it has ended. */
#define _GNU_SOURCE
#include "thread.h"

#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "groups.h"
#include "memory.h"
#include "ring.h"
#include "stack.h"
#include "syscall.h"
#include "thread_stack.h"

struct trace_thread *trace_untimed_thread;
#define ASKED 8u /* rings, per claim */

static int32_t shared_ring_holder; /* TID; 0: nobody */
static _Atomic uint32_t setting_up; /* threads between two states of their slots */

extern void *__libc_stack_end;

/* Asked of the kernel. A destructor of thread-specific data would meet the slots of a later session, and
 * comes before the last frees. A robust mutex would tell as well, but it is linked into the program's own
 * list of robust mutexes, for glibc to write to and the kernel to walk, in signal handlers too. */
bool trace_thread_has_ended(int32_t tid)
{
	return trace_syscall(SYS_tgkill, getpid(), tid, 0) == -ESRCH;
}

void trace_threads_reset(void)
{
	trace_tls.thread = NULL;
	trace_tls.counting = trace_tls.shared_ring = false;
	trace_tls.left = trace_tls.tid = 0;
	__atomic_store_n(&shared_ring_holder, 0, __ATOMIC_RELEASE);
	atomic_store(&setting_up, 0);
}

/* A thread that is inside has a guard other than 0. Its thread-local storage may be gone at any time, so
 * the kernel reads it: a wait for a change of 0, with no time left. */
static bool is_inside(uint32_t index)
{
	static const struct timespec no_time;
	const struct trace_ring *ring = &trace_session.rings[index];
	int32_t tid = __atomic_load_n(&ring->tid, __ATOMIC_ACQUIRE);

	if (!tid || tid == trace_syscall(SYS_gettid) ||
	    __atomic_load_n(&ring->state, __ATOMIC_ACQUIRE) != TRACE_RING_ACTIVE)
		return false;
	long result = trace_syscall(SYS_futex, trace_group_slot(index)->guard, FUTEX_WAIT_PRIVATE,
				    0, &no_time);
	return result != -ETIMEDOUT && result != -EFAULT && !trace_thread_has_ended(tid);
}

bool trace_threads_are_inside(void)
{
	uint32_t used = __atomic_load_n(&trace_session.process->rings, __ATOMIC_ACQUIRE);

	if (atomic_load(&setting_up) || __atomic_load_n(&shared_ring_holder, __ATOMIC_ACQUIRE))
		return true;
	for (uint32_t i = 1; i < used && i < trace_session.most_rings; i++)
		if (is_inside(i))
			return true;
	return false;
}

/* 0: the record is overwritten. A place is half the head, so the record begins at one of two words. */
static uint64_t time_of_free(const struct trace_thread *thread, const void *block, uint64_t place)
{
	for (uint64_t at = 2 * place; at <= 2 * place + 1; at++) {
		uint64_t first =
			__atomic_load_n(&thread->words[at & thread->mask], __ATOMIC_RELAXED);
		uint64_t target =
			__atomic_load_n(&thread->words[(at + 1) & thread->mask], __ATOMIC_RELAXED);
		if (TRACE_TYPE(first) == TRACE_FREE && TRACE_ADDRESS(target) == (uintptr_t)block &&
		    TRACE_KIND(target) == TRACE_MALLOC)
			return TRACE_TIME(first);
	}
	return 0;
}

/* The newest free of the block first: entries go round with the thread's place in its ring. */
static struct trace_last_free find_freed(uint32_t index, const void *block)
{
	const struct trace_thread *thread = trace_group_slot(index);
	uint64_t newest = thread->head / 2;

	for (uint64_t age = 0; age < TRACE_FREED && age <= newest; age++) {
		uint64_t place = newest - age;
		const struct trace_freed *freed = &thread->freed[place % TRACE_FREED];
		uint64_t caller = __atomic_load_n(&freed->caller, __ATOMIC_RELAXED);
		uint64_t key = __atomic_load_n(&freed->key, __ATOMIC_RELAXED);
		if (caller && key == trace_freed_key(block, caller, place))
			return (struct trace_last_free){caller, time_of_free(thread, block, place),
							TRACE_FREED_AT(index, place)};
	}
	return (struct trace_last_free){0};
}

struct trace_last_free trace_threads_find_freed(const void *block)
{
	uint32_t used = __atomic_load_n(&trace_session.process->rings, __ATOMIC_ACQUIRE);
	struct trace_last_free last = {0};

	for (uint32_t i = 0; i < used && i < trace_session.most_rings; i++) {
		if (__atomic_load_n(&trace_session.rings[i].state, __ATOMIC_ACQUIRE) !=
		    TRACE_RING_ACTIVE)
			continue;
		struct trace_last_free found = find_freed(i, block);
		if (found.caller && (!last.caller || found.time > last.time))
			last = found;
	}
	return last;
}

/* A ring whose owner's TID is the claimer's has lost its owner. */
static bool claim_entry(uint32_t index, int32_t tid)
{
	int32_t *entry = &trace_session.rings[index].tid;
	int32_t owner = __atomic_load_n(entry, __ATOMIC_ACQUIRE);

	return (!owner || owner == tid || trace_thread_has_ended(owner)) &&
	       __atomic_compare_exchange_n(entry, &owner, tid, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* A few rings are asked for their owners, in turn; among many threads that live, unowned rings gather
 * until these find some. Returns an index; 0: none. */
static uint32_t claim_used(uint32_t used, uint32_t most, int32_t tid)
{
	static _Atomic uint32_t turn;
	uint32_t count = used - 1;

	for (uint32_t i = 0; i < count && i < most; i++) {
		uint32_t index =
			1 + atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % count;
		if (claim_entry(index, tid))
			return index;
	}
	return 0;
}

/* Returns an index; 0: none is left. */
static uint32_t claim_ring(int32_t tid)
{
	struct trace_process *process = trace_session.process;
	uint32_t used = __atomic_load_n(&process->rings, __ATOMIC_ACQUIRE);
	uint32_t most = __atomic_load_n(&trace_session.most_rings, __ATOMIC_ACQUIRE);

	if (used > most)
		used = most;
	uint32_t index = claim_used(used, ASKED, tid);
	while (!index && used < most) {
		if (!trace_groups_extend(used) || !trace_populate_page(&trace_session.rings[used]))
			break;
		if (__atomic_compare_exchange_n(&process->rings, &used, used + 1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
			index = claim_entry(used, tid) ? used : 0;
			used++;
		}
	}
	return index ? index : claim_used(used < most ? used : most, most, tid);
}

/* The shared ring is set up on first use; most processes never need it. */
static bool shared_ring_is_open(void)
{
	return __atomic_load_n(&trace_session.rings[0].state, __ATOMIC_ACQUIRE) ==
	       TRACE_RING_ACTIVE;
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
	if (trace_tls.tid == getpid()) {
		find_main_stack(thread);
	} else if (trace_find_thread_stack(&low, &high)) {
		thread->bounds.stack_low = low;
		thread->bounds.stack_high = high;
	}
	trace_tls.stack_low = thread->bounds.stack_low;
	trace_tls.stack_high = thread->bounds.stack_high;
}

/* FNV-1a of the words of the command line, of paths their last part: a folder of a test is another one each time.
 * The command line ends in two NULs. */
static uint64_t command_hash(void)
{
	const char *command = trace_session.process->command;
	uint64_t hash = 0xcbf29ce484222325ull, whole = 0;

	for (size_t i = 0; i + 1 < sizeof trace_session.process->command; i++) {
		if (command[i] == '/' || !command[i]) {
			whole = command[i] ? whole : whole * 0x100000001b3ull + hash;
			hash = 0xcbf29ce484222325ull;
		} else {
			hash = (hash ^ (unsigned char)command[i]) * 0x100000001b3ull;
		}
		if (!command[i] && !command[i + 1])
			break;
	}
	return whole;
}

/* With one seed, programs of one session, and the forks of one, draw different gaps: equal ones would add
 * up their errors. */
static uint64_t first_random(int tid)
{
	uint64_t seed = trace_session.control->seed;
	uint64_t x = (seed ? seed : trace_now_ordered()) ^ (uint64_t)tid * 0xbf58476d1ce4e5b9ull;

	if (seed)
		x = seed * 0x94d049bb133111ebull + (uint64_t)(tid - trace_session.process->pid) +
		    command_hash() + trace_fork_lineage;
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ull;
	return x ? x : 1;
}

/* The last owner may have ended at any point. */
static void take_over(struct trace_thread *thread)
{
	thread->untimed = thread->burst = 0;
	if (thread->changing)
		memset(thread->stacks, 0, sizeof thread->stacks);
	thread->changing = false;
	trace_stack_start(thread);
}

/* Sets up the caches and the ring of one directory entry; NULL: no memory. */
static struct trace_thread *open_slot(uint32_t index)
{
	struct trace_ring *ring = &trace_session.rings[index];
	struct trace_thread *thread = trace_group_slot(index);

	if (trace_syscall(SYS_mprotect, thread, trace_slot_bytes(), PROT_READ | PROT_WRITE) < 0)
		return NULL;
	thread->ring = ring;
	thread->guard = &trace_tls.guard;
	thread->words = trace_group_words(index);
	thread->mask = trace_session.ring_words - 1;
	thread->head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
	thread->limit = 0;
	thread->tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	thread->bounds.own_start = trace_session.own_start;
	thread->bounds.own_end = trace_session.own_end;
	take_over(thread);
	if (!trace_populate(thread, 1))
		return NULL;
	thread->random = first_random(index ? trace_tls.tid : 0);
	__atomic_store_n(&ring->state, TRACE_RING_ACTIVE, __ATOMIC_RELEASE);
	return thread;
}

/* Not for a task of a bare clone() that shares the memory of this process but is no thread of it: the
 * kernel would call it ended. */
static struct trace_thread *claim_own_ring(void)
{
	uint32_t index = trace_session.process->pid == getpid() ? claim_ring(trace_tls.tid) : 0;

	if (!index)
		return NULL;
	struct trace_ring *ring = &trace_session.rings[index];
	struct trace_thread *thread = open_slot(index);
	if (!thread) {
		__atomic_store_n(&ring->tid, 0, __ATOMIC_RELEASE);
		return NULL;
	}
	find_stack(thread);
	ring->stack_low = thread->bounds.stack_low;
	ring->stack_high = thread->bounds.stack_high;
	ring->routine = trace_tls.routine;
	return thread;
}

#define MAX_WAITS 40000u /* without progress of the holder */
#define ASK_EVERY 64u    /* waits, whether the holder has ended */
#define WAIT_NS 50000L

static bool take_shared_ring(int32_t *holder)
{
	*holder = 0;
	if (__atomic_compare_exchange_n(&shared_ring_holder, holder, trace_tls.tid, false,
					__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return true;
	return false;
}

/* The first thread to time out tells the others not to wait, until the holder goes on. */
static bool hold_shared_ring(void)
{
	static _Atomic uint64_t stuck_at = UINT64_MAX;
	const struct trace_ring *ring = &trace_session.rings[0];
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
	int32_t holder;

	for (unsigned waits = 0; !take_shared_ring(&holder); waits++) {
		uint64_t now = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
		if (waits % ASK_EVERY == ASK_EVERY - 1 && trace_thread_has_ended(holder) &&
		    __atomic_compare_exchange_n(&shared_ring_holder, &holder, trace_tls.tid, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
		if (now != head)
			waits = 0;
		head = now;
		if (waits == MAX_WAITS)
			atomic_store(&stuck_at, now);
		if (atomic_load_explicit(&stuck_at, memory_order_relaxed) == now)
			return false;
		trace_sleep(WAIT_NS);
	}
	return true;
}

/* Ring 0 serves threads that have none of their own: too many threads, no memory, or a limit on address
 * space. It is held until the hook returns. */
static struct trace_thread *hold_shared_thread(void)
{
	struct trace_thread *thread = trace_group_slot(0);

	if (!hold_shared_ring())
		return NULL;
	if (!shared_ring_is_open()) {
		thread = open_slot(0);
		if (!thread) {
			__atomic_store_n(&shared_ring_holder, 0, __ATOMIC_RELEASE);
			return NULL;
		}
	}
	thread->head = __atomic_load_n(&thread->ring->head, __ATOMIC_ACQUIRE);
	take_over(thread);
	find_stack(thread);
	trace_tls.shared_ring = true;
	return thread;
}

void trace_shared_ring_release(void)
{
	trace_tls.thread = NULL;
	trace_tls.shared_ring = false;
	__atomic_store_n(&shared_ring_holder, 0, __ATOMIC_RELEASE);
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
		trace_tls.tid = (int32_t)trace_syscall(SYS_gettid);
		thread = trace_tls.counting ? NULL : claim_own_ring();
		if (!thread)
			thread = hold_shared_thread();
	}
	if (!trace_tls.counting)
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

/* `setting_up` comes before the test: the end of a session stores first, then reads it. */
TRACE_SLOW struct trace_thread *trace_thread_set_up(void)
{
	struct trace_thread *thread = NULL;

	atomic_fetch_add(&setting_up, 1);
	if (trace_is_joined()) {
		if (trace_tls.generation != trace_generation) {
			trace_tls.thread = NULL;
			trace_tls.counting = trace_tls.shared_ring = false;
			trace_tls.generation = trace_generation;
		}
		thread = trace_tls.thread ? trace_tls.thread : set_up();
	}
	atomic_fetch_sub(&setting_up, 1);
	return thread;
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
