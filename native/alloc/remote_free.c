/* Parcels of slots between threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#include "membarrier.h"
#include "remote_free.h"

#define NUMBER_BITS 24u
#define NUMBER_MASK ((1ull << NUMBER_BITS) - 1)
#define CHUNK 1024u
#define CHUNKS ((NUMBER_MASK + 1) / CHUNK)

static void *map(size_t bytes)
{
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int exchange_open(struct exchange *exchange)
{
	exchange->chunks = map(CHUNKS * sizeof *exchange->chunks);
	exchange->keepers = map(KEEPERS_MAX * sizeof *exchange->keepers);
	int error = exchange->chunks && exchange->keepers ? keepers_register(exchange) : -ENOMEM;
	if (error)
		exchange_close(exchange);
	return error;
}

void exchange_close(struct exchange *exchange)
{
	keepers_forget(exchange);
	for (uint32_t i = 0; exchange->keepers && i < GET(exchange->keeper_count); i++)
		munmap((char *)GET(exchange->keepers[i]) - KEEPER_OFFSET,
		       KEEPER_OFFSET + exchange->keeper_size);
	for (uint32_t i = 0; exchange->chunks && i < CHUNKS && GET(exchange->chunks[i]); i++)
		munmap(GET(exchange->chunks[i]), CHUNK * sizeof(struct parcel));
	if (exchange->chunks)
		munmap(exchange->chunks, CHUNKS * sizeof *exchange->chunks);
	if (exchange->keepers)
		munmap(exchange->keepers, KEEPERS_MAX * sizeof *exchange->keepers);
}

void exchange_reset(struct exchange *exchange)
{
	SET(exchange->parcels_made, 0);
	SET(exchange->spare, 0);
	for (uint32_t i = 0; i < GET(exchange->keeper_count); i++) {
		struct keeper *keeper = GET(exchange->keepers[i]);
		SET(keeper->busy, 0);
		SET(keeper->inbox, 0);
		for (unsigned box = 0; box < OUTBOXES; box++)
			keeper->outboxes[box] = (struct outbox){0};
	}
}

static uint32_t make_parcel(struct exchange *exchange)
{
	uint32_t number =
		atomic_fetch_add_explicit(&exchange->parcels_made, 1, memory_order_relaxed) + 1;
	struct parcel *none = NULL;

	if (number > NUMBER_MASK) {
		SET(exchange->parcels_made, (uint32_t)NUMBER_MASK);
		return 0;
	}
	struct parcel *_Atomic *at = &exchange->chunks[number / CHUNK];
	if (atomic_load_explicit(at, memory_order_acquire))
		return number;
	struct parcel *chunk = map(CHUNK * sizeof *chunk);
	if (!chunk) /* the number is lost: there are enough */
		return GET(*at) ? number : 0;
	if (!atomic_compare_exchange_strong(at, &none, chunk))
		munmap(chunk, CHUNK * sizeof *chunk);
	return number;
}

uint32_t parcel_get(struct exchange *exchange)
{
	uint32_t number = parcel_pop(exchange, &exchange->spare);

	if (!number)
		number = make_parcel(exchange);
	if (number)
		parcel_at(exchange, number)->count = 0;
	return number;
}

void parcel_put(struct exchange *exchange, uint32_t number)
{
	parcel_push(exchange, &exchange->spare, number);
}

void parcel_push(struct exchange *exchange, _Atomic uint64_t *stack, uint32_t number)
{
	struct parcel *parcel = parcel_at(exchange, number);
	uint64_t seen = atomic_load_explicit(stack, memory_order_relaxed);
	uint64_t changed;

	do {
		SET(parcel->next, (uint32_t)(seen & NUMBER_MASK));
		changed = ((seen >> NUMBER_BITS) + 1) << NUMBER_BITS | number;
	} while (!atomic_compare_exchange_weak_explicit(stack, &seen, changed, memory_order_release,
							memory_order_relaxed));
}

uint32_t parcel_pop(struct exchange *exchange, _Atomic uint64_t *stack)
{
	uint64_t seen = atomic_load_explicit(stack, memory_order_acquire);
	uint64_t changed;

	do {
		uint32_t number = (uint32_t)(seen & NUMBER_MASK);
		if (!number)
			return 0;
		/* May be stale when another thread takes the parcel first; the tag then differs. */
		uint32_t after = GET(parcel_at(exchange, number)->next);
		changed = ((seen >> NUMBER_BITS) + 1) << NUMBER_BITS | after;
	} while (!atomic_compare_exchange_weak_explicit(stack, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & NUMBER_MASK);
}

/* Inboxes are only pushed to and emptied, so they need no tag. */
static void send(struct exchange *exchange, struct outbox *box)
{
	struct keeper *to =
		atomic_load_explicit(&exchange->keepers[box->to - 1], memory_order_acquire);
	struct parcel *parcel = parcel_at(exchange, box->parcel);
	uint32_t seen = GET(to->inbox);

	do
		SET(parcel->next, seen);
	while (!atomic_compare_exchange_weak_explicit(&to->inbox, &seen, box->parcel,
						      memory_order_release, memory_order_relaxed));
	box->parcel = 0;
}

void exchange_send_all(struct exchange *exchange, struct keeper *from)
{
	for (unsigned i = 0; i < OUTBOXES; i++)
		if (from->outboxes[i].parcel)
			send(exchange, &from->outboxes[i]);
}

static bool post(struct exchange *exchange, struct keeper *from, uint32_t item, uint32_t holder,
		 uint32_t limit)
{
	uint32_t to = holder >> 16;
	struct outbox *box = &from->outboxes[to % OUTBOXES];

	if (box->parcel && box->to != to)
		send(exchange, box);
	if (!box->parcel) {
		box->parcel = parcel_get(exchange);
		if (!box->parcel)
			return false;
		box->to = to;
	}
	struct parcel *parcel = parcel_at(exchange, box->parcel);
	parcel->items[parcel->count++] = (uint64_t)item << 32 | holder;
	if (parcel->count >= limit)
		send(exchange, box);
	return true;
}

int exchange_give(struct exchange *exchange, struct keeper *from, struct slot *slot, uint32_t item,
		  uint32_t limit)
{
	uint32_t holder = atomic_load_explicit(&slot->holder, memory_order_acquire);

	if (holder >> 16 == 0 || GET(slot->posted) == holder)
		return -EALREADY;
	SET(slot->posted, holder); /* before anybody can receive it */
	if (!post(exchange, from, item, holder, limit)) {
		SET(slot->posted, 0);
		return -ENOMEM;
	}
	BUMP(from->given);
	BUMP(from->sent);
	return 0;
}

uint32_t exchange_receive(struct keeper *to)
{
	if (!GET(to->inbox))
		return 0;
	return atomic_exchange_explicit(&to->inbox, 0, memory_order_acquire);
}

/* The keeper may be about to free one of these slots itself, having looked before it was posted. Every
 * slot here is posted; once each thread has passed a barrier, a keeper that is not busy will see so. */
uint32_t exchange_rob(struct keeper *other)
{
	uint32_t parcels = exchange_receive(other);

	if (!parcels)
		return 0;
	membarrier_run();
	while (atomic_load_explicit(&other->busy, memory_order_acquire))
		sched_yield();
	return parcels;
}
