/* Segments of mimalloc. The descriptions of pages follow one another without gaps and end with the
 * segment: where they begin and how large they are is found by that. Which fields they have is told by
 * pages whose lists of free blocks agree with their counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "mimalloc.h"

#define FIRST_SLICES 160U /* where the descriptions may begin, which moved with each version */
#define LAST_SLICES 1024U
#define MOST_INFO_SLICES 16U
#define KIND_HUGE 1U

/* Before the descriptions stand: slices of the segment, slices of this head, kind, entries, thread. */
static bool read_head(const uint8_t *head, uint32_t slices, struct mimalloc_segment *segment)
{
	uint64_t words[5];

	memcpy(words, head + slices - sizeof words, sizeof words);
	segment->slices = slices;
	segment->size = words[0] * MIMALLOC_SLICE;
	segment->entries = (uint32_t)words[3];
	segment->thread = words[4];
	if (!words[0] || words[0] > 1ULL << 30 || !words[1] || words[1] > MOST_INFO_SLICES ||
	    words[1] > words[0] || !words[3] || words[3] > MIMALLOC_MOST_SLICES)
		return false;
	/* The kind is an enumeration of 4 bytes. */
	return (uint32_t)words[2] == KIND_HUGE ? words[3] <= words[0] : words[3] == words[0];
}

/* Do the descriptions follow one another to the segment's end, the first one that of this head? */
static bool is_chain(const struct mimalloc *mimalloc, const struct mimalloc_segment *segment,
		     const uint8_t *head)
{
	uint64_t info;
	uint32_t slice = 0;

	memcpy(&info, head + segment->slices - 32, sizeof info);
	if (mimalloc_slice_count(mimalloc, segment, 0) != info)
		return false;
	while (slice < segment->entries) {
		uint32_t count = mimalloc_slice_count(mimalloc, segment, slice);

		if (!count)
			return false;
		slice += count;
	}
	return slice == segment->entries || segment->size > MIMALLOC_SEGMENT;
}

static bool find_slices(const struct mimalloc *mimalloc, struct mimalloc_segment *segment)
{
	const uint8_t *head = heap_at(&mimalloc->heap->image, segment->address, LAST_SLICES);

	for (uint32_t at = FIRST_SLICES; head && at <= LAST_SLICES - 8; at += 8)
		if (read_head(head, at, segment) && is_chain(mimalloc, segment, head))
			return true;
	return false;
}

struct agreement {
	uint32_t yes, no;
};

/* Pages without a free block agree with too many layouts to tell one. */
static struct agreement try_pages(struct mimalloc *mimalloc, const struct mimalloc_segment *segment)
{
	struct agreement found = {0};
	struct mimalloc_page page;
	uint32_t slice = 0;
	bool sound;

	while (slice < segment->entries) {
		uint32_t count = mimalloc_slice_count(mimalloc, segment, slice);

		if (!count)
			break;
		if (slice && mimalloc_read_page(mimalloc, segment, slice, &page, &sound)) {
			found.no += !sound;
			found.yes += sound && page.listed;
		}
		slice += count;
	}
	return found;
}

/* What is known of the layouts of all segments so far. */
static uint64_t votes_of(const struct mimalloc *mimalloc, uint8_t layout)
{
	uint64_t votes = 0;

	for (uint32_t i = 0; i < mimalloc->segment_count; i++)
		votes += mimalloc->segments[i].layout == layout;
	return votes;
}

/* More pages agree with a layout than with the best so far, or as many, and other segments have it. */
static bool is_better(const struct mimalloc *mimalloc, const struct mimalloc_segment *segment,
		      uint32_t yes, const struct mimalloc_segment *best, uint32_t most)
{
	if (best->layout == MIMALLOC_LAYOUTS || yes != most)
		return best->layout == MIMALLOC_LAYOUTS || yes > most;
	return votes_of(mimalloc, segment->layout) > votes_of(mimalloc, best->layout);
}

/* Returns whether memory is a segment; its layout is MIMALLOC_LAYOUTS if it is of none that is known. */
static bool find_segment(struct mimalloc *mimalloc, uint64_t address, struct mimalloc_segment *best)
{
	uint32_t most = 0;
	bool found = false;

	best->layout = MIMALLOC_LAYOUTS;
	for (uint8_t layout = 0; layout < MIMALLOC_LAYOUTS; layout++) {
		struct mimalloc_segment segment = {.address = address, .layout = layout};
		struct agreement pages;

		if (!find_slices(mimalloc, &segment))
			continue;
		found = true;
		pages = try_pages(mimalloc, &segment);
		if (pages.no > (pages.yes + 1) / 4 ||
		    !is_better(mimalloc, &segment, pages.yes, best, most))
			continue;
		most = pages.yes;
		*best = segment;
	}
	return found;
}

static int add_segment(struct mimalloc *mimalloc, uint64_t address)
{
	struct mimalloc_segment segment;

	if (mimalloc->segment_count) {
		const struct mimalloc_segment *last =
			&mimalloc->segments[mimalloc->segment_count - 1];

		if (address - last->address < last->size)
			return 0;
	}
	if (!find_segment(mimalloc, address, &segment))
		return 0;
	if (segment.layout == MIMALLOC_LAYOUTS) {
		mimalloc->sum->refused++;
		heap_finding(mimalloc->heap, MEMATLAS_HEAP_UNKNOWN_LAYOUT, address, 0,
			     MEMATLAS_HEAP_MIMALLOC);
		return 0;
	}
	if (!ARRAY_RESERVE(mimalloc->segments, mimalloc->segment_count, mimalloc->segment_capacity,
			   16))
		return -ENOMEM;
	mimalloc->segments[mimalloc->segment_count++] = segment;
	return 0;
}

int mimalloc_find(struct mimalloc *mimalloc)
{
	const struct heap_image *image = &mimalloc->heap->image;
	int error = 0;

	for (size_t i = 0; i < image->count && !error; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];
		uint64_t at = (range->start + MIMALLOC_SEGMENT - 1) & ~(MIMALLOC_SEGMENT - 1);

		if (range->kind != MEMATLAS_HEAP_ANONYMOUS && range->kind != MEMATLAS_HEAP_DATA)
			continue;
		for (; !error && at - range->start < range->size; at += MIMALLOC_SEGMENT)
			error = add_segment(mimalloc, at);
	}
	return error;
}
