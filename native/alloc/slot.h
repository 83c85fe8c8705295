/* The state of one slot, which is the memory of one object of a pool or an arena.
 *
 * A slot needs no atomic read-modify-write, because only the owner's thread writes `owner`. A
 * second thread that frees the slot writes `remote_freed` and sends (slot, owner word) to the
 * owner's thread cache. The owner reclaims the slot only if the word still matches. Two threads
 * that free one slot at the same instant, which plain stores cannot prevent, thus send the slot
 * twice, and the second message is stale.
 *
 * A slot is in exactly one state:
 *
 *   free       owner == 0
 *   in use     owner % 2^16 == id of a thread cache && remote_freed != owner
 *   in flight  owner % 2^16 == id of a thread cache && remote_freed == owner
 *
 * The generation is the number of allocs of the owner's magazine, not of the slot: an alloc then
 * stores to the slot without a load. It repeats after 2^16 allocs, and a second message may wait that
 * long in a batch that is not full. So an alloc clears `remote_freed`, and a message counts only if
 * some thread has set that word since. Two cases remain, in which a block in use is freed:
 *
 *   - A thread loses the CPU between its check and its store to `remote_freed`, while the owner makes
 *     exactly 2^16 allocs, or a multiple.
 *   - A second message waits for exactly 2^16 allocs, or a multiple, and meanwhile a thread that was
 *     late stores any other word, which slot_reclaim() accepts since it may have replaced the right one.
 */
#ifndef MEMATLAS_ALLOC_SLOT_H
#define MEMATLAS_ALLOC_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OWNER_MASK 0xffffu
#define GENERATION_STEP 0x10000u

/* Plain loads and stores of words that other threads may read. BUMP is not an atomic increment, so
 * the word needs a single writer. */
#define GET(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define SET(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define BUMP(word) SET(word, GET(word) + 1)

struct slot {
	union {
		struct {
			_Atomic uint32_t
				owner; /* generation << 16 | id of a thread cache; 0: free */
			/* The owner word for which another thread freed the slot; of a free slot any word. */
			_Atomic uint32_t remote_freed;
		};
		_Atomic uint64_t both;
	};
};

_Static_assert(sizeof(struct slot) == 8, "layout of shared pools");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the owner is the lower half of both");

static inline bool slot_in_use(struct slot *slot)
{
	uint32_t owner = GET(slot->owner);

	return owner && GET(slot->remote_freed) != owner;
}

/* The slot is free. Clears `remote_freed`. */
static inline void slot_alloc(struct slot *slot, uint32_t owner)
{
	SET(slot->both, (uint64_t)owner);
}

static inline bool slot_is_owned(struct slot *slot, uint32_t id)
{
	uint32_t owner = GET(slot->owner);

	return (owner & OWNER_MASK) == id && GET(slot->remote_freed) != owner;
}

/* Free a slot of the calling thread's cache, between tcache_begin_free() and tcache_end_free().
 * False if the slot is free, in flight, or owned by another cache. */
static inline bool slot_free(struct slot *slot, uint32_t id)
{
	uint32_t owner = GET(slot->owner);

	if (__builtin_expect((uint16_t)owner != (uint16_t)id || GET(slot->remote_freed) == owner,
			     0))
		return false;
	SET(slot->owner, 0);
	return true;
}

/* Free a slot that arrived in a batch with `owner`. False if the message is stale. */
static inline bool slot_reclaim(struct slot *slot, uint32_t owner)
{
	/* 0: the message is of an earlier alloc with this word. Another word than `owner`, of a thread that was
	 * late, may have taken the place of the right one. */
	if (GET(slot->owner) != owner || !GET(slot->remote_freed))
		return false;
	SET(slot->owner, 0);
	/* Orders the free state before the word that a later remote free compares. */
	atomic_store_explicit(&slot->remote_freed, 0, memory_order_release);
	return true;
}

/* In a forked child, free a slot whose thread cache was lost with its thread. */
static inline void slot_reset(struct slot *slot)
{
	SET(slot->owner, 0);
	SET(slot->remote_freed, 0);
}

#endif
