#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#include "membarrier.h"
#include "remote_free.h"

#define CHUNKS ((NUMBER_MASK + 1) / BATCH_CHUNK)

/* Zeroed, and touched as batches are used. NULL: no memory. */
static void *map_chunk(void)
{
	void *memory = mmap(NULL, BATCH_CHUNK * sizeof(struct batch), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int batch_chunks_open(struct tcache_group *group)
{
	void *table = mmap(NULL, CHUNKS * sizeof *group->batch_chunks, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (table == MAP_FAILED)
		return -ENOMEM;
	group->batch_chunks = table;
	return 0;
}

/* Chunks are mapped in ascending order, so the first missing one ends the list. */
void batch_chunks_close(struct tcache_group *group)
{
	if (!group->batch_chunks)
		return;
	for (uint32_t i = 0; i < CHUNKS && GET(group->batch_chunks[i]); i++)
		munmap(GET(group->batch_chunks[i]), BATCH_CHUNK * sizeof(struct batch));
	munmap(group->batch_chunks, CHUNKS * sizeof *group->batch_chunks);
}

/* The number of a new batch, from 1; 0: none left, or no memory. Two threads may map the same
 * chunk: the exchange decides, and the loser unmaps its own. */
static uint32_t create_batch(struct tcache_group *group)
{
	uint32_t number =
		atomic_fetch_add_explicit(&group->batches_made, 1, memory_order_relaxed) + 1;
	struct batch *none = NULL;

	if (number > NUMBER_MASK) {
		SET(group->batches_made, (uint32_t)NUMBER_MASK);
		return 0;
	}
	struct batch *_Atomic *at = &group->batch_chunks[number / BATCH_CHUNK];
	if (atomic_load_explicit(at, memory_order_acquire))
		return number;
	struct batch *chunk = map_chunk();
	if (!chunk) /* loses the number, which 2^24 numbers allow */
		return GET(*at) ? number : 0;
	if (!atomic_compare_exchange_strong(at, &none, chunk))
		munmap(chunk, BATCH_CHUNK * sizeof *chunk);
	return number;
}

uint32_t batch_alloc(struct tcache_group *group)
{
	uint32_t number = batch_pop(group, &group->free_batches);

	if (!number)
		number = create_batch(group);
	if (number)
		batch_at(group, number)->count = 0;
	return number;
}

void batch_free(struct tcache_group *group, uint32_t number)
{
	batch_push(group, &group->free_batches, number);
}

/* The head of a stack has a tag that grows with each change, against a batch that is popped and
 * pushed again between the load and the exchange of another thread. Release: the items reach
 * the thread that pops. */
void batch_push(struct tcache_group *group, _Atomic uint64_t *stack, uint32_t number)
{
	struct batch *batch = batch_at(group, number);
	uint64_t seen = atomic_load_explicit(stack, memory_order_relaxed);
	uint64_t changed;

	do {
		SET(batch->next, (uint32_t)(seen & NUMBER_MASK));
		changed = ((seen >> NUMBER_BITS) + 1) << NUMBER_BITS | number;
	} while (!atomic_compare_exchange_weak_explicit(stack, &seen, changed, memory_order_release,
							memory_order_relaxed));
}

uint32_t batch_pop(struct tcache_group *group, _Atomic uint64_t *stack)
{
	uint64_t seen = atomic_load_explicit(stack, memory_order_acquire);
	uint64_t changed;

	do {
		uint32_t number = (uint32_t)(seen & NUMBER_MASK);
		if (!number)
			return 0;
		/* Stale if another thread pops the batch first. The tag then differs and the
		 * exchange fails. */
		uint32_t after = GET(batch_at(group, number)->next);
		changed = ((seen >> NUMBER_BITS) + 1) << NUMBER_BITS | after;
	} while (!atomic_compare_exchange_weak_explicit(stack, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & NUMBER_MASK);
}

/* Returns 0. */
__attribute__((noinline)) static int send_batch(struct tcache_group *group,
						struct outgoing_batch *outgoing)
{
	struct tcache *to =
		atomic_load_explicit(&group->tcaches[outgoing->to - 1], memory_order_acquire);

	batch_push(group, &to->remote_queue, outgoing->number);
	*outgoing = (struct outgoing_batch){0};
	return 0;
}

void remote_free_flush(struct tcache_group *group, struct tcache *from)
{
	for (unsigned i = 0; i < OUTGOING_BATCHES; i++)
		if (from->outgoing[i].batch)
			send_batch(group, &from->outgoing[i]);
}

/* Batches to several receivers are kept open, one for each value of `to` modulo
 * OUTGOING_BATCHES; a collision sends the older one. */
__attribute__((noinline)) static int open_batch_and_free(struct tcache_group *group,
							 struct tcache *from, struct slot *slot,
							 uint32_t item, uint32_t limit)
{
	uint32_t to = GET(slot->owner) & OWNER_MASK;
	struct outgoing_batch *outgoing = &from->outgoing[to % OUTGOING_BATCHES];

	if (!to)
		return -EALREADY; /* meanwhile */
	if (outgoing->batch)
		send_batch(group, outgoing);
	uint32_t number = batch_alloc(group);
	if (!number)
		return -ENOMEM;
	*outgoing = (struct outgoing_batch){batch_at(group, number), number, to};
	return remote_free_slot(group, from, slot, item, limit);
}

/* Calls at the end only, so that no register is saved. */
int remote_free_slot(struct tcache_group *group, struct tcache *from, struct slot *slot,
		     uint32_t item, uint32_t limit)
{
	uint32_t owner = atomic_load_explicit(&slot->owner, memory_order_acquire);
	uint32_t to = owner & OWNER_MASK;
	struct outgoing_batch *outgoing = &from->outgoing[to % OUTGOING_BATCHES];

	if (owner == 0 || GET(slot->remote_freed) == owner)
		return -EALREADY;
	if (__builtin_expect(outgoing->to != to, 0))
		return open_batch_and_free(group, from, slot, item, limit);
	SET(slot->remote_freed, owner); /* before the batch can reach its receiver */
	struct batch *batch = outgoing->batch;
	uint32_t count = batch->count;
	batch->items[count] = (uint64_t)item << 32 | owner;
	batch->count = count + 1;
	BUMP(from->remote_frees);
	return count + 1 < limit ? 0 : send_batch(group, outgoing);
}

uint32_t remote_free_receive(struct tcache_group *group, struct tcache *to)
{
	return batch_pop(group, &to->remote_queue);
}

/* The tag changes, for the receiver may be about to pop one of the batches. */
static uint32_t take_all(_Atomic uint64_t *stack)
{
	uint64_t seen = GET(*stack);

	do
		if (!(seen & NUMBER_MASK))
			return 0;
	while (!atomic_compare_exchange_weak_explicit(stack, &seen,
						      ((seen >> NUMBER_BITS) + 1) << NUMBER_BITS,
						      memory_order_acquire, memory_order_relaxed));
	return (uint32_t)(seen & NUMBER_MASK);
}

static void push_all(struct tcache_group *group, _Atomic uint64_t *stack, uint32_t number)
{
	while (number) {
		uint32_t next = GET(batch_at(group, number)->next);

		batch_push(group, stack, number);
		number = next;
	}
}

/* The owner may be about to free one of these slots too, if the owner read `remote_freed` before
 * the sender wrote that word. After the barrier, an owner that is not inside tcache_begin_free()
 * reads the new value. */
uint32_t remote_free_steal(struct tcache_group *group, struct tcache *other)
{
	uint32_t batches = take_all(&other->remote_queue);

	if (!batches)
		return 0;
	if (!membarrier_run()) {
		push_all(group, &other->remote_queue, batches);
		return 0;
	}
	while (atomic_load_explicit(&other->freeing, memory_order_acquire))
		sched_yield();
	return batches;
}
