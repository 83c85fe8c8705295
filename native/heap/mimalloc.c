#include "mimalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"

#define MOST_OWNERS 4096U /* each page is compared with all */

static int note_owner(struct mimalloc *mimalloc, struct mimalloc_owner owner)
{
	if (!owner.heap || !owner.thread || mimalloc->owner_count >= MOST_OWNERS)
		return 0;
	/* Pages of one heap are neighbours. */
	for (uint32_t i = mimalloc->owner_count; i; i--)
		if (mimalloc->owners[i - 1].heap == owner.heap)
			return 0;
	if (!ARRAY_RESERVE(mimalloc->owners, mimalloc->owner_count, mimalloc->owner_capacity, 16))
		return -ENOMEM;
	mimalloc->owners[mimalloc->owner_count++] = owner;
	return 0;
}

int mimalloc_add_page(struct mimalloc *mimalloc, const struct mimalloc_page *page)
{
	uint64_t live = page->used - page->thread_freed;
	int origin = page->objects ? MEMATLAS_HEAP_MIMALLOC_OBJECTS : MEMATLAS_HEAP_MIMALLOC;
	int error = 0;

	mimalloc->sum->pages++;
	mimalloc->sum->told += page->used;
	mimalloc->sum->counted += page->capacity - (page->listed - page->thread_freed);
	mimalloc->sum->cached_blocks += page->thread_freed;
	mimalloc->sum->cached += page->thread_freed * page->size;
	if (live)
		mimalloc->sum->free += (page->listed - page->thread_freed) * page->size;
	else
		mimalloc->sum->unused += heap_resident(&mimalloc->heap->image, page->start,
						       page->capacity * page->size);
	for (uint32_t i = 0; i < page->capacity && !error; i++)
		if (mimalloc->live[i])
			error = heap_add_block(mimalloc->heap, page->start + i * page->size,
					       page->size, origin);
	return error;
}

static int add_page(struct mimalloc *mimalloc, const struct mimalloc_segment *segment,
		    const struct mimalloc_page *page)
{
	int error = mimalloc_add_page(mimalloc, page);

	if (error)
		return error;
	return note_owner(mimalloc, (struct mimalloc_owner){
					    .heap = page->heap,
					    .thread = segment->thread,
					    .encoded = mimalloc_layouts[segment->layout].keys,
				    });
}

static int read_segment(struct mimalloc *mimalloc, const struct mimalloc_segment *segment)
{
	struct mimalloc_page page;
	uint32_t slice = 0;
	int error = 0;

	while (slice < segment->entries && !error) {
		uint32_t count = mimalloc_slice_count(mimalloc, segment, slice);
		uint64_t start = segment->address + slice * MIMALLOC_SLICE,
			 size = count * MIMALLOC_SLICE;
		bool sound;

		if (!count)
			break;
		if (!slice) {
			/* this head */
		} else if (!mimalloc_read_page(mimalloc, segment, slice, &page, &sound)) {
			mimalloc->sum->unused += heap_resident(&mimalloc->heap->image, start, size);
		} else if (!sound) {
			error = heap_add_torn(mimalloc->heap, mimalloc->sum, MEMATLAS_HEAP_MIMALLOC,
					      start, size);
		} else {
			error = add_page(mimalloc, segment, &page);
		}
		slice += count;
	}
	return error;
}

static int subdivide(struct mimalloc *mimalloc)
{
	int error = 0;

	for (uint32_t i = 0; i < mimalloc->segment_count && !error; i++) {
		const struct mimalloc_segment *segment = &mimalloc->segments[i];

		error = heap_note_span(&mimalloc->spans, segment->address,
				       segment->address + segment->size);
	}
	return error ? error : heap_subdivide_all(mimalloc->heap, &mimalloc->spans);
}

int mematlas_heap_read_mimalloc(struct mematlas_heap *handle, struct mematlas_heap_allocator *ret)
{
	struct mimalloc mimalloc = {
		.heap = (struct heap *)handle, .sum = ret, .live = malloc(UINT16_MAX + 1)};
	int error;

	memset(ret, 0, sizeof *ret);
	error = mimalloc.live ? mimalloc_find(&mimalloc) : -ENOMEM;
	if (!error)
		error = subdivide(&mimalloc);
	mimalloc.first_block = mimalloc.heap->blocks.count;
	for (uint32_t i = 0; i < mimalloc.segment_count && !error; i++)
		error = read_segment(&mimalloc, &mimalloc.segments[i]);
	if (!error)
		mimalloc_drop_delayed(&mimalloc);
	ret->copies = mimalloc.segment_count || ret->refused;
	if (!error)
		error = mimalloc_read_maps(&mimalloc);
	ret->blocks = mimalloc.heap->blocks.count - mimalloc.first_block;
	free(mimalloc.segments);
	free(mimalloc.owners);
	free(mimalloc.spans.items);
	free(mimalloc.live);
	return error;
}
