/* Mappings for arrays, as the rules say; and those kept for reuse. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "arrays.h"

#define SYSTEM_PAGE 4096ull
#define HUGE_PAGE (2ull << 20)
#define MAP_HUGE_2M (MAP_HUGETLB | 21 << 26) /* log2 of the page size, as mmap(2) wants it */

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

static void fail(struct mematlas_arrays *arrays, enum mematlas_arrays_step step, int error,
		 uint64_t size)
{
	pthread_mutex_lock(&arrays->lock);
	arrays->stats.failures++;
	arrays->stats.failed_step = step;
	arrays->stats.failed_errno = error;
	arrays->stats.failed_size = size;
	pthread_mutex_unlock(&arrays->lock);
}

static char *map_plain(uint64_t length, uint64_t alignment)
{
	uint64_t around = length + alignment - SYSTEM_PAGE;
	char *start =
		mmap(NULL, around, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	uint64_t before = -(uintptr_t)start & (alignment - 1), after = around - length - before;
	if (before)
		munmap(start, before);
	if (after)
		munmap(start + before + length, after);
	return start + before;
}

/* Populated at once: were the pool to run out later, the program would die. */
static char *map_hugetlb(struct mematlas_arrays *arrays, uint64_t length)
{
	char *start = mmap(NULL, length, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGE_2M, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	if (arrays->rules.mode >= 0)
		mematlas_bind((uintptr_t)start, length, arrays->rules.mode, arrays->rules.nodes,
			      sizeof arrays->rules.nodes * 8, 0);
	if (madvise(start, length, MADV_POPULATE_WRITE) == 0) {
		madvise(start, length, MADV_DONTFORK); /* a child that lacks a page dies, too */
		return start;
	}
	int error = errno;
	munmap(start, length);
	errno = error;
	return NULL;
}

static bool place(struct mematlas_arrays *arrays, char *start, uint64_t length)
{
	const struct mematlas_arrays_config *rules = &arrays->rules;
	uint64_t address = (uintptr_t)start;
	int error = 0;

	if (rules->mode >= 0)
		error = mematlas_bind(address, length, rules->mode, rules->nodes,
				      sizeof rules->nodes * 8, 0);
	if (error) {
		fail(arrays, MEMATLAS_ARRAYS_BIND, -error, length);
		return false;
	}
	if (rules->lock)
		error = mematlas_lock(address, length, rules->lock == 2 ? 1 : 0);
	if (error)
		fail(arrays, MEMATLAS_ARRAYS_LOCK, -error, length);
	return !error;
}

static void map_block(struct mematlas_arrays *arrays, uint64_t size, struct array_block *ret)
{
	if (arrays->rules.huge == MEMATLAS_ARRAYS_2M) {
		ret->length = round_up(size, HUGE_PAGE);
		ret->start = map_hugetlb(arrays, ret->length);
		ret->hugetlb = ret->start != NULL;
		if (!ret->start)
			fail(arrays, MEMATLAS_ARRAYS_HUGETLB, errno, ret->length);
	}
	if (ret->start)
		return;
	ret->length = round_up(size, SYSTEM_PAGE);
	bool huge = arrays->rules.huge != MEMATLAS_ARRAYS_PLAIN && ret->length >= HUGE_PAGE;
	ret->start = map_plain(ret->length, huge ? HUGE_PAGE : SYSTEM_PAGE);
	if (!ret->start)
		fail(arrays, MEMATLAS_ARRAYS_MAP, errno, ret->length);
	else if (huge && madvise(ret->start, ret->length, MADV_HUGEPAGE) != 0)
		fail(arrays, MEMATLAS_ARRAYS_THP, errno, ret->length);
}

struct array_block *arrays_map(struct mematlas_arrays *arrays, uint64_t size)
{
	struct array_block *block =
		size > PTRDIFF_MAX - 2 * HUGE_PAGE ? NULL : calloc(1, sizeof *block);

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

void arrays_unmap(struct array_block *block)
{
	munmap(block->start, block->length);
	free(block);
}

static void unlist(struct mematlas_arrays *arrays, struct array_block *block)
{
	block->previous->next = block->next;
	block->next->previous = block->previous;
	arrays->stats.cached_bytes -= block->length;
}

struct array_block *arrays_reuse(struct mematlas_arrays *arrays, uint64_t size)
{
	struct array_block *block = arrays->cache.next;

	for (; block != &arrays->cache; block = block->next)
		if (block->length >= size && block->length - size <= size / 8 + SYSTEM_PAGE) {
			unlist(arrays, block);
			return block;
		}
	return NULL;
}

void arrays_keep(struct mematlas_arrays *arrays, struct array_block *block)
{
	if (block->absent) {
		arrays_unmap(block);
		return;
	}
	block->next = arrays->cache.next;
	block->previous = &arrays->cache;
	block->next->previous = block->previous->next = block;
	arrays->stats.cached_bytes += block->length;
	arrays_shrink_cache(arrays, arrays->rules.cache_bytes);
}

void arrays_shrink_cache(struct mematlas_arrays *arrays, uint64_t bytes)
{
	while (arrays->stats.cached_bytes > bytes) {
		struct array_block *oldest = arrays->cache.previous;
		unlist(arrays, oldest);
		arrays_unmap(oldest);
	}
}
