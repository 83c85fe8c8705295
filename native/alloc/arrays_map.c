/* Mappings for arrays, and the cache of free ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "arrays.h"
#include "lock.h"
#include "page_size.h"

#define HUGETLB_SIZE (2ull << 20)
#define HUGETLB_FLAGS                                                                              \
	(MAP_HUGETLB | 21 << 26) /* 21 == log2(HUGETLB_SIZE), in the bits of MAP_HUGE_SHIFT */

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* Remembers the last failure for last_error(); the array may still be placed by the next step. */
static void fail(struct mematlas_arrays *arrays, enum mematlas_arrays_step step, int error,
		 uint64_t size)
{
	LOCK_SCOPE(&arrays->lock);
	arrays->stats.failures++;
	arrays->stats.failed_step = step;
	arrays->stats.failed_errno = error;
	arrays->stats.failed_size = size;
}

/* `alignment` is a multiple of the page size. */
static char *map_aligned(uint64_t bytes, uint64_t alignment)
{
	uint64_t length = bytes + alignment - page_size_base();
	char *start =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	uint64_t before = -(uintptr_t)start & (alignment - 1), after = length - bytes - before;
	if (before)
		munmap(start, before);
	if (after)
		munmap(start + before + bytes, after);
	return start + before;
}

/* Populated at once, because a fault that finds the hugetlb pool empty kills the program with
 * SIGBUS. */
static char *map_hugetlb(struct mematlas_arrays *arrays, uint64_t length)
{
	char *start = mmap(NULL, length, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | HUGETLB_FLAGS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	if (arrays->config.mode >= 0)
		mematlas_bind((uintptr_t)start, length, arrays->config.mode, arrays->config.nodes,
			      sizeof arrays->config.nodes * 8, 0);
	if (madvise(start, length, MADV_POPULATE_WRITE) == 0) {
		/* A copy-on-write fault in a child would meet the same empty pool. */
		madvise(start, length, MADV_DONTFORK);
		return start;
	}
	int error = errno;
	munmap(start, length);
	errno = error;
	return NULL;
}

/* Before the first touch, since policy and lock act on pages as they are allocated. False:
 * refused, and the caller unmaps. */
static bool place(struct mematlas_arrays *arrays, char *start, uint64_t length)
{
	const struct mematlas_arrays_config *config = &arrays->config;
	uint64_t address = (uintptr_t)start;
	int error = 0;

	if (config->mode >= 0)
		error = mematlas_bind(address, length, config->mode, config->nodes,
				      sizeof config->nodes * 8, 0);
	if (error) {
		fail(arrays, MEMATLAS_ARRAYS_BIND, -error, length);
		return false;
	}
	if (config->lock)
		error = mematlas_lock(address, length, config->lock == 2 ? 1 : 0);
	if (error)
		fail(arrays, MEMATLAS_ARRAYS_LOCK, -error, length);
	return !error;
}

/* Sets start, length and hugetlb; start NULL: no memory. Hugetlb falls back to THP, and arrays
 * smaller than a huge page get no advice. */
static void map_block(struct mematlas_arrays *arrays, uint64_t size, struct array_block *ret)
{
	if (arrays->config.huge == MEMATLAS_ARRAYS_2M) {
		ret->length = round_up(size, HUGETLB_SIZE);
		ret->start = map_hugetlb(arrays, ret->length);
		ret->hugetlb = ret->start != NULL;
		if (!ret->start)
			fail(arrays, MEMATLAS_ARRAYS_HUGETLB, errno, ret->length);
	}
	if (ret->start)
		return;
	uint64_t base_page = page_size_base(), huge_page = page_size_pmd();
	ret->length = round_up(size, base_page);
	bool huge = arrays->config.huge != MEMATLAS_ARRAYS_PLAIN && ret->length >= huge_page;
	ret->start = map_aligned(ret->length, huge ? huge_page : base_page);
	if (!ret->start)
		fail(arrays, MEMATLAS_ARRAYS_MAP, errno, ret->length);
	else if (huge && madvise(ret->start, ret->length, MADV_HUGEPAGE) != 0)
		fail(arrays, MEMATLAS_ARRAYS_THP, errno, ret->length);
}

struct array_block *arrays_map(struct mematlas_arrays *arrays, uint64_t size)
{
	struct array_block *block = size > PTRDIFF_MAX - HUGETLB_SIZE - 2 * page_size_pmd()
					    ? NULL
					    : calloc(1, sizeof *block);

	if (!block) {
		fail(arrays, MEMATLAS_ARRAYS_MAP, ENOMEM, size);
		return NULL;
	}
	map_block(arrays, size, block);
	if (block->start && !place(arrays, block->start, block->length)) {
		munmap(block->start, block->length);
		block->start = NULL;
	}
	if (!block->start) {
		free(block);
		return NULL;
	}
	return block;
}

static void unmap_block(struct array_block *block)
{
	munmap(block->start, block->length);
	free(block);
}

/* Lock held, as in the functions below. */
static void cache_remove(struct mematlas_arrays *arrays, struct array_block *block)
{
	block->previous->next = block->next;
	block->next->previous = block->previous;
	arrays->stats.cached_bytes -= block->length;
}

/* The newest block that is at most an eighth and a page too long: newer ones are more likely to
 * be in the CPU's caches. */
struct array_block *arrays_cache_pop(struct mematlas_arrays *arrays, uint64_t size)
{
	uint64_t most = size + size / 8 + page_size_base();
	struct array_block *block = arrays->cache.next;

	for (; block != &arrays->cache; block = block->next)
		if (block->length >= size && block->length <= most) {
			cache_remove(arrays, block);
			return block;
		}
	return NULL;
}

void arrays_cache_push(struct mematlas_arrays *arrays, struct array_block *block)
{
	if (block->absent) {
		unmap_block(block);
		return;
	}
	block->next = arrays->cache.next;
	block->previous = &arrays->cache;
	block->next->previous = block->previous->next = block;
	arrays->stats.cached_bytes += block->length;
	arrays_cache_shrink(arrays, arrays->config.cache_bytes);
}

/* The oldest blocks go first. */
void arrays_cache_shrink(struct mematlas_arrays *arrays, uint64_t bytes)
{
	while (arrays->stats.cached_bytes > bytes) {
		struct array_block *oldest = arrays->cache.previous;
		cache_remove(arrays, oldest);
		unmap_block(oldest);
	}
}
