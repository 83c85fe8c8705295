/* Objects of one size, numbered from 0. The number of an object is the number of its slot. */
#ifndef MEMATLAS_ALLOC_POOL_H
#define MEMATLAS_ALLOC_POOL_H

#include <errno.h>
#include <sys/types.h>

#include "magazine.h"
#include "remote_free.h"
#include "mematlas.h"

#define POOL_MAGIC 0x356c6f6f70656d6dull /* "mmepool5" */
#define POOL_LINE 64u
/* Part of the layout of shared pools, so not the page size. Each page size of Linux is a
 * multiple. */
#define POOL_ALIGNMENT_MAX 4096u
#define INDEX_BITS 24u
#define INDEX_MASK ((1ull << INDEX_BITS) - 1)
#define NO_OBJECT INDEX_MASK
/* Processes that use a shared pool at a time. The number of one stands in slot.owner, where it is
 * not mistaken for NO_HOLDER. */
#define HOLDERS_MAX 65534u
#define NO_HOLDER 65535u

/* Start of a pool's mapping, shared between the processes that map the pool. Slots, links of the
 * free list and objects follow, each at a multiple of POOL_LINE.
 *
 *   stride == object_size rounded up to alignment, and at least 2
 *   bump <= count < NO_OBJECT
 *   objects_offset + stride * count <= mapping_size */
struct pool_memory {
	uint64_t magic;
	uint64_t object_size; /* bytes, as requested */
	uint64_t stride;
	uint64_t alignment;
	uint64_t count;
	uint64_t mapping_size;
	uint64_t objects_offset;
	_Alignas(POOL_LINE) _Atomic uint64_t free_list; /* tag << 24 | number, NO_OBJECT if empty */
	_Alignas(POOL_LINE) _Atomic uint64_t bump; /* objects from here on were never allocated */
	_Alignas(
		POOL_LINE) _Atomic uint64_t allocs; /* these two count without thread caches only */
	_Alignas(POOL_LINE) _Atomic uint64_t frees;
	_Alignas(POOL_LINE) _Atomic uint64_t failed_allocs;
	_Atomic uint64_t reclaimed; /* objects of holders that died */
	_Atomic uint32_t next_holder;
};

_Static_assert(sizeof(struct pool_memory) == 6 * POOL_LINE, "layout of shared pools");
_Static_assert(offsetof(struct pool_memory, free_list) == POOL_LINE, "layout of shared pools");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4,
	       "layout of shared pools");

/* The living holders of a shared pool: the sum of their numbers, mixed, and how many have begun. */
struct pool_holders {
	uint64_t sum;
	uint64_t begun;
	uint64_t second; /* of the clock */
};

/* A pool has thread caches, or one free list if it is shared or small. Each object is in exactly
 * one place, which mematlas_pool_check() verifies:
 *
 *   never allocated + in use + free == count
 *
 *   never allocated == count - bump
 *   free            == objects in magazines + in the transfer cache + in flight in batches
 *                      + on the free list
 *
 * In a shared pool a process that is killed may leave a free object on no list. The search for
 * objects of dead holders finds it. */
struct mematlas_pool {
	char *objects;
	struct slot *slots;
	uint64_t object_size, stride, count;
	uint64_t reciprocal; /* 2^64 / stride, rounded up, see pool_slot_at() */
	uint32_t batch_size; /* objects moved between threads at a time, <= BATCH_SIZE */
	bool uses_free_list;
	_Atomic uint32_t *links; /* of the free list */
	struct pool_memory *memory;
	uint64_t mapping_size; /* of `memory`, which other processes can write */
	int holder_fd; /* of a shared pool, see pool_holder.c; -1: none */
	uint64_t holder_device, holder_inode; /* of its file; the program may reuse the number */
	void *holder_mapping; /* of the descriptor's file, which holds its locks; MAP_FAILED: none */
	pid_t holder_process; /* that has the mapping: no child does */
	uint32_t holder_locked; /* number that is locked for this process, or NO_HOLDER */
	_Atomic uint32_t holder; /* the same from the first alloc on; 0 before */
	struct pool_holders searched; /* when the last search for lost objects found none */
	pthread_mutex_t holder_lock;
	struct tcache_group group;
	_Alignas(TCACHE_LINE) _Atomic uint64_t
		transfer_cache; /* stack of batches of free objects */
};

struct pool_tcache {
	struct tcache base;
	struct magazine magazine;
	struct free_slot slots[2 * BATCH_SIZE]; /* of the magazine */
};

/* The number of the object that begins at an address. The result is exact there, because the error
 * of the reciprocal times the number is below 2^64. */
static inline uint64_t pool_object_number(const struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);

	return (uint64_t)((unsigned __int128)offset * pool->reciprocal >> 64);
}

/* The slot of the object that begins at an address, or NULL. The lower half of the product is the
 * remainder of the division, scaled: below the reciprocal only for remainder 0, as long as
 * count * stride^2 < 2^64, which holds for pools with thread caches. */
static inline struct slot *pool_slot_at(const struct mematlas_pool *pool, const void *object)
{
	uint64_t offset = (uint64_t)((const char *)object - pool->objects);
	unsigned __int128 product = (unsigned __int128)offset * pool->reciprocal;
	uint64_t number = (uint64_t)(product >> 64);

	return (uint64_t)product < pool->reciprocal && number < pool->count ? &pool->slots[number]
									    : NULL;
}

static inline void *pool_object_at(const struct mematlas_pool *pool, uint64_t number)
{
	return pool->objects + number * pool->stride;
}

static inline struct mematlas_pool *pool_of_group(struct tcache_group *group)
{
	return (void *)((char *)group - offsetof(struct mematlas_pool, group));
}

/* pool_uncached.c */
void *pool_uncached_alloc(struct mematlas_pool *pool);
int pool_uncached_free(struct mematlas_pool *pool, uint32_t number);

/* pool_free_list.c */
/* NO_OBJECT: the list is empty, or another process wrote a number beyond the pool. */
uint32_t pool_free_list_pop(struct mematlas_pool *pool);
/* Put a free object on the list, unless it is there. */
void pool_free_list_push(struct mematlas_pool *pool, uint32_t number);
/* Free an object if its owner word is still the given one. */
bool pool_free_list_release(struct mematlas_pool *pool, uint32_t number, uint32_t owner);

/* pool_holder.c, for shared pools */
/* With fd -1, as of a private pool, no process is known by its number. */
void pool_holder_open(struct mematlas_pool *pool, int fd);
void pool_holder_close(struct mematlas_pool *pool);
/* The number of this process, or NO_HOLDER. */
uint32_t pool_holder_claim(struct mematlas_pool *pool);
/* In a forked child: become a holder of its own. */
void pool_holder_leave(struct mematlas_pool *pool);
/* Free the objects of holders that died. Returns their number. */
uint64_t pool_holder_reclaim(struct mematlas_pool *pool);
/* Whether a search may find more than the last one that found nothing. *ret: the holders now. */
bool pool_holder_may_have_died(struct mematlas_pool *pool, struct pool_holders *ret);
/* A search found nothing. `before`: the holders when it began. */
void pool_holder_found_nothing(struct mematlas_pool *pool, const struct pool_holders *before);

/* pool_alloc.c */
void pool_tcache_init(struct tcache_group *group, struct tcache *tcache);
/* Move the magazine to the transfer cache and send the outgoing batches. */
void pool_tcache_flush(struct tcache_group *group, struct tcache *tcache);

/* pool_check.c */
void pool_rebuild(struct tcache_group *group);

#endif
