/* A thread's ring and caches. Both belong to the directory entry: the next thread that claims the entry
 * finds the caches warm. */
#ifndef MEMATLAS_TRACER_THREAD_H
#define MEMATLAS_TRACER_THREAD_H

#include "python.h"
#include "state.h"
#include "unwind.h"

struct trace_stack_slot {
	uint64_t hash;
	uint32_t id; /* 0: unused */
	uint32_t unused;
};
#define TRACE_STACK_SLOTS (1u << 14)
#define TRACE_SEEN_MODULES 256u
/* A module that the thread has recorded. */
struct trace_seen_module {
	uintptr_t start, end;
	uintptr_t dynamic; /* l_ld */
};
#define TRACE_EMITTED_BITS 9u

/* State of the thread that owns a ring. Records are written without checks while head stays below limit.
 *
 *   tail_seen <= head <= limit <= min(populated, tail_seen + mask + 1), or limit == 0
 *   mask + 1 is a power of two; words[i & mask] holds word i of the ring
 *   modules <= TRACE_SEEN_MODULES */
/* A block that the thread freed at `place`, half of its head then. Most entries are skipped in a lap, so the
 * key tells their lap, and that both words were written by one free.
 *
 *   key == trace_freed_key(block, caller, place) */
#define TRACE_FREED 4096u
struct trace_freed {
	uint64_t key, caller;
};

static inline uint64_t trace_freed_key(const void *block, uint64_t caller, uint64_t place)
{
	return (uint64_t)(uintptr_t)block ^ caller ^ place / TRACE_FREED << 48;
}

struct trace_thread {
	struct trace_ring *ring;
	const int32_t *guard; /* in the owner's thread-local storage, gone once it has ended */
	uint64_t *words; /* of the ring */
	uint64_t mask;
	uint64_t head;
	uint64_t limit; /* words below are free and populated */
	uint64_t timed; /* timestamp of the last timestamped Python record */
	uint32_t untimed; /* Python records still to go without a timestamp */
	uint32_t burst; /* timestamped Python records in the current burst */
	uint64_t tail_seen;
	uint64_t random;
	struct trace_bounds bounds;
	uint32_t next_stack;
	uint32_t modules;
	uint32_t modules_generation;
	uint64_t populated; /* ring words backed by memory; UINT64_MAX: all */
	struct trace_seen_module seen[TRACE_SEEN_MODULES];
	uint64_t emitted[1u << TRACE_EMITTED_BITS]; /* PCs whose module is emitted, by hash */
	bool emitted_whole; /* the last emitted stack had all its native frames */
	bool eval_seen; /* and the eval loop was searched in all of them */
	uint64_t marks; /* serial of the ring's last MARK */
	bool changing; /* `stacks` may be half written, if the owner ended like that */
	struct trace_walk walk;
	uint64_t native[TRACE_MAX_FRAMES + 1], python[TRACE_MAX_FRAMES];
	struct trace_stack_slot stacks[TRACE_STACK_SLOTS];
	struct trace_python_chain chain;
	struct trace_code_cache code_cache;
	/* The last frees of an exact run, at half their place in the ring: where a block was freed first is
	 * asked once it is freed again. */
	struct trace_freed freed[TRACE_FREED];
};

/* Tests the invariant of struct trace_thread. */
static inline bool trace_thread_is_valid(const struct trace_thread *thread)
{
	uint64_t words = thread->mask + 1;

	if (words & thread->mask || thread->modules > TRACE_SEEN_MODULES ||
	    thread->tail_seen > thread->head)
		return false;
	return !thread->limit ||
	       (thread->head <= thread->limit && thread->limit <= thread->populated &&
		thread->limit <= thread->tail_seen + words);
}

/* Slots are protected one by one, so each starts at a page boundary of any kernel. */
static inline size_t trace_slot_bytes(void)
{
	return (sizeof(struct trace_thread) + TRACE_FILE_ALIGN - 1) &
	       ~(size_t)(TRACE_FILE_ALIGN - 1);
}

struct trace_thread *trace_thread_set_up(void);

/* Has that thread of this process ended? */
bool trace_thread_has_ended(int32_t tid);
struct trace_last_free {
	uint64_t caller; /* return address; 0: unknown */
	uint64_t time; /* 0: the record is overwritten already */
	uint32_t record; /* TRACE_FREED_AT */
};
/* The last call that freed the block, as far as it is kept. */
struct trace_last_free trace_threads_find_freed(const void *block);
/* Does any thread but the caller use the memory of rings and slots now? */
bool trace_threads_are_inside(void);

/* Returns the calling thread's state, set up if need be; NULL: no ring is left. */
static inline struct trace_thread *trace_thread_get(void)
{
	if (trace_likely(trace_tls.thread && trace_tls.generation == trace_generation))
		return trace_tls.thread;
	return trace_thread_set_up();
}

/* Returns the calling thread's state if an exact run can record an event without further checks; else
 * NULL. */
static inline struct trace_thread *trace_thread_fast(void)
{
	struct trace_thread *thread = trace_tls.thread;
	uint32_t now = __atomic_load_n(&trace_exact_generation, __ATOMIC_RELAXED);

	if (trace_unlikely(!thread || trace_tls.generation != now || trace_is_forked()))
		return NULL;
	return thread;
}

/* Thread of the last timestamped Python record: only this thread may omit timestamps. */
extern struct trace_thread *trace_untimed_thread;

void trace_shared_ring_release(void);
/* Drops the parent's threads and their caches in a forked child. */
void trace_threads_reset(void);
/* Draws the number of bytes to the next sample. */
int64_t trace_draw_gap(struct trace_thread *thread);

#endif
