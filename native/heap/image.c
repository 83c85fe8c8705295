#include "heap.h"

#include <string.h>

/* That a core file may lack of a block. A larger size is damaged: the index takes 4 bytes for each 4 MiB. */
#define MOST_BEYOND (64ULL << 30)

const struct mematlas_heap_range *heap_range(const struct heap_image *image, uint64_t address)
{
	/* Reads come in clusters: the last range is tried first. */
	static _Thread_local size_t last;
	size_t low = 0, high = image->count;

	if (last < image->count && address - image->ranges[last].start < image->ranges[last].size)
		return &image->ranges[last];
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct mematlas_heap_range *range = &image->ranges[middle];

		if (address < range->start)
			high = middle;
		else if (address - range->start >= range->size)
			low = middle + 1;
		else {
			last = middle;
			return range;
		}
	}
	return NULL;
}

uint64_t heap_within(const struct heap_image *image, uint64_t address, uint64_t size)
{
	const struct mematlas_heap_range *range = heap_range(image, address);

	if (!range)
		return size <= MOST_BEYOND ? size : 0;
	const struct mematlas_heap_range *end = image->ranges + image->count;
	uint64_t left = range->size - (address - range->start);
	while (left < size && ++range < end && range->start == address + left)
		left += range->size;
	return size > left && size - left > MOST_BEYOND ? left : size;
}

const void *heap_at(const struct heap_image *image, uint64_t address, size_t size)
{
	const struct mematlas_heap_range *range = heap_range(image, address);

	if (!range || size > range->size - (address - range->start))
		return NULL;
	return range->bytes + (address - range->start);
}

bool heap_word(const struct heap_image *image, uint64_t address, uint64_t *ret)
{
	const void *at = heap_at(image, address, sizeof *ret);

	if (!at)
		return false;
	memcpy(ret, at, sizeof *ret);
	return true;
}

uint64_t heap_resident(const struct heap_image *image, uint64_t address, uint64_t size)
{
	const struct mematlas_heap_range *range = heap_range(image, address);
	uint64_t page = image->page_size, end, found = 0;

	if (!range || !range->pages)
		return size;
	if (size > range->size - (address - range->start))
		size = range->size - (address - range->start);
	end = address + size;
	while (address < end) {
		uint64_t next = (address / page + 1) * page;

		/* The first page of a range may begin before the range. */
		if (range->pages[address / page - range->start / page] == 1)
			found += (next < end ? next : end) - address;
		address = next;
	}
	return found;
}
