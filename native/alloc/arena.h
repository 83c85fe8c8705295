/* Inside of the arena.
 *
 *   reservation   address space, made usable from its start as needed
 *   pages         8 KiB; runs of them are free (merged with free neighbours), a block, or a span's
 *   span          equal slots of one size class, for one shard; free slots' numbers in a stack beside it
 *   magazine      a thread's own free slots of a class, refilled and emptied a batch at a time
 *   large blocks  mappings of their own, in a sorted table
 *
 * Nothing about a block is stored in or beside it, so no write to it, right or wrong, misleads the
 * arena. Who took and may free a slot is exchange.h's matter. Order of locks: shards, pages, large blocks. */
#ifndef MEMATLAS_MEMORY_ARENA_H
#define MEMATLAS_MEMORY_ARENA_H

#include <errno.h>
#include <string.h>

#include "remote_free.h"
#include "mematlas.h"

#define PAGE_BITS 13u
#define PAGE (1ull << PAGE_BITS)
#define UNIT 16u /* alignment of every block; 32-bit numbers of units reach over the reservation */
#define CLASSES 41u
#define SHARDS 8u /* of threads: those of different ones never use slots of the same span */
#define SMALL_MAX 32768u
#define LARGE_MIN (2ull << 20)
#define GROWTH (4ull << 20) /* bytes made usable at once */
#define RETAINED (64ull << 20) /* free bytes kept before they are given back */
#define BINS 128u /* lists of free runs by length; the last one: longer */
#define CAPACITY_MAX (1ull << 36)

/* A span's run without pages is idle, never free: pages that still lead to it while it is taken out of them
 * must not be merged with their neighbours. */
enum run_state { RUN_FREE, RUN_BLOCK, RUN_SPAN, RUN_IDLE };

/* A run of pages. That of a span keeps its shape for ever, and only ever serves its class: whoever holds
 * a stale address meets slots, of the right number, and finds them free or not its own. */
struct run {
	char *_Atomic start;
	uint32_t slot_size;
	uint32_t reciprocal; /* of the slot size, times 2^32; rounded up */
	uint32_t count; /* slots */
	_Atomic uint8_t state;
	uint8_t class; /* its number, and where the run belongs */
	struct size_class *home;
	bool released; /* free: no memory behind it */
	bool listed; /* span: in its class's list */
	struct slot *slots;
	uint16_t *free; /* stack of numbers of the slots that are in no magazine */
	uint32_t free_count;
	uint32_t pages;
	struct run *next, *previous;
	struct run *next_of_class; /* all runs ever made for it */
	uint8_t *seen; /* while checking */
};

struct size_class {
	_Alignas(128) pthread_mutex_t *lock; /* its shard's */
	uint32_t size, batch, pages;
	uint8_t number;
	uint32_t empty; /* of the listed spans, those wholly free */
	struct run usable; /* list head: spans with free slots */
	struct run *idle; /* runs without pages */
	struct run *all; /* runs, idle ones too */
};

struct shard {
	_Alignas(128) pthread_mutex_t lock;
	struct size_class classes[CLASSES];
};

struct page_heap {
	_Alignas(128) pthread_mutex_t lock;
	char *top; /* end of what is usable */
	uint64_t free_bytes; /* in free runs */
	uint64_t released_bytes; /* of those */
	uint64_t block_bytes, blocks; /* in RUN_BLOCK runs */
	uint64_t returned; /* since creation, given back to the kernel */
	uint64_t bitmap[BINS / 64]; /* bins that hold something */
	struct run bins[BINS];
	struct run *idle; /* unused, of free runs and blocks */
	char *store,
		*store_end; /* memory of runs, slots, stacks: never unmapped before the arena */
	struct store *stores;
};

struct large_block {
	char *start;
	uint64_t size;
};

struct large_heap {
	_Alignas(128) pthread_mutex_t lock;
	struct large_block *blocks; /* by address */
	uint64_t count, room, bytes;
};

struct mematlas_arena {
	char *base;
	uint64_t capacity;
	struct run *_Atomic
		*pages; /* by page: a span's run; of other runs at the first and last page */
	uint8_t by_16[1024 / 16 + 1];
	uint8_t by_128[SMALL_MAX / 128 + 1];
	struct exchange exchange;
	_Atomic uint64_t refused;
	struct shard shards[SHARDS];
	struct page_heap heap;
	struct large_heap large;
};

struct magazine {
	_Atomic uint32_t filled;
	uint32_t room;
	void **objects;
};

struct arena_keeper {
	struct keeper keeper;
	_Atomic uint64_t taken;
	struct magazine magazines[CLASSES];
	void *objects[];
};

static inline struct run *run_at(const struct mematlas_arena *arena, const void *address)
{
	uint64_t page = (uint64_t)((const char *)address - arena->base) >> PAGE_BITS;

	return atomic_load_explicit(&arena->pages[page], memory_order_acquire);
}

static inline bool in_reservation(const struct mematlas_arena *arena, const void *address)
{
	return (uint64_t)((const char *)address - arena->base) < arena->capacity;
}

/* The slot that begins at an address; NULL if none does. */
static inline struct slot *slot_of(struct run *run, const void *address)
{
	uint64_t offset = (uint64_t)((const char *)address - GET(run->start));
	uint64_t number = offset * run->reciprocal >> 32;

	return number < run->count && number * run->slot_size == offset ? &run->slots[number]
									: NULL;
}

/* All of them, as one numbered list. */
static inline struct size_class *class_at(struct mematlas_arena *arena, unsigned number)
{
	return &arena->shards[number / CLASSES].classes[number % CLASSES];
}

static inline struct size_class *class_of(struct mematlas_arena *arena,
					  const struct arena_keeper *keeper, unsigned number)
{
	return &arena->shards[(keeper->keeper.mark >> 16) % SHARDS].classes[number];
}

static inline struct mematlas_arena *arena_of(struct exchange *exchange)
{
	return (void *)((char *)exchange - offsetof(struct mematlas_arena, exchange));
}

/* arena_pages.c */
int pages_open(struct mematlas_arena *arena);
void pages_close(struct mematlas_arena *arena);
/* Memory that lives as long as the arena, zeroed. With the heap's lock. */
void *pages_store(struct mematlas_arena *arena, uint64_t bytes);
char *pages_take(struct mematlas_arena *arena, uint64_t pages);
void pages_give(struct mematlas_arena *arena, char *start, uint64_t pages);
void *pages_take_block(struct mematlas_arena *arena, uint64_t size);
/* -EALREADY, -EINVAL, -EFAULT. */
int pages_give_block(struct mematlas_arena *arena, void *block);
int64_t pages_block_size(struct mematlas_arena *arena, const void *block);
uint64_t pages_trim(struct mematlas_arena *arena);
bool pages_sound(struct mematlas_arena *arena);

/* arena_large.c */
void *large_take(struct mematlas_arena *arena, uint64_t size, uint64_t alignment);
int large_give(struct mematlas_arena *arena, void *block);
int64_t large_size(struct mematlas_arena *arena, const void *block);
int large_resize(struct mematlas_arena *arena, void **block, uint64_t size);
void large_close(struct mematlas_arena *arena);

/* arena_class.c */
void classes_open(struct mematlas_arena *arena);
/* Fetches up to a batch of slots into an empty magazine, from a new span if need be; false: none. */
bool class_fetch(struct mematlas_arena *arena, struct size_class *class, struct magazine *magazine,
		 bool may_grow);
void class_return(struct mematlas_arena *arena, struct magazine *magazine, uint32_t batch);
/* Gives the pages of wholly free spans back to the heap. */
void class_dissolve(struct mematlas_arena *arena, struct size_class *class, uint32_t keep);
void class_relist(struct size_class *class, struct run *run);

/* arena_take.c */
void arena_receive(struct mematlas_arena *arena, struct arena_keeper *keeper, uint32_t parcel);
void arena_collect(struct mematlas_arena *arena, struct arena_keeper *keeper);
void arena_prepare_keeper(struct exchange *exchange, struct keeper *keeper);
void arena_leave(struct exchange *exchange, struct keeper *keeper);
struct arena_keeper *arena_join(struct mematlas_arena *arena);
size_t arena_keeper_size(struct mematlas_arena *arena);

/* arena_check.c */
void arena_adopt(struct exchange *exchange);

#endif
