#include "tcmalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_blocks(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span)
{
	uint64_t size =
		span->size_class < tcmalloc->class_count ? tcmalloc->classes[span->size_class] : 0;
	uint32_t count;
	int error = 0;

	if (!tcmalloc_read_blocks(tcmalloc, span, &count))
		return heap_add_torn(tcmalloc->heap, tcmalloc->sum, MEMATLAS_HEAP_TCMALLOC,
				     span->start, span->size);
	tcmalloc->sum->told += span->handed_out;
	tcmalloc->sum->free += (count - span->handed_out) * size;
	tcmalloc->listed[span->size_class] += count - span->handed_out;
	for (uint32_t i = 0; i < count && !error; i++)
		if (tcmalloc->live[i]) {
			tcmalloc->sum->counted++;
			error = heap_add_block(tcmalloc->heap, span->start + i * size, size,
					       MEMATLAS_HEAP_TCMALLOC);
		}
	return error;
}

static int visit_blocks(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span)
{
	if (!heap_at(&tcmalloc->heap->image, span->start, 1))
		return 0;
	if (!span->in_use) {
		tcmalloc->sum->unused +=
			heap_resident(&tcmalloc->heap->image, span->start, span->size);
		return 0;
	}
	tcmalloc->sum->pages++;
	if (!span->size_class)
		return heap_add_block(tcmalloc->heap, span->start, span->size,
				      MEMATLAS_HEAP_TCMALLOC);
	return heap_at(&tcmalloc->heap->image, span->start, span->size) ? add_blocks(tcmalloc, span)
									: 0;
}

static int visit_span(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span)
{
	if (!heap_range(&tcmalloc->heap->image, span->start))
		return 0;
	return heap_note_span(&tcmalloc->spans, span->start, span->start + span->size);
}

/* The leaves of the page map, and the memory of spans and caches, lead to blocks and hold none. */
static int add_own_memory(struct tcmalloc *tcmalloc)
{
	int error = 0;

	for (uint32_t i = 0; i < tcmalloc->map.leaf_count && !error; i++)
		error = heap_add_area(tcmalloc->heap, tcmalloc->map.leaves[i].address,
				      tcmalloc->map.leaves[i].address + TCMALLOC_LEAF_BYTES,
				      MEMATLAS_HEAP_AREA_REGION);
	return error;
}

static int read_one(struct tcmalloc *tcmalloc)
{
	int error;

	tcmalloc->sum->copies++;
	if (!tcmalloc_recognise(tcmalloc)) {
		tcmalloc->sum->refused++;
		heap_finding(tcmalloc->heap, MEMATLAS_HEAP_UNKNOWN_LAYOUT, tcmalloc->map.root, 0,
			     MEMATLAS_HEAP_TCMALLOC);
		return 0;
	}
	tcmalloc->spans.count = 0;
	memset(tcmalloc->listed, 0, sizeof tcmalloc->listed);
	error = tcmalloc_each_span(tcmalloc, visit_span);
	if (!error)
		error = heap_subdivide_all(tcmalloc->heap, &tcmalloc->spans);
	if (!error)
		error = add_own_memory(tcmalloc);
	tcmalloc->first_block = tcmalloc->heap->blocks.count;
	if (!error)
		error = tcmalloc_each_span(tcmalloc, visit_blocks);
	if (!error)
		tcmalloc_drop_cached(tcmalloc);
	tcmalloc->sum->blocks += tcmalloc->heap->blocks.count - tcmalloc->first_block;
	return error;
}

int mematlas_heap_read_tcmalloc(struct mematlas_heap *handle, struct mematlas_heap_allocator *ret)
{
	struct tcmalloc tcmalloc = {
		.heap = (struct heap *)handle, .sum = ret, .live = malloc(TCMALLOC_MOST_BLOCKS)};
	int error = tcmalloc.live ? 0 : -ENOMEM;

	memset(ret, 0, sizeof *ret);
	while (!error && ret->copies < HEAP_MOST_COPIES &&
	       heap_radix_find(tcmalloc.heap, &tcmalloc_map, &tcmalloc.map))
		error = read_one(&tcmalloc);
	free(tcmalloc.map.leaves);
	free(tcmalloc.spans.items);
	free(tcmalloc.live);
	return error;
}
