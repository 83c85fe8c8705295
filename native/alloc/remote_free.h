/* Remote frees: a thread frees a slot that another thread's cache owns.
 *
 * Slots travel in batches, as messages do in snmalloc. A thread fills one batch for a receiver and
 * pushes the full batch onto the receiver's queue. The receiver reclaims a batch when its own
 * free slots run out. A thread that finds no free slot at all steals the queues of other threads.
 *
 * Batches have numbers. A stack of batches is one word, tag << 24 | number, and the tag prevents
 * ABA. The links are in the batches, which stay mapped until the allocator is closed. */
#ifndef MEMATLAS_ALLOC_REMOTE_FREE_H
#define MEMATLAS_ALLOC_REMOTE_FREE_H

#include "thread_cache.h"

#define BATCH_CAPACITY 63u
#define BATCH_SIZE                                                                                 \
	56u /* slots sent at a time at most: whole cache lines, so no two threads share one */
#define BATCH_CHUNK 1024u /* batches mapped at a time */
#define NUMBER_BITS 24u
#define NUMBER_MASK ((1ull << NUMBER_BITS) - 1)

/* count <= BATCH_CAPACITY */
struct batch {
	_Atomic uint32_t next; /* number of another batch; 0: none */
	uint32_t count;
	uint64_t items[BATCH_CAPACITY]; /* number of a slot << 32 | owner word */
};

_Static_assert(sizeof(struct batch) == 512, "whole cache lines");
_Static_assert(BATCH_SIZE <= BATCH_CAPACITY, "a batch holds what is sent at a time");
_Static_assert(BATCH_SIZE * sizeof(struct slot) % 64 == 0, "whole cache lines of slots");

/* An empty batch; 0: no memory. */
uint32_t batch_alloc(struct tcache_group *group);
void batch_free(struct tcache_group *group, uint32_t number);
void batch_push(struct tcache_group *group, _Atomic uint64_t *stack, uint32_t number);
/* 0: the stack is empty. */
uint32_t batch_pop(struct tcache_group *group, _Atomic uint64_t *stack);
int batch_chunks_open(struct tcache_group *group);
void batch_chunks_close(struct tcache_group *group);

static inline struct batch *batch_at(const struct tcache_group *group, uint32_t number)
{
	struct batch *chunk = atomic_load_explicit(&group->batch_chunks[number / BATCH_CHUNK],
						   memory_order_acquire);

	return chunk + number % BATCH_CHUNK;
}

/* Free a slot for which slot_free() returned false. `item` is the slot's number for the receiver.
 * The batch is sent once `limit` slots are in it. Returns 0, -EALREADY if the slot is free or in
 * flight, or -ENOMEM, which changes nothing. */
int remote_free_slot(struct tcache_group *group, struct tcache *from, struct slot *slot,
		     uint32_t item, uint32_t limit);
/* Send all outgoing batches, full or not. */
void remote_free_flush(struct tcache_group *group, struct tcache *from);
/* Pop a batch off the queue of the calling thread's cache. 0: the queue is empty. */
uint32_t remote_free_receive(struct tcache_group *group, struct tcache *to);
/* Detach the queue of another thread's cache. Blocks while that thread is freeing a slot. Returns
 * the first batch, linked by `next`, or 0, also if the kernel refuses membarrier(2). */
uint32_t remote_free_steal(struct tcache_group *group, struct tcache *other);

#endif
