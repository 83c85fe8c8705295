/* Memory for the copy. A segment keeps its place in the process when a mapping grows. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../array.h"
#include "../proc/page_size.h"
#include "image.h"

static void *map_zeros(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(struct segment *segment)
{
	if (segment->bytes)
		munmap(segment->bytes, segment->size);
	if (segment->pages)
		munmap(segment->pages, segment->size / page_bytes());
	*segment = (struct segment){0};
}

/* The process's addresses are page-aligned here. */
static int fill(struct segment *segment, uint64_t start, uint64_t end)
{
	*segment = (struct segment){.start = start, .size = end - start};
	segment->bytes = map_zeros(segment->size);
	segment->pages = map_zeros(segment->size / page_bytes());
	if (segment->bytes && segment->pages)
		return 0;
	unmap(segment);
	return -ENOMEM;
}

static struct segment *find(struct mematlas_image *image, uint64_t start)
{
	for (; image->cursor < image->sorted; image->cursor++) {
		struct segment *segment = &image->segments[image->cursor];
		if (start < segment->start)
			return NULL;
		if (!segment->in_use && start - segment->start < segment->size)
			return segment;
	}
	return NULL;
}

static int compare(const void *first, const void *second)
{
	const struct segment *a = first, *b = second;

	return a->start < b->start ? -1 : a->start > b->start;
}

void segments_begin(struct mematlas_image *image)
{
	if (image->segment_count)
		qsort(image->segments, image->segment_count, sizeof *image->segments, compare);
	for (size_t i = 0; i < image->segment_count; i++)
		image->segments[i].in_use = false;
	image->sorted = image->segment_count;
	image->cursor = 0;
}

void segments_drop_unused(struct mematlas_image *image)
{
	size_t kept = 0;

	for (size_t i = 0; i < image->segment_count; i++)
		if (image->segments[i].in_use)
			image->segments[kept++] = image->segments[i];
		else
			unmap(&image->segments[i]);
	image->segment_count = kept;
	image->sorted = image->cursor = 0;
}

static int grow(struct segment *segment, uint64_t end)
{
	uint64_t size = end - segment->start, page = page_bytes();

	if (size <= segment->size)
		return 0;
	void *bytes = mremap(segment->bytes, segment->size, size, MREMAP_MAYMOVE);
	if (bytes == MAP_FAILED)
		return -ENOMEM;
	segment->bytes = bytes;
	void *pages = mremap(segment->pages, segment->size / page, size / page, MREMAP_MAYMOVE);
	if (pages == MAP_FAILED) {
		munmap(segment->bytes + segment->size, size - segment->size);
		return -ENOMEM;
	}
	segment->pages = pages;
	segment->size = size;
	return 0;
}

struct segment *segment_prepare(struct mematlas_image *image, uint64_t start, uint64_t end)
{
	struct segment *segment = find(image, page_floor(start));

	if (segment && grow(segment, page_ceil(end)))
		return NULL;
	if (!segment) {
		if (!ARRAY_RESERVE(image->segments, image->segment_count, image->segment_capacity,
				   256))
			return NULL;
		segment = &image->segments[image->segment_count];
		if (fill(segment, page_floor(start), page_ceil(end)))
			return NULL;
		image->segment_count++;
	}
	segment->in_use = true;
	return segment;
}

void segments_free(struct mematlas_image *image)
{
	for (size_t i = 0; i < image->segment_count; i++)
		unmap(&image->segments[i]);
	free(image->segments);
	image->segments = NULL;
	image->segment_count = image->segment_capacity = 0;
}
