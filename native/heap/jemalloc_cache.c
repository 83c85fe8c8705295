/* Thread caches of jemalloc. Each is an array of bins whose stacks lie one behind the other in one block:
 * the end of one bin's stack is the start of the next one's. No chance makes eight such bins in a row. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"
#include "jemalloc.h"

#define BIN_WORDS 3U /* struct cache_bin_s */
#define MOST_CACHE_BINS 80U
#define LEAST_CHAIN 8U
#define MARK 0x7A7A7A7A7A7A7A7AULL /* before the first stack, from 5.3 on */
#define OLD_LEAST 20U /* blocks that a bin may cache, before 5.3 */
#define OLD_MOST 200U
#define OLD_APART 1024U /* words between the bins of small blocks and those of large ones */
#define MOST_CACHES 65536U /* each thread has one or two */

/* start <= head <= end: [head, end) holds cached blocks */
struct stack {
	uint64_t start, head, end;
};

/* Head, requests, then the low 16 bits of: the low water mark, the full and the empty position. */
static bool read_stack(const uint64_t *words, const struct stack *before, struct stack *ret)
{
	uint16_t full = (uint16_t)(words[2] >> 16), empty = (uint16_t)(words[2] >> 32);
	uint64_t head = words[0];
	uint16_t used = (uint16_t)(empty - (uint16_t)head), room = (uint16_t)(empty - full);

	*ret = (struct stack){.start = head + used - room, .head = head, .end = head + used};
	return head && head % 8 == 0 && room && room % 8 == 0 && used % 8 == 0 && used <= room &&
	       (!before || before->end == ret->start);
}

/* Before 5.3: low water mark and number of cached blocks, requests, the end of the stack. `most` blocks are
 * cached at most. */
static bool read_old_stack(const uint64_t *words, uint32_t most, const struct stack *before,
			   struct stack *ret)
{
	uint64_t cached = words[0] >> 32, end = words[2];
	int32_t low = (int32_t)words[0];

	*ret = (struct stack){.start = end - most * 8ULL, .head = end - cached * 8, .end = end};
	return end && end % 8 == 0 && cached <= most && low >= -1 && low <= (int64_t)cached &&
	       (!before || ret->start == before->end);
}

/* tcache_boot() before 5.3 */
static uint32_t most_cached(const struct jemalloc *jemalloc, uint32_t size_class)
{
	uint32_t twice;

	if (size_class >= jemalloc->bin_count)
		return OLD_LEAST;
	twice = jemalloc->bins[size_class].regions * 2;
	return twice < OLD_LEAST ? OLD_LEAST : twice > OLD_MOST ? OLD_MOST : twice;
}

struct cached {
	struct jemalloc *jemalloc;
	uint64_t left; /* cached blocks yet to be looked at */
	struct heap_span *stacks;
	uint32_t stack_count, stack_capacity;
	uint32_t caches;
};

static uint32_t find_block(const struct jemalloc *jemalloc, uint64_t address)
{
	return heap_find_added(jemalloc->heap, jemalloc->first_block, address);
}

/* Bins of a cache from the `count` words on; 0: too few for a cache. */
static uint32_t read_chain(const uint64_t *words, uint64_t count, struct stack *stacks)
{
	uint32_t found = 0;

	while (found < MOST_CACHE_BINS && count >= BIN_WORDS &&
	       read_stack(words, found ? &stacks[found - 1] : NULL, &stacks[found])) {
		found++;
		words += BIN_WORDS;
		count -= BIN_WORDS;
	}
	return found >= LEAST_CHAIN ? found : 0;
}

/* Do the cached blocks of the bins of small blocks have their sizes? */
static bool are_cached(const struct cached *cached, const struct stack *stacks, uint32_t count)
{
	const struct jemalloc *jemalloc = cached->jemalloc;
	uint32_t wrong = 0, right = 0;

	for (uint32_t i = 0; i < count && i < jemalloc->bin_count; i++) {
		uint64_t address;
		uint32_t block;

		if (stacks[i].head == stacks[i].end ||
		    !heap_word(&jemalloc->heap->image, stacks[i].head, &address))
			continue;
		block = find_block(jemalloc, address);
		if (block != HEAP_NONE &&
		    jemalloc->heap->blocks.size[block] == jemalloc->classes[i])
			right++;
		else
			wrong++;
	}
	return wrong <= right / 8;
}

static void drop_stack(struct cached *cached, const struct stack *stack)
{
	struct heap *heap = cached->jemalloc->heap;

	for (uint64_t at = stack->head; at < stack->end && cached->left; at += 8, cached->left--) {
		uint64_t address = 0;
		uint32_t block;

		heap_word(&heap->image, at, &address);
		block = find_block(cached->jemalloc, address);
		if (block == HEAP_NONE) {
			heap_finding(heap, MEMATLAS_HEAP_TORN_CACHE, at, address,
				     MEMATLAS_HEAP_JEMALLOC);
			continue;
		}
		if (heap->blocks.origin[block] != HEAP_DROPPED) {
			cached->jemalloc->sum->cached_blocks++;
			cached->jemalloc->sum->cached += heap->blocks.size[block];
		}
		heap->blocks.origin[block] = HEAP_DROPPED;
	}
}

/* Stacks of a thread that ended may stand where other blocks are now. */
static bool are_stacks(const struct cached *cached, const struct stack *stacks, uint32_t count)
{
	uint64_t word;

	return are_cached(cached, stacks, count) &&
	       heap_word(&cached->jemalloc->heap->image, stacks[0].start - 8, &word) &&
	       word == MARK;
}

/* The block with the stacks of a cache is the allocator's own. */
static int add_stacks(struct cached *cached, uint64_t start, uint64_t end)
{
	uint32_t block = find_block(cached->jemalloc, start - 8);

	if (block == HEAP_NONE)
		block = find_block(cached->jemalloc, start); /* before 5.3 */
	if (block != HEAP_NONE && cached->jemalloc->heap->blocks.origin[block] != HEAP_DROPPED) {
		cached->jemalloc->heap->blocks.origin[block] = HEAP_DROPPED;
		cached->jemalloc->sum->own_blocks++;
	}
	if (cached->stack_count == MOST_CACHES)
		return 0;
	if (!ARRAY_RESERVE(cached->stacks, cached->stack_count, cached->stack_capacity, 16))
		return -ENOMEM;
	cached->stacks[cached->stack_count++] = (struct heap_span){start, end};
	return 0;
}

static int add_cache(struct cached *cached, const struct stack *stacks, uint32_t count)
{
	cached->caches++;
	for (uint32_t bin = 0; bin < count; bin++)
		drop_stack(cached, &stacks[bin]);
	return add_stacks(cached, stacks[0].start, stacks[count - 1].end);
}

/* The words of a range as an array; they may lie at any address in this process. */
struct words {
	const uint8_t *bytes;
	uint64_t count;
};

static uint64_t copy_words(const struct words *words, uint64_t at, uint64_t most, uint64_t *ret)
{
	uint64_t count = words->count - at < most ? words->count - at : most;

	memcpy(ret, words->bytes + at * 8, count * 8);
	return count;
}

static int scan_words(struct cached *cached, const struct words *words)
{
	uint64_t copy[MOST_CACHE_BINS * BIN_WORDS];
	struct stack stacks[MOST_CACHE_BINS], pair[2];
	int error = 0;

	for (uint64_t i = 0; i + LEAST_CHAIN * BIN_WORDS <= words->count && !error; i++) {
		uint32_t found;

		copy_words(words, i, 2 * BIN_WORDS, copy);
		if (!read_stack(copy, NULL, &pair[0]) ||
		    !read_stack(copy + BIN_WORDS, &pair[0], &pair[1]))
			continue;
		found = read_chain(copy, copy_words(words, i, MOST_CACHE_BINS * BIN_WORDS, copy),
				   stacks);
		if (!found || !are_stacks(cached, stacks, found))
			continue;
		error = add_cache(cached, stacks, found);
		i += found * BIN_WORDS - 1;
	}
	return error;
}

/* Bins of small blocks at a word: each stack has the size that jemalloc computes for its class. */
static bool read_old_bins(const struct cached *cached, const struct words *words, uint64_t at,
			  struct stack *stacks)
{
	const struct jemalloc *jemalloc = cached->jemalloc;
	uint64_t copy[BIN_WORDS];

	for (uint32_t i = 0; i < jemalloc->bin_count; i++) {
		if (copy_words(words, at + i * BIN_WORDS, BIN_WORDS, copy) < BIN_WORDS ||
		    !read_old_stack(copy, most_cached(jemalloc, i), i ? &stacks[i - 1] : NULL,
				    &stacks[i]))
			return false;
	}
	return true;
}

/* Behind them, and some other fields, stand those of large blocks, whose stacks go on. */
static uint32_t read_old_large(const struct words *words, uint64_t at, struct stack *stacks,
			       uint32_t count)
{
	uint64_t copy[BIN_WORDS], end = at + OLD_APART;

	while (at < end && count < MOST_CACHE_BINS && at + BIN_WORDS <= words->count) {
		copy_words(words, at, BIN_WORDS, copy);
		if (read_old_stack(copy, OLD_LEAST, &stacks[count - 1], &stacks[count])) {
			count++;
			at += BIN_WORDS;
			end = at + 1;
		} else {
			at++;
		}
	}
	return count;
}

static int scan_old_words(struct cached *cached, const struct words *words)
{
	uint32_t bins = cached->jemalloc->bin_count;
	struct stack stacks[MOST_CACHE_BINS];
	int error = 0;

	for (uint64_t i = 0; i + (uint64_t)bins * BIN_WORDS <= words->count && !error; i++)
		if (read_old_bins(cached, words, i, stacks) && are_cached(cached, stacks, bins)) {
			i += (uint64_t)bins * BIN_WORDS - 1;
			error = add_cache(cached, stacks,
					  read_old_large(words, i + 1, stacks, bins));
		}
	return error;
}

/* From 5.3 on, the block with the stacks of a cache begins with a mark: a cache that was not found is
 * seen by its stacks. */
static void find_missing(struct cached *cached)
{
	struct jemalloc *jemalloc = cached->jemalloc;
	const struct heap_blocks *blocks = &jemalloc->heap->blocks;

	for (uint32_t i = jemalloc->first_block; i < blocks->count; i++) {
		uint64_t word;

		if (blocks->origin[i] == HEAP_DROPPED || blocks->size[i] < JEMALLOC_PAGE ||
		    blocks->address[i] % 64 ||
		    !heap_word(&jemalloc->heap->image, blocks->address[i], &word) || word != MARK)
			continue;
		jemalloc->sum->missing_caches++;
		heap_finding(jemalloc->heap, MEMATLAS_HEAP_MISSING_CACHE, blocks->address[i], 0,
			     MEMATLAS_HEAP_JEMALLOC);
	}
}

static bool is_writable(const struct mematlas_heap_range *range)
{
	return range->kind != MEMATLAS_HEAP_CODE && range->kind != MEMATLAS_HEAP_REGISTERS &&
	       range->size > 8;
}

static int find_caches(struct cached *cached, bool old)
{
	const struct heap_image *image = &cached->jemalloc->heap->image;
	int error = 0;

	for (size_t i = 0; i < image->count && !error; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];
		uint64_t shift = -range->start % 8;
		struct words words = {range->bytes + shift, (range->size - shift) / 8};

		if (is_writable(range))
			error = old ? scan_old_words(cached, &words) : scan_words(cached, &words);
	}
	return error;
}

int jemalloc_drop_cached(struct jemalloc *jemalloc)
{
	struct heap *heap = jemalloc->heap;
	bool old = jemalloc->layout->state_bits == 2;
	struct cached cached = {.jemalloc = jemalloc,
				.left = 4ULL * (heap->blocks.count - jemalloc->first_block) + 4096};
	int error = find_caches(&cached, old);

	jemalloc->sum->caches += cached.caches;
	if (!error && !old)
		find_missing(&cached);
	/* The main thread has one, unless the program runs without caches. */
	if (!error && old && !cached.caches) {
		jemalloc->sum->missing_caches++;
		heap_finding(heap, MEMATLAS_HEAP_MISSING_CACHE, jemalloc->tree.root, 0,
			     MEMATLAS_HEAP_JEMALLOC);
	}
	for (uint32_t i = 0; i < cached.stack_count && !error; i++)
		if (!heap_in_area(heap, cached.stacks[i].start, MEMATLAS_HEAP_AREA_ALLOCATOR))
			error = heap_add_area(heap, cached.stacks[i].start, cached.stacks[i].end,
					      MEMATLAS_HEAP_AREA_ALLOCATOR);
	heap_drop_blocks(heap, jemalloc->first_block);
	free(cached.stacks);
	return error;
}
