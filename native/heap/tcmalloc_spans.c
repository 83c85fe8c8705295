/* Spans in order of addresses, as the page map lists them, and their blocks. */
#include <string.h>

#include "tcmalloc.h"

#define SPAN_BYTES 48U
#define LOCATION_SHIFT 24 /* of the word with count, class and location */

static bool read_span(const struct tcmalloc *tcmalloc, uint64_t address, struct tcmalloc_span *ret)
{
	const void *at = heap_at(&tcmalloc->heap->image, address, SPAN_BYTES);
	uint64_t words[6];

	if (!at)
		return false;
	memcpy(words, at, sizeof words);
	if (!words[1] || words[0] >> 35 || words[1] >> 35)
		return false;
	*ret = (struct tcmalloc_span){
		.start = words[0] << TCMALLOC_PAGE_SHIFT,
		.size = words[1] << TCMALLOC_PAGE_SHIFT,
		.objects = words[4],
		.handed_out = words[5] & 0xFFFF,
		.size_class = words[5] >> 16 & 0xFF,
		.in_use = (words[5] >> LOCATION_SHIFT & 3) == 0,
	};
	return true;
}

/* A span is listed at its first page; one with blocks of one size at all its pages, others at the last, too. */
static int each_of_leaf(struct tcmalloc *tcmalloc, uint64_t leaf, uint64_t describes, uint64_t *end,
			tcmalloc_visitor *visit)
{
	const uint8_t *bytes = heap_at(&tcmalloc->heap->image, leaf, TCMALLOC_LEAF_BYTES);
	struct tcmalloc_span span;
	int error = 0;

	for (uint64_t i = 0; bytes && i < TCMALLOC_LEAF && !error; i++) {
		uint64_t address, page = describes + (i << TCMALLOC_PAGE_SHIFT);

		memcpy(&address, bytes + i * 8, sizeof address);
		if (!address || page < *end)
			continue;
		/* The map keeps entries of pages that were merged into other spans. */
		if (!read_span(tcmalloc, address, &span) || span.start != page)
			continue;
		span.size = heap_within(&tcmalloc->heap->image, span.start, span.size);
		*end = span.start + span.size;
		error = visit(tcmalloc, &span);
	}
	return error;
}

int tcmalloc_each_span(struct tcmalloc *tcmalloc, tcmalloc_visitor *visit)
{
	uint64_t end = 0;
	int error = 0;

	for (uint32_t i = 0; i < tcmalloc->map.leaf_count && !error; i++)
		error = each_of_leaf(tcmalloc, tcmalloc->map.leaves[i].address,
				     tcmalloc->map.leaves[i].describes, &end, visit);
	return error;
}

bool tcmalloc_read_blocks(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span,
			  uint32_t *count)
{
	uint64_t at = span->objects, size, blocks;
	uint32_t listed = 0;

	if (span->size_class >= tcmalloc->class_count)
		return false;
	size = tcmalloc->classes[span->size_class];
	blocks = span->size / size;
	if (!blocks || blocks > TCMALLOC_MOST_BLOCKS)
		return false;
	memset(tcmalloc->live, 1, blocks);
	while (at) {
		uint64_t offset = at - span->start, number = offset / size;

		if (at < span->start || number >= blocks || offset % size ||
		    !tcmalloc->live[number] || !heap_word(&tcmalloc->heap->image, at, &at))
			return false;
		tcmalloc->live[number] = 0;
		listed++;
	}
	*count = (uint32_t)blocks;
	return listed + span->handed_out == blocks;
}
