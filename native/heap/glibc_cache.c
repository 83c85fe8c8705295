/* Chunks that thread caches and fast bins hold: free, though a walk sees them in use.
 * Since 2.34 each chunk of a cache has the same random word; before, lists are followed. */
#include <string.h>

#include "glibc.h"

#define FEWEST_KEY (1ULL << 48) /* no address, no small number */
#define LONGEST_LIST 65536U

/* struct tcache_perthread_struct: chunk size, bins, bytes of each count. */
static const struct shape {
	uint64_t size;
	uint32_t bins, count_bytes;
} shapes[] = {{0x290, 64, 2}, {0x300, 76, 2}, {0x250, 64, 1}};

struct votes {
	uint64_t key;
	uint32_t for_key, all;
};

static uint32_t find_block(const struct glibc *glibc, uint64_t address)
{
	return heap_find_added(glibc->heap, glibc->first_block, address);
}

static bool mark(struct glibc *glibc, uint32_t block, uint64_t *sum)
{
	struct heap_blocks *blocks = &glibc->heap->blocks;

	if (blocks->origin[block] == HEAP_DROPPED)
		return false;
	blocks->origin[block] = HEAP_DROPPED;
	*sum += blocks->size[block] + 8;
	return true;
}

/* Links are stored XOR their own address >> 12 since 2.32. */
static uint32_t follow(const struct glibc *glibc, uint64_t link_at, uint64_t behind, uint64_t *ret)
{
	uint64_t word;
	uint32_t block;

	if (!heap_word(&glibc->heap->image, link_at, &word))
		return HEAP_NONE;
	*ret = word ^ link_at >> 12;
	block = *ret ? find_block(glibc, *ret + behind) : HEAP_NONE;
	if (block == HEAP_NONE && *ret && word) {
		block = find_block(glibc, word + behind);
		if (block != HEAP_NONE)
			*ret = word;
	}
	return block;
}

static const uint8_t *entries_of(const struct glibc *glibc, uint32_t block,
				 const struct shape *shape)
{
	const struct heap_blocks *blocks = &glibc->heap->blocks;

	if (blocks->size[block] + 8 != shape->size)
		return NULL;
	return heap_at(&glibc->heap->image, blocks->address[block],
		       (size_t)shape->bins * (shape->count_bytes + 8ULL));
}

/* Each entry of a cache is a chunk of its bin's size. Bins behind the first 64 have many sizes. */
static bool is_cache(const struct glibc *glibc, const struct shape *shape, const uint8_t *bytes)
{
	uint32_t found = 0;

	for (uint32_t bin = 0; bin < shape->bins; bin++) {
		uint64_t entry;
		uint32_t block;

		memcpy(&entry, bytes + shape->bins * shape->count_bytes + bin * 8ULL, 8);
		if (!entry)
			continue;
		block = find_block(glibc, entry);
		if (block == HEAP_NONE || (bin < 64 && glibc->heap->blocks.size[block] + 8 !=
							       CHUNK_SMALLEST + bin * 16ULL))
			return false;
		found++;
	}
	return found > 0;
}

static void vote(const struct glibc *glibc, uint64_t entry, struct votes *votes)
{
	uint64_t key;

	if (!heap_word(&glibc->heap->image, entry + 8, &key))
		return;
	votes->all++;
	if (!votes->for_key && key >= FEWEST_KEY)
		votes->key = key;
	if (key == votes->key)
		votes->for_key++;
	else if (votes->for_key)
		votes->for_key--;
}

static void drop_list(struct glibc *glibc, uint64_t entry)
{
	uint32_t block = find_block(glibc, entry);

	for (uint32_t n = 0; n < LONGEST_LIST && block != HEAP_NONE; n++) {
		if (!mark(glibc, block, &glibc->sum->cached))
			return;
		block = follow(glibc, glibc->heap->blocks.address[block], 0, &entry);
	}
}

static void read_cache(struct glibc *glibc, const struct shape *shape, const uint8_t *bytes,
		       struct votes *votes)
{
	glibc->sum->thread_caches++;
	for (uint32_t bin = 0; bin < shape->bins; bin++) {
		uint64_t entry;

		memcpy(&entry, bytes + shape->bins * shape->count_bytes + bin * 8ULL, 8);
		if (!entry)
			continue;
		vote(glibc, entry, votes);
		drop_list(glibc, entry);
	}
}

static void drop_by_key(struct glibc *glibc, uint64_t key)
{
	const struct heap_blocks *blocks = &glibc->heap->blocks;
	uint64_t word;

	for (uint32_t i = glibc->first_block; i < blocks->count; i++)
		if (heap_word(&glibc->heap->image, blocks->address[i] + 8, &word) && word == key)
			mark(glibc, i, &glibc->sum->cached);
}

static void drop_fastbins(struct glibc *glibc, uint32_t arena)
{
	uint64_t state = glibc->arenas[arena].address, chunk;

	for (uint32_t bin = 0; bin < 10; bin++) {
		uint32_t block, n = 0;

		if (!heap_word(&glibc->heap->image, state + glibc->bins - 96 + bin * 8ULL,
			       &chunk) ||
		    !chunk)
			continue;
		block = find_block(glibc, chunk + CHUNK_HEADER);
		if (block == HEAP_NONE)
			heap_finding(glibc->heap, MEMATLAS_HEAP_TORN_FASTBIN, chunk, 0, arena);
		while (block != HEAP_NONE && n++ < glibc->heap->blocks.count) {
			uint64_t link = glibc->heap->blocks.address[block];

			if (!mark(glibc, block, &glibc->sum->fast))
				break;
			block = follow(glibc, link, CHUNK_HEADER, &chunk);
			if (block == HEAP_NONE && chunk)
				heap_finding(glibc->heap, MEMATLAS_HEAP_TORN_FASTBIN, link, 0,
					     arena);
		}
	}
}

void glibc_drop_cached(struct glibc *glibc)
{
	const struct heap_blocks *blocks = &glibc->heap->blocks;
	struct votes votes = {0};

	if (glibc->bins != STATE_WITHOUT_FASTBINS)
		for (uint32_t arena = 0; arena < glibc->arena_count; arena++)
			drop_fastbins(glibc, arena);
	for (uint32_t i = glibc->first_block; i < blocks->count; i++)
		for (size_t shape = 0; shape < sizeof shapes / sizeof *shapes; shape++) {
			const uint8_t *bytes = entries_of(glibc, i, &shapes[shape]);

			if (bytes && is_cache(glibc, &shapes[shape], bytes))
				read_cache(glibc, &shapes[shape], bytes, &votes);
		}
	/* Where old versions left the second word alone, no word has the majority. */
	if (votes.key && votes.for_key > votes.all / 2)
		drop_by_key(glibc, votes.key);
	heap_drop_blocks(glibc->heap, glibc->first_block);
}
