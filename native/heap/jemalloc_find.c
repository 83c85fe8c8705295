/* The radix tree of jemalloc and its size classes. A leaf leads to the description of an extent, which
 * tells the extent's address and so which entry of the root the leaf is: no symbol is asked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"
#include "jemalloc.h"

#define MOST_PROBED (1ULL << 28) /* words of leaves that were no leaves, of a whole image */
#define PROBES 64U /* entries of one leaf */
#define BIN_STRIDE 40U /* struct bin_info_s */
#define LEAST_BINS 20U
#define GROUP 4U /* size classes to a power of two */
#define LARGEST (7ULL << 60)

static const struct jemalloc_layout layouts[] = {
	{.state_shift = 17, .state_bits = 3, .class_shift = 20, .free_shift = 28}, /* 5.3 */
	{.state_shift = 16, .state_bits = 2, .class_shift = 18, .free_shift = 26}, /* 5.1, 5.2 */
	{.state_shift = 15, .state_bits = 2, .class_shift = 17, .free_shift = 25}, /* 5.0 */
};

static uint64_t word_at(const struct jemalloc *jemalloc, uint64_t address)
{
	uint64_t word = 0;

	heap_word(&jemalloc->heap->image, address, &word);
	return word;
}

/* Which entry of the root a leaf is, by the first extents it leads to; JEMALLOC_NODE: it is no leaf. */
static uint64_t place_of_leaf(const struct jemalloc *jemalloc, const uint8_t *leaf, uint64_t *left)
{
	const struct heap_image *image = &jemalloc->heap->image;
	uint32_t probes = 0;

	for (uint64_t i = 0; i < JEMALLOC_NODE && *left && probes < PROBES; i++, --*left) {
		uint64_t bits, edata, address;

		memcpy(&bits, leaf + i * 8, sizeof bits);
		if (!bits)
			continue;
		probes++;
		edata = (uint64_t)((int64_t)(bits << 16) >> 16) & ~(JEMALLOC_ALIGN - 1);
		if (!heap_word(image, edata + 8, &address))
			return JEMALLOC_NODE;
		if (((address >> 12) & (JEMALLOC_NODE - 1)) == i && address >> 48 == 0)
			return address >> 30;
	}
	return JEMALLOC_NODE;
}

/* Leaves of one tree do not overlap: else a made-up tree could name the same words without end. */
static bool are_disjoint(const struct jemalloc *jemalloc)
{
	CLEANUP_FREE struct heap_span *spans =
		malloc((jemalloc->leaf_count + 1ULL) * sizeof *spans);

	if (!spans)
		return false;
	for (uint32_t i = 0; i < jemalloc->leaf_count; i++)
		spans[i] = (struct heap_span){jemalloc->leaves[i].address,
					      jemalloc->leaves[i].address + JEMALLOC_NODE_BYTES};
	return heap_spans_are_disjoint(spans, jemalloc->leaf_count);
}

/* Lists the leaves of a root. Returns how many entries lead to no memory of the size of a leaf. */
static uint32_t list_leaves(struct jemalloc *jemalloc, const uint8_t *root)
{
	uint32_t torn = 0;

	jemalloc->leaf_count = 0;
	for (uint64_t i = 0; i < JEMALLOC_NODE; i++) {
		uint64_t leaf;

		memcpy(&leaf, root + i * 8, sizeof leaf);
		if (!leaf)
			continue;
		if (leaf % 64 || !heap_at(&jemalloc->heap->image, leaf, JEMALLOC_NODE_BYTES) ||
		    !ARRAY_RESERVE(jemalloc->leaves, jemalloc->leaf_count, jemalloc->leaf_capacity,
				   16)) {
			torn++;
			continue;
		}
		jemalloc->leaves[jemalloc->leaf_count].address = leaf;
		jemalloc->leaves[jemalloc->leaf_count++].describes = i << 30;
	}
	return torn;
}

/* Single entries of a root may be damaged. */
static bool read_root(struct jemalloc *jemalloc, uint64_t root)
{
	const uint8_t *bytes = heap_at(&jemalloc->heap->image, root, JEMALLOC_NODE_BYTES);
	uint32_t torn = bytes ? list_leaves(jemalloc, bytes) : 0;

	if (!bytes || !jemalloc->leaf_count || torn > jemalloc->leaf_count ||
	    !are_disjoint(jemalloc))
		return false;
	jemalloc->root = root;
	if (torn)
		heap_finding(jemalloc->heap, MEMATLAS_HEAP_TORN_EXTENT, root, 0,
			     MEMATLAS_HEAP_JEMALLOC);
	return true;
}

static bool scan_range(struct jemalloc *jemalloc, const struct mematlas_heap_range *range,
		       uint64_t *offset, uint64_t *left)
{
	for (; *left && range->size >= 8 && *offset <= range->size - 8; *offset += 8) {
		const uint8_t *leaf;
		uint64_t word, place;

		memcpy(&word, range->bytes + *offset, sizeof word);
		if (!word || word % 64)
			continue;
		leaf = heap_at(&jemalloc->heap->image, word, JEMALLOC_NODE_BYTES);
		place = leaf ? place_of_leaf(jemalloc, leaf, left) : JEMALLOC_NODE;
		if (place >= JEMALLOC_NODE || place * 8 > *offset ||
		    !read_root(jemalloc, range->start + *offset - place * 8))
			continue;
		*offset +=
			JEMALLOC_NODE_BYTES - place * 8; /* the next copy comes behind this one */
		return true;
	}
	return false;
}

bool jemalloc_find(struct jemalloc *jemalloc, size_t *range, uint64_t *offset)
{
	const struct heap_image *image = &jemalloc->heap->image;
	uint64_t left = MOST_PROBED;

	for (; *range < image->count; ++*range, *offset = 0)
		if (image->ranges[*range].kind == MEMATLAS_HEAP_DATA &&
		    image->ranges[*range].size >= JEMALLOC_NODE_BYTES &&
		    scan_range(jemalloc, &image->ranges[*range], offset, &left))
			return true;
	return false;
}

/* reg_size, slab_size, nregs and n_shards, bits and words of the bitmap: false where they disagree. */
static bool read_bin(const uint8_t *at, struct jemalloc_bin *ret)
{
	uint64_t words[5];

	memcpy(words, at, sizeof words);
	*ret = (struct jemalloc_bin){
		.size = words[0], .slab = words[1], .regions = (uint32_t)words[2]};
	return ret->size && ret->size % 8 == 0 && ret->slab && ret->slab % JEMALLOC_PAGE == 0 &&
	       ret->slab <= 1ULL << 24 && ret->regions &&
	       ret->regions <= JEMALLOC_BITMAP_WORDS * 64 &&
	       ret->regions == ret->slab / ret->size && words[3] == ret->regions &&
	       words[4] == (ret->regions + 63) / 64;
}

static uint32_t read_bins(const struct mematlas_heap_range *range, uint64_t offset,
			  struct jemalloc_bin *bins)
{
	uint32_t count = 0;

	while (count < JEMALLOC_MOST_BINS && range->size >= BIN_STRIDE &&
	       offset <= range->size - BIN_STRIDE &&
	       read_bin(range->bytes + offset, &bins[count]) &&
	       (!count || bins[count].size > bins[count - 1].size)) {
		count++;
		offset += BIN_STRIDE;
	}
	return count;
}

/* Of several tables, that which is nearest to the root is the copy's own. */
static void find_bins(struct jemalloc *jemalloc)
{
	const struct heap_image *image = &jemalloc->heap->image;
	struct jemalloc_bin bins[JEMALLOC_MOST_BINS];
	uint64_t nearest = UINT64_MAX;

	for (size_t i = 0; i < image->count; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];

		/* Before 5.2 the table is a constant. */
		if (range->kind != MEMATLAS_HEAP_DATA && range->kind != MEMATLAS_HEAP_CODE)
			continue;
		for (uint64_t at = 0; at + 8 <= range->size; at += 8) {
			uint64_t address = range->start + at, first, far;

			memcpy(&first, range->bytes + at, sizeof first);
			far = address > jemalloc->root ? address - jemalloc->root
						       : jemalloc->root - address;
			if (first != 8 || far >= nearest)
				continue;
			uint32_t count = read_bins(range, at, bins);

			if (count < LEAST_BINS)
				continue;
			nearest = far;
			jemalloc->bin_count = count;
			memcpy(jemalloc->bins, bins, sizeof bins);
		}
	}
}

/* Classes behind those of the bins: four to each power of two. */
static void list_classes(struct jemalloc *jemalloc)
{
	uint32_t count = jemalloc->bin_count;
	uint64_t size = jemalloc->bins[count - 1].size;

	for (uint32_t i = 0; i < count; i++)
		jemalloc->classes[i] = jemalloc->bins[i].size;
	while (size < LARGEST && count < JEMALLOC_MOST_CLASSES) {
		size += (1ULL << (63 - __builtin_clzll(size))) / GROUP;
		jemalloc->classes[count++] = size;
	}
	jemalloc->class_count = count;
}

struct agreement {
	uint64_t yes, no;
	bool shifted; /* a large block begins behind the start of its extent */
};

/* A slab's count agrees with its bitmap; another extent is as large as its class. A class behind the last
 * marks unused extents. */
static void judge(const struct jemalloc *jemalloc, const struct jemalloc_extent *extent,
		  struct agreement *found)
{
	bool agrees;

	if (extent->size_class == jemalloc->class_count ||
	    (extent->size_class < jemalloc->class_count && !extent->active))
		return;
	if (extent->size_class > jemalloc->class_count)
		agrees = false;
	else if (extent->slab)
		agrees = jemalloc_regions_in_use(jemalloc, extent) >= 0;
	else
		agrees = jemalloc_large_size(jemalloc, extent, 0) ||
			 jemalloc_large_size(jemalloc, extent, JEMALLOC_PAGE);
	found->yes += agrees;
	found->no += !agrees;
	found->shifted |= agrees && !extent->slab && extent->address % JEMALLOC_PAGE;
}

static struct agreement try_layout(struct jemalloc *jemalloc, const struct jemalloc_layout *layout)
{
	struct agreement found = {0};
	struct jemalloc_extent extent;

	jemalloc->layout = layout;
	for (uint32_t i = 0; i < jemalloc->leaf_count; i++)
		for (uint64_t entry = 0; entry < JEMALLOC_NODE; entry++) {
			uint64_t bits = word_at(jemalloc, jemalloc->leaves[i].address + entry * 8);

			if (!bits)
				continue;
			bits = (uint64_t)((int64_t)(bits << 16) >> 16) & ~(JEMALLOC_ALIGN - 1);
			if (jemalloc_extent_at(jemalloc, layout, bits, &extent) &&
			    extent.start == jemalloc->leaves[i].describes + (entry << 12))
				judge(jemalloc, &extent, &found);
		}
	return found;
}

bool jemalloc_recognise(struct jemalloc *jemalloc)
{
	const struct jemalloc_layout *best = NULL;
	uint64_t most = 0;

	jemalloc->bin_count = 0;
	find_bins(jemalloc);
	if (!jemalloc->bin_count)
		return false;
	list_classes(jemalloc);
	for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
		struct agreement found = try_layout(jemalloc, &layouts[i]);

		/* Single slabs may be damaged. */
		if (found.yes > most && found.no <= found.yes / 8) {
			most = found.yes;
			best = &layouts[i];
			jemalloc->pad = found.shifted ? JEMALLOC_PAGE : 0;
		}
	}
	jemalloc->layout = best;
	return best != NULL;
}
