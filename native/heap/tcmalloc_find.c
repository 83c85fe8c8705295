/* The page map of tcmalloc and its size classes. */
#include <string.h>

#include "tcmalloc.h"

#define LEAST_CLASSES 30U
#define LARGEST_CLASS (256U << 10)

/* A span tells its first page, and so where it is listed. */
static uint64_t place_of_leaf(const struct heap_image *image, uint64_t word, uint64_t number)
{
	uint64_t start, length;

	if (word % 8 || !heap_word(image, word, &start) || !heap_word(image, word + 8, &length))
		return HEAP_NO_LEAF;
	if (start % TCMALLOC_LEAF == number && length && length <= 1ULL << 34)
		return start / TCMALLOC_LEAF;
	return HEAP_LOOK_ON;
}

const struct heap_radix_kind tcmalloc_map = {
	.root_words = TCMALLOC_ROOT,
	.leaf_words = TCMALLOC_LEAF,
	.alignment = 8,
	.page_shift = TCMALLOC_PAGE_SHIFT,
	.probes = 16,
	.origin = MEMATLAS_HEAP_TCMALLOC,
	.place = place_of_leaf,
};

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
			uint64_t far = address > tcmalloc->map.root ? address - tcmalloc->map.root
								    : tcmalloc->map.root - address;
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
