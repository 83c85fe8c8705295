/* The memory of NumPy's arrays.
 *
 * Arrays of `min_size` bytes and more are placed: each has a mapping of its own, described by a
 * table elsewhere. Smaller arrays belong to NumPy's default handler. The start of a mapping is
 * page-aligned, so freeing a small array rarely costs more than a comparison. A freed block goes to
 * a cache with its contents, because the temporary arrays of an expression would otherwise fault
 * their pages in each time. */
#ifndef MEMATLAS_ALLOC_ARRAYS_H
#define MEMATLAS_ALLOC_ARRAYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "mematlas.h"

#define ARRAYS_BUCKETS 256u
/* Every page size of Linux is a multiple, so a block's start is aligned to this at least. */
#define ARRAYS_ALIGNMENT 4096u

/* NumPy's PyDataMemAllocator and PyDataMem_Handler, version 1 (NEP 49). */
struct data_allocator {
	void *context;
	void *(*malloc)(void *context, size_t size);
	void *(*calloc)(void *context, size_t count, size_t size);
	void *(*realloc)(void *context, void *memory, size_t size);
	void (*free)(void *context, void *memory, size_t size);
};

struct data_handler {
	char name[127];
	uint8_t version;
	struct data_allocator allocator;
};

_Static_assert(offsetof(struct data_handler, allocator) == 128 &&
		       sizeof(struct data_allocator) == 5 * sizeof(void *),
	       "layout of numpy/ndarraytypes.h");

/* In use: in the bucket of its address, linked by `next`. Free: in the cache, linked both ways. */
struct array_block {
	char *start;
	uint64_t length; /* bytes, whole pages */
	bool hugetlb;
	bool absent; /* in a forked child, MADV_DONTFORK left the mapping out */
	struct array_block *next, *previous;
};

/*   stats.blocks == number of blocks in the buckets
 *   stats.bytes == sum of their lengths
 *   stats.cached_bytes == sum of the lengths in the cache <= config.cache_bytes */
struct mematlas_arrays {
	struct data_handler handler; /* first, because the capsule points to it */
	struct data_allocator default_allocator;
	struct mematlas_arrays_config config;
	pthread_mutex_t lock; /* guards config.cache_bytes and the rest */
	struct array_block *buckets[ARRAYS_BUCKETS];
	struct array_block cache; /* list head; least recently freed last */
	struct mematlas_arrays_stats stats;
	struct mematlas_arrays *next;
};

_Static_assert(offsetof(struct mematlas_arrays, handler) == 0, "the capsule points to the handler");

/* arrays_map.c */
/* Map a block. NULL: failed; the statistics hold the step and the errno. */
struct array_block *arrays_map(struct mematlas_arrays *arrays, uint64_t size);
/* A cached block of about `size` bytes, or NULL. Lock held, as in the functions below. */
struct array_block *arrays_cache_pop(struct mematlas_arrays *arrays, uint64_t size);
void arrays_cache_push(struct mematlas_arrays *arrays, struct array_block *block);
/* Unmap the least recently freed blocks until at most `bytes` are cached. */
void arrays_cache_shrink(struct mematlas_arrays *arrays, uint64_t bytes);

#endif
