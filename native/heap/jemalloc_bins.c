/* What jemalloc itself counts: each arena has an array of bins, with the regions that are handed out. A bin
 * is found by its current slab; others of its arena lie at equal distances. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"
#include "jemalloc.h"

#define LEAST_STRIDE 128U
#define MOST_STRIDE 1024U
/* From the current slab to its counts: before it from 5.3 on, behind the lists of slabs before. */
#define COUNTS_BEFORE (-80LL)
#define COUNTS_BEHIND 24LL
#define COUNT_WORDS                                                                                \
	9U /* nmalloc ndalloc nrequests curregs nfills nflushes nslabs reslabs curslabs */

/* in_use == allocated - freed */
struct bin {
	uint64_t address; /* of the pointer to its current slab */
	uint32_t size_class;
};

struct bins {
	struct bin *items;
	uint32_t count, capacity;
};

static int by_word(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static bool read_counts(const struct jemalloc *jemalloc, uint64_t bin, uint64_t *in_use)
{
	int64_t offset = jemalloc->layout->state_bits == 3 ? COUNTS_BEFORE : COUNTS_BEHIND;
	const void *at = heap_at(&jemalloc->heap->image, bin + (uint64_t)offset, COUNT_WORDS * 8);
	uint64_t words[COUNT_WORDS];

	if (!at)
		return false;
	memcpy(words, at, sizeof words);
	*in_use = words[3];
	return words[0] - words[1] == words[3] && words[0] >= words[1] && words[8] <= words[6];
}

static int find_in_block(struct jemalloc *jemalloc, const struct heap_span *block,
			 struct bins *bins)
{
	const uint8_t *bytes =
		heap_at(&jemalloc->heap->image, block->start, block->end - block->start);
	struct jemalloc_extent extent;
	uint64_t word, in_use;

	for (uint64_t at = 0; bytes && at + 8 <= block->end - block->start; at += 8) {
		memcpy(&word, bytes + at, sizeof word);
		if (!word || word % 64 ||
		    !bsearch(&word, jemalloc->slabs, jemalloc->slab_count, sizeof word, by_word) ||
		    !read_counts(jemalloc, block->start + at, &in_use) || !in_use)
			continue;
		if (!ARRAY_RESERVE(bins->items, bins->count, bins->capacity, 64))
			return -ENOMEM;
		jemalloc_extent_at(jemalloc, jemalloc->layout, word, &extent);
		bins->items[bins->count++] =
			(struct bin){.address = block->start + at, .size_class = extent.size_class};
	}
	return 0;
}

/* The distance of bins, on which most neighbours agree; 0: none. */
static uint64_t find_stride(const struct bins *bins)
{
	uint32_t votes[MOST_STRIDE / 8] = {0}, best = 0;

	for (uint32_t i = 1; i < bins->count; i++) {
		const struct bin *left = &bins->items[i - 1], *right = &bins->items[i];
		uint32_t apart = right->size_class - left->size_class;
		uint64_t bytes = right->address - left->address;

		if (right->size_class <= left->size_class || bytes % apart || bytes / apart % 8 ||
		    bytes / apart < LEAST_STRIDE || bytes / apart >= MOST_STRIDE)
			continue;
		if (++votes[bytes / apart / 8] > votes[best])
			best = (uint32_t)(bytes / apart / 8);
	}
	return votes[best] ? best * 8ULL : 0;
}

static int by_address(const void *a, const void *b)
{
	const struct bin *left = a, *right = b;

	return left->address < right->address ? -1 : left->address > right->address;
}

/* Sums up the bins of each arena that has a bin in `bins`; the arena begins where class 0 would be. */
static bool sum_up(struct jemalloc *jemalloc, struct bins *bins, uint64_t stride)
{
	uint64_t told[JEMALLOC_MOST_BINS] = {0};
	uint64_t last = 0;

	for (uint32_t i = 0; i < bins->count; i++)
		bins->items[i].address -= bins->items[i].size_class * stride;
	qsort(bins->items, bins->count, sizeof *bins->items, by_address);
	for (uint32_t i = 0; i < bins->count; i++) {
		uint64_t first = bins->items[i].address, in_use;

		if (first == last)
			continue;
		last = first;
		for (uint32_t bin = 0; bin < jemalloc->bin_count; bin++) {
			if (!read_counts(jemalloc, first + bin * stride, &in_use))
				return false;
			told[bin] += in_use;
		}
	}
	for (uint32_t bin = 0; bin < jemalloc->bin_count; bin++) {
		jemalloc->sum->told += told[bin];
		jemalloc->sum->counted += jemalloc->in_use[bin];
	}
	return true;
}

int jemalloc_read_counts(struct jemalloc *jemalloc)
{
	struct bins bins = {0};
	uint64_t stride;
	int error = 0;

	if (jemalloc->slab_count)
		qsort(jemalloc->slabs, jemalloc->slab_count, sizeof *jemalloc->slabs, by_word);
	for (uint32_t i = 0; i < jemalloc->base_count && !error; i++)
		error = find_in_block(jemalloc, &jemalloc->base[i], &bins);
	stride = error ? 0 : find_stride(&bins);
	if (!stride || !sum_up(jemalloc, &bins, stride))
		jemalloc->sum->untold++;
	free(bins.items);
	return error;
}
