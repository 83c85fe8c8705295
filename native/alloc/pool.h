/* Inside of the pool. Objects are numbered; a number is a slot's everywhere here. */
#ifndef MEMATLAS_MEMORY_POOL_H
#define MEMATLAS_MEMORY_POOL_H

#include <errno.h>

#include "remote_free.h"
#include "mematlas.h"

#define POOL_MAGIC 0x336c6f6f70656d6dull /* "mmepool3" */
#define INDEX_BITS 24u
#define INDEX_MASK ((1ull << INDEX_BITS) - 1)
#define NONE INDEX_MASK
#define LINE 64u

/* The part of a pool that lives in its mapping, and is shared where the mapping is. */
struct pool_memory {
	uint64_t magic;
	uint64_t object_size; /* as asked */
	uint64_t stride;      /* object_size rounded up to the alignment */
	uint64_t alignment;
	uint64_t count;
	uint64_t mapping_size;
	uint64_t objects_offset;
	_Alignas(LINE) _Atomic uint64_t head; /* tag << 24 | number of a free object, or NONE */
	_Alignas(LINE) _Atomic uint64_t fresh;
	_Alignas(LINE) _Atomic uint64_t taken;
	_Alignas(LINE) _Atomic uint64_t given;
	_Alignas(LINE) _Atomic uint64_t refused; /* takes that found nothing */
};

/* A pool is either "common": free objects are in one lock-free list for all, linked in the mapping; or
 * it has keepers with magazines of free objects, parcels of them in `full`, and those never taken. */
struct mematlas_pool {
	char *objects;
	struct slot *slots;
	uint64_t stride, count;
	uint64_t reciprocal; /* of the stride, times 2^64; rounded up */
	uint32_t batch;      /* objects passed on at once */
	uint32_t magazine;   /* objects a keeper has room for */
	bool common;
	_Atomic uint32_t *next; /* common: the free list's links */
	struct pool_memory *memory;
	struct exchange exchange;
	_Alignas(128) _Atomic uint64_t full; /* stack of parcels */
};

struct pool_keeper {
	struct keeper keeper;
	_Atomic uint64_t brought; /* into the magazine from elsewhere, less those passed on */
	_Atomic uint32_t filled;
	/* Not their numbers: what is given is what is taken next, and should not wait for a division. */
	void *objects[2 * BATCH];
};

/* The number of the object at an address that is one's start. Exact there: the reciprocal's error, times
 * the number, is below 2^64. */
static inline uint64_t object_number(const struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);

	return (uint64_t)((unsigned __int128)offset * pool->reciprocal >> 64);
}

static inline void *object_at(const struct mematlas_pool *pool, uint64_t number)
{
	return pool->objects + number * pool->stride;
}

/* Not counted as it happens: that would be a tenth of the time. */
static inline uint64_t objects_taken(struct pool_keeper *keeper)
{
	return GET(keeper->brought) + GET(keeper->keeper.given) - GET(keeper->keeper.sent) -
	       GET(keeper->filled);
}

void *pool_take_common(struct mematlas_pool *pool);
int pool_give_common(struct mematlas_pool *pool, uint32_t number);
void pool_push_common(struct mematlas_pool *pool, uint32_t number);
/* Puts a keeper's magazine and outboxes where others find them. */
void pool_leave(struct exchange *exchange, struct keeper *keeper);
/* In a forked child: every object without a holder is free, the lists are made anew. */
void pool_adopt(struct exchange *exchange);

static inline struct mematlas_pool *pool_of(struct exchange *exchange)
{
	return (void *)((char *)exchange - offsetof(struct mematlas_pool, exchange));
}

#endif
