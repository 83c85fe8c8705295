/* Inside of the memory of NumPy's arrays.
 *
 * Blocks of `min_size` and more are mappings of their own, page-aligned, described in a table aside; the
 * rest is the default handler's. An address that is not page-aligned is never one of ours, so small
 * arrays pay a comparison. A block that is given back is cached, dirty, for the next of about its size:
 * temporaries of an expression would otherwise fault their pages in each time. */
#ifndef MEMATLAS_MEMORY_ARRAYS_H
#define MEMATLAS_MEMORY_ARRAYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "mematlas.h"

#define ARRAYS_BUCKETS 256u

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

struct array_block {
	char *start;
	uint64_t length;
	bool hugetlb, absent; /* a forked child has no copy of such pages */
	struct array_block *next, *previous; /* in a bucket, by `next` only; or in the cache */
};

struct mematlas_arrays {
	struct data_handler handler; /* first: the capsule points to it */
	struct data_allocator small;
	struct mematlas_arrays_config rules;
	pthread_mutex_t lock; /* guards the rest */
	struct array_block *buckets[ARRAYS_BUCKETS]; /* blocks in use */
	struct array_block cache;                    /* list head; those given back last first */
	struct mematlas_arrays_stats stats;
	struct mematlas_arrays *next;
};

/* arrays_map.c. NULL: the error is in the statistics. */
struct array_block *arrays_map(struct mematlas_arrays *arrays, uint64_t size);
void arrays_unmap(struct array_block *block);
/* A cached block for so many bytes, or NULL. With the lock; so the rest. */
struct array_block *arrays_reuse(struct mematlas_arrays *arrays, uint64_t size);
void arrays_keep(struct mematlas_arrays *arrays, struct array_block *block);
void arrays_shrink_cache(struct mematlas_arrays *arrays, uint64_t bytes);

#endif
