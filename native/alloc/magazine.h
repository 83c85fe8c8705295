/* A stack of free slots in a thread cache: the fast path of pools and arenas. */
#ifndef MEMATLAS_ALLOC_MAGAZINE_H
#define MEMATLAS_ALLOC_MAGAZINE_H

#include "thread_cache.h"

/* With its slot, so that an alloc computes no number. */
struct free_slot {
	void *object;
	struct slot *slot;
};

/* Two counts instead of one top of the stack, because a CPU forwards a store to the next load in 7
 * cycles: an alloc and a free that both changed one word would take 16 cycles, whatever else they
 * do. The counts are also the statistics, and the number of allocs is the generation of a slot.
 *
 *   puts == (allocs that the counts started with + slots ever put in) * GENERATION_STEP + id
 *   takes == the same of slots ever taken out
 *   takes <= puts <= takes + capacity
 *
 * Only the thread of the cache writes. */
struct magazine {
	_Atomic uint64_t puts, takes;
	struct free_slot *bottom;
	uint64_t capacity; /* slots * GENERATION_STEP */
};

_Static_assert(sizeof(struct magazine) == 32, "no magazine spans two cache lines");
_Static_assert(GENERATION_STEP == sizeof(struct free_slot) << 12, "see magazine_entry()");

/* `ret_bottom` advances by the capacity. */
static inline void magazine_init(struct magazine *magazine, struct free_slot **ret_bottom,
				 uint32_t capacity, const struct tcache *tcache)
{
	SET(magazine->puts, tcache->id);
	SET(magazine->takes, tcache->id);
	magazine->bottom = *ret_bottom;
	magazine->capacity = (uint64_t)capacity * GENERATION_STEP;
	*ret_bottom += capacity;
}

/* The entry above `filled` slots. */
static inline struct free_slot *magazine_entry(const struct magazine *magazine, uint64_t filled)
{
	return (struct free_slot *)((char *)magazine->bottom + (filled >> 12));
}

/* For the thread of the cache, as is what follows. */
static inline uint32_t magazine_filled(struct magazine *magazine)
{
	return (uint32_t)((GET(magazine->puts) - GET(magazine->takes)) / GENERATION_STEP);
}

static inline bool magazine_is_empty(struct magazine *magazine)
{
	return GET(magazine->puts) == GET(magazine->takes);
}

static inline bool magazine_is_full(struct magazine *magazine)
{
	return GET(magazine->puts) - GET(magazine->takes) == magazine->capacity;
}

/* There must be room. */
static inline void magazine_put(struct magazine *magazine, void *object, struct slot *slot)
{
	uint64_t puts = GET(magazine->puts);

	*magazine_entry(magazine, puts - GET(magazine->takes)) = (struct free_slot){object, slot};
	SET(magazine->puts, puts + GENERATION_STEP);
}

/* There must be room. */
static inline void magazine_put_all(struct magazine *magazine, const struct free_slot *slots,
				    uint32_t count)
{
	uint64_t puts = GET(magazine->puts);
	struct free_slot *at = magazine_entry(magazine, puts - GET(magazine->takes));

	for (uint32_t i = 0; i < count; i++)
		at[i] = slots[i];
	SET(magazine->puts, puts + (uint64_t)count * GENERATION_STEP);
}

/* Drop slots from the top; the caller has moved or lost them. */
static inline void magazine_drop(struct magazine *magazine, uint32_t count)
{
	SET(magazine->takes, GET(magazine->takes) + (uint64_t)count * GENERATION_STEP);
}

/* NULL: the magazine is empty. */
static inline void *magazine_alloc(struct magazine *magazine)
{
	uint64_t takes = GET(magazine->takes), filled = GET(magazine->puts) - takes;

	if (__builtin_expect(filled == 0, 0))
		return NULL;
	const struct free_slot *entry = magazine_entry(magazine, filled) - 1;
	takes += GENERATION_STEP;
	slot_alloc(entry->slot, (uint32_t)takes);
	SET(magazine->takes, takes);
	if (!entry->object) /* spares the caller's test of the result */
		__builtin_unreachable();
	return entry->object;
}

/* Frees a slot of the cache into the magazine. False, and nothing is changed, if the magazine is
 * full, or the slot is free, in flight, or owned by another cache. */
static inline bool magazine_free(struct magazine *magazine, struct tcache *tcache, void *object,
				 struct slot *slot)
{
	uint64_t puts = GET(magazine->puts), filled = puts - GET(magazine->takes);

	if (__builtin_expect(filled == magazine->capacity, 0))
		return false;
	tcache_begin_free(tcache);
	if (__builtin_expect(!slot_free(slot, tcache->id), 0)) {
		tcache_end_free(tcache);
		return false;
	}
	*magazine_entry(magazine, filled) = (struct free_slot){object, slot};
	SET(magazine->puts, puts + GENERATION_STEP);
	tcache_end_free(tcache);
	return true;
}

/* For any thread. While the thread of the cache runs, the figures may be of different instants. */
struct magazine_counts {
	uint64_t puts, takes, filled;
};

static inline struct magazine_counts magazine_read(struct magazine *magazine)
{
	/* In this order puts are not below takes, whatever happens between. */
	uint64_t takes = atomic_load_explicit(&magazine->takes, memory_order_acquire);
	uint64_t puts = GET(magazine->puts);
	struct magazine_counts counts = {puts / GENERATION_STEP, takes / GENERATION_STEP,
					 puts > takes ? (puts - takes) / GENERATION_STEP : 0};
	return counts;
}

/* Of a thread cache, before puts are added to `frees` and takes to `allocs`: slots that moved
 * without an alloc or free are subtracted. They are read first, so that the sums are not negative. */
struct tcache_counts {
	uint64_t allocs, frees, late_double_frees;
};

static inline struct tcache_counts tcache_read(struct tcache *tcache)
{
	struct tcache_counts counts = {
		.allocs = -atomic_load_explicit(&tcache->moved_out, memory_order_acquire),
		.frees = -atomic_load_explicit(&tcache->moved_in, memory_order_acquire),
		.late_double_frees = GET(tcache->late_double_frees)};

	counts.frees += GET(tcache->remote_frees);
	return counts;
}

#endif
