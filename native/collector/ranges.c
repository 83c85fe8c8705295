/* Mappings made by the program or by an allocator. */
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "state.h"

size_t ranges_find(const struct ranges *ranges, uint64_t address)
{
	size_t low = 0, high = ranges->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ranges->items[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static bool open_gap(struct ranges *ranges, size_t at)
{
	if (!ARRAY_RESERVE(ranges->items, ranges->count, ranges->capacity, 64))
		return false;
	memmove(&ranges->items[at + 1], &ranges->items[at],
		(ranges->count - at) * sizeof(struct range));
	ranges->count++;
	return true;
}

bool ranges_insert(struct ranges *ranges, const struct range *range)
{
	size_t at = ranges_find(ranges, range->start);

	if (!open_gap(ranges, at))
		return false;
	ranges->items[at] = *range;
	return true;
}

/* Cuts [start, end), which overlaps item `at`, out of it; returns the number of items left, or
 * -1. */
static int cut(struct ranges *ranges, size_t at, uint64_t start, uint64_t end)
{
	struct range *item = &ranges->items[at];

	if (start > item->start && end < item->end) {
		if (!open_gap(ranges, at + 1))
			return -1;
		item = &ranges->items[at];
		ranges->items[at + 1] = *item;
		ranges->items[at + 1].start = end;
		item->end = start;
		return 2;
	}
	if (start > item->start) {
		item->end = start;
		return 1;
	}
	if (end < item->end) {
		item->start = end;
		return 1;
	}
	return 0;
}

bool ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end, range_removed *removed,
		   void *context)
{
	size_t first = ranges_find(ranges, start);
	size_t at = first, gone = 0, gone_at = first;

	while (at < ranges->count && ranges->items[at].start < end) {
		struct range old = ranges->items[at];
		uint64_t from = old.start > start ? old.start : start;
		uint64_t to = old.end < end ? old.end : end;
		int left = cut(ranges, at, from, to);
		if (left < 0)
			return false;
		removed(context, &old, to - from, left - 1);
		if (left == 0 && gone++ == 0)
			gone_at = at;
		at += left ? (size_t)left : 1;
	}
	if (gone == 0)
		return true;
	memmove(&ranges->items[gone_at], &ranges->items[gone_at + gone],
		(ranges->count - gone_at - gone) * sizeof(struct range));
	ranges->count -= gone;
	return true;
}
