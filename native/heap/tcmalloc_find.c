/* The page map of tcmalloc and its size classes. A leaf leads to spans, which tell their address and so
 * which entry of the root the leaf is: no symbol is asked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"
#include "tcmalloc.h"

#define MOST_PROBED (1ULL << 28) /* words of leaves that were no leaves, of a whole image */
#define PROBES 16U /* entries of one leaf */
#define LEAST_CLASSES 30U
#define LARGEST_CLASS (256U << 10)

/* First page and length of a span; false: there is none. */
static bool read_span(const struct tcmalloc *tcmalloc, uint64_t span, uint64_t *start,
		      uint64_t *length)
{
	return span % 8 == 0 && heap_word(&tcmalloc->heap->image, span, start) &&
	       heap_word(&tcmalloc->heap->image, span + 8, length);
}

/* Which entry of the root a leaf is, by the first spans it leads to; TCMALLOC_ROOT: it is no leaf. */
static uint64_t place_of_leaf(const struct tcmalloc *tcmalloc, const uint8_t *leaf, uint64_t *left)
{
	uint32_t probes = 0;

	for (uint64_t i = 0; i < TCMALLOC_LEAF && *left && probes < PROBES; i++, --*left) {
		uint64_t span, start, length;

		memcpy(&span, leaf + i * 8, sizeof span);
		if (!span)
			continue;
		probes++;
		if (!read_span(tcmalloc, span, &start, &length))
			return TCMALLOC_ROOT;
		if (start % TCMALLOC_LEAF == i && length && length <= 1ULL << 34)
			return start / TCMALLOC_LEAF;
	}
	return TCMALLOC_ROOT;
}

/* Leaves of one map do not overlap: else a made-up map could name the same words without end. */
static bool are_disjoint(const struct tcmalloc *tcmalloc)
{
	CLEANUP_FREE struct heap_span *spans =
		malloc((tcmalloc->leaf_count + 1ULL) * sizeof *spans);

	if (!spans)
		return false;
	for (uint32_t i = 0; i < tcmalloc->leaf_count; i++)
		spans[i] = (struct heap_span){tcmalloc->leaves[i].address,
					      tcmalloc->leaves[i].address + TCMALLOC_LEAF_BYTES};
	return heap_spans_are_disjoint(spans, tcmalloc->leaf_count);
}

/* Lists the leaves of a root. Returns how many entries lead to no memory of the size of a leaf. */
static uint32_t list_leaves(struct tcmalloc *tcmalloc, const uint8_t *root)
{
	uint32_t torn = 0;

	tcmalloc->leaf_count = 0;
	for (uint64_t i = 0; i < TCMALLOC_ROOT; i++) {
		uint64_t leaf;

		memcpy(&leaf, root + i * 8, sizeof leaf);
		if (!leaf)
			continue;
		if (leaf % 8 || !heap_at(&tcmalloc->heap->image, leaf, TCMALLOC_LEAF_BYTES) ||
		    !ARRAY_RESERVE(tcmalloc->leaves, tcmalloc->leaf_count, tcmalloc->leaf_capacity,
				   16)) {
			torn++;
			continue;
		}
		tcmalloc->leaves[tcmalloc->leaf_count].address = leaf;
		tcmalloc->leaves[tcmalloc->leaf_count++].describes = i * TCMALLOC_LEAF
								     << TCMALLOC_PAGE_SHIFT;
	}
	return torn;
}

/* Single entries of a root may be damaged. */
static bool read_root(struct tcmalloc *tcmalloc, uint64_t root)
{
	const uint8_t *bytes = heap_at(&tcmalloc->heap->image, root, TCMALLOC_ROOT_BYTES);
	uint32_t torn = bytes ? list_leaves(tcmalloc, bytes) : 0;

	if (!bytes || !tcmalloc->leaf_count || torn > tcmalloc->leaf_count ||
	    !are_disjoint(tcmalloc))
		return false;
	tcmalloc->root = root;
	if (torn)
		heap_finding(tcmalloc->heap, MEMATLAS_HEAP_TORN_EXTENT, root, 0,
			     MEMATLAS_HEAP_TCMALLOC);
	return true;
}

static bool scan_range(struct tcmalloc *tcmalloc, const struct mematlas_heap_range *range,
		       uint64_t *offset, uint64_t *left)
{
	for (; *left && range->size >= 8 && *offset <= range->size - 8; *offset += 8) {
		const uint8_t *leaf;
		uint64_t word, place;

		memcpy(&word, range->bytes + *offset, sizeof word);
		if (!word || word % 8)
			continue;
		leaf = heap_at(&tcmalloc->heap->image, word, TCMALLOC_LEAF_BYTES);
		place = leaf ? place_of_leaf(tcmalloc, leaf, left) : TCMALLOC_ROOT;
		if (place >= TCMALLOC_ROOT || place * 8 > *offset ||
		    !read_root(tcmalloc, range->start + *offset - place * 8))
			continue;
		*offset +=
			TCMALLOC_ROOT_BYTES - place * 8; /* the next copy comes behind this one */
		return true;
	}
	return false;
}

bool tcmalloc_find(struct tcmalloc *tcmalloc, size_t *range, uint64_t *offset)
{
	const struct heap_image *image = &tcmalloc->heap->image;
	uint64_t left = MOST_PROBED;

	for (; *range < image->count; ++*range, *offset = 0)
		if (image->ranges[*range].kind == MEMATLAS_HEAP_DATA &&
		    image->ranges[*range].size >= TCMALLOC_ROOT_BYTES &&
		    scan_range(tcmalloc, &image->ranges[*range], offset, &left))
			return true;
	return false;
}

/* class_to_size_ of struct SizeMap: 0, then ascending sizes up to 256 KiB, then 0. Returns their number. */
static uint32_t read_classes(const uint8_t *at, uint32_t *classes)
{
	uint32_t count = 1;

	memcpy(classes, at, TCMALLOC_CLASSES * sizeof *classes);
	if (classes[0] || classes[1] != 8)
		return 0;
	while (count < TCMALLOC_CLASSES && classes[count] > classes[count - 1] &&
	       classes[count] % 8 == 0)
		count++;
	if (count < LEAST_CLASSES || classes[count - 1] != LARGEST_CLASS)
		return 0;
	for (uint32_t i = count; i < TCMALLOC_CLASSES; i++)
		if (classes[i])
			return 0;
	return count;
}

/* Of several tables, that which is nearest to the root is the copy's own. */
static void find_classes(struct tcmalloc *tcmalloc)
{
	const struct heap_image *image = &tcmalloc->heap->image;
	uint32_t classes[TCMALLOC_CLASSES];
	uint64_t nearest = UINT64_MAX;

	for (size_t i = 0; i < image->count; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];

		if (range->kind != MEMATLAS_HEAP_DATA)
			continue;
		for (uint64_t at = 0; at + sizeof classes <= range->size; at += 4) {
			uint64_t address = range->start + at;
			uint64_t far = address > tcmalloc->root ? address - tcmalloc->root
								: tcmalloc->root - address;
			static const uint32_t first[2] = {0, 8};

			if (far >= nearest || memcmp(range->bytes + at, first, sizeof first) != 0)
				continue;
			uint32_t count = read_classes(range->bytes + at, classes);

			if (!count)
				continue;
			nearest = far;
			tcmalloc->class_count = count;
			memcpy(tcmalloc->classes, classes, sizeof classes);
		}
	}
}

struct agreement {
	struct tcmalloc tcmalloc; /* first: the visitor gets this structure */
	uint64_t yes, no;
};

static int judge(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span)
{
	struct agreement *found = (struct agreement *)tcmalloc;
	uint32_t count;

	if (!span->in_use || !span->size_class)
		return 0;
	if (tcmalloc_read_blocks(tcmalloc, span, &count))
		found->yes++;
	else
		found->no++;
	return 0;
}

bool tcmalloc_recognise(struct tcmalloc *tcmalloc)
{
	struct agreement found;

	tcmalloc->class_count = 0;
	find_classes(tcmalloc);
	if (!tcmalloc->class_count)
		return false;
	found = (struct agreement){.tcmalloc = *tcmalloc};
	tcmalloc_each_span(&found.tcmalloc, judge);
	return found.yes && found.no <= found.yes / 8;
}
