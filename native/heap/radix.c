/* A leaf leads to what describes pages, which tells their address and so which entry of the root the leaf
 * is: no symbol is asked. */
#include "radix.h"

#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"

#define MOST_PROBED (1ULL << 28) /* words of leaves that were no leaves, of a whole image */

struct search {
	struct heap *heap;
	const struct heap_radix_kind *kind;
	struct heap_radix *radix;
	uint64_t left; /* words yet to be probed */
};

/* Which entry of the root a leaf is, by the first entries that tell. */
static uint64_t place_of_leaf(struct search *search, const uint8_t *leaf)
{
	const struct heap_radix_kind *kind = search->kind;
	uint32_t probes = 0;

	for (uint64_t i = 0; i < kind->leaf_words && search->left && probes < kind->probes;
	     i++, search->left--) {
		uint64_t word, place;

		memcpy(&word, leaf + i * 8, sizeof word);
		if (!word)
			continue;
		probes++;
		place = kind->place(&search->heap->image, word, i);
		if (place != HEAP_LOOK_ON)
			return place;
	}
	return HEAP_NO_LEAF;
}

/* Leaves of one map do not overlap: else a made-up map could name the same words without end. */
static bool are_disjoint(const struct search *search)
{
	const struct heap_radix *radix = search->radix;
	CLEANUP_FREE struct heap_span *spans = malloc((radix->leaf_count + 1ULL) * sizeof *spans);

	if (!spans)
		return false;
	for (uint32_t i = 0; i < radix->leaf_count; i++)
		spans[i] =
			(struct heap_span){radix->leaves[i].address,
					   radix->leaves[i].address + search->kind->leaf_words * 8};
	return heap_spans_are_disjoint(spans, radix->leaf_count);
}

/* Lists the leaves of a root. Returns how many entries lead to no memory of the size of a leaf. */
static uint32_t list_leaves(const struct search *search, const uint8_t *root)
{
	const struct heap_radix_kind *kind = search->kind;
	struct heap_radix *radix = search->radix;
	uint32_t torn = 0;

	radix->leaf_count = 0;
	for (uint64_t i = 0; i < kind->root_words; i++) {
		uint64_t leaf;

		memcpy(&leaf, root + i * 8, sizeof leaf);
		if (!leaf)
			continue;
		if (leaf % kind->alignment ||
		    !heap_at(&search->heap->image, leaf, kind->leaf_words * 8) ||
		    !ARRAY_RESERVE(radix->leaves, radix->leaf_count, radix->leaf_capacity, 16)) {
			torn++;
			continue;
		}
		radix->leaves[radix->leaf_count].address = leaf;
		radix->leaves[radix->leaf_count++].describes = i * kind->leaf_words
							       << kind->page_shift;
	}
	return torn;
}

/* Single entries of a root may be damaged. */
static bool read_root(const struct search *search, uint64_t root)
{
	const uint8_t *bytes = heap_at(&search->heap->image, root, search->kind->root_words * 8);
	struct heap_radix *radix = search->radix;
	uint32_t torn = bytes ? list_leaves(search, bytes) : 0;

	if (!bytes || !radix->leaf_count || torn > radix->leaf_count || !are_disjoint(search))
		return false;
	radix->root = root;
	if (torn)
		heap_finding(search->heap, MEMATLAS_HEAP_TORN_EXTENT, root, 0,
			     search->kind->origin);
	return true;
}

static bool scan_range(struct search *search, const struct mematlas_heap_range *range)
{
	const struct heap_radix_kind *kind = search->kind;
	uint64_t *offset = &search->radix->offset;

	for (; search->left && range->size >= 8 && *offset <= range->size - 8; *offset += 8) {
		const uint8_t *leaf;
		uint64_t word, place;

		memcpy(&word, range->bytes + *offset, sizeof word);
		if (!word || word % kind->alignment)
			continue;
		leaf = heap_at(&search->heap->image, word, kind->leaf_words * 8);
		place = leaf ? place_of_leaf(search, leaf) : HEAP_NO_LEAF;
		if (place >= kind->root_words || place * 8 > *offset ||
		    !read_root(search, range->start + *offset - place * 8))
			continue;
		*offset += (kind->root_words - place) * 8; /* the next copy comes behind this one */
		return true;
	}
	return false;
}

bool heap_radix_find(struct heap *heap, const struct heap_radix_kind *kind,
		     struct heap_radix *radix)
{
	const struct heap_image *image = &heap->image;
	struct search search = {.heap = heap, .kind = kind, .radix = radix, .left = MOST_PROBED};

	for (; radix->range < image->count; radix->range++, radix->offset = 0)
		if (image->ranges[radix->range].kind == MEMATLAS_HEAP_DATA &&
		    image->ranges[radix->range].size >= kind->root_words * 8 &&
		    scan_range(&search, &image->ranges[radix->range]))
			return true;
	return false;
}
