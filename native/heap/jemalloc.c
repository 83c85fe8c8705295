#include "jemalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"

static int add_slab(struct jemalloc *jemalloc, const struct jemalloc_extent *extent)
{
	int64_t in_use = jemalloc_regions_in_use(jemalloc, extent);
	struct heap *heap = jemalloc->heap;
	uint64_t bitmap[JEMALLOC_BITMAP_WORDS];
	const struct jemalloc_bin *bin;
	int error = 0;

	if (!heap_at(&heap->image, extent->start, extent->size))
		return 0;
	if (in_use < 0)
		return heap_add_torn(heap, jemalloc->sum, MEMATLAS_HEAP_JEMALLOC, extent->start,
				     extent->size);
	if (!ARRAY_RESERVE(jemalloc->slabs, jemalloc->slab_count, jemalloc->slab_capacity, 256))
		return -ENOMEM;
	jemalloc->slabs[jemalloc->slab_count++] = extent->edata;
	bin = &jemalloc->bins[extent->size_class];
	jemalloc->in_use[extent->size_class] += (uint64_t)in_use;
	jemalloc->sum->free += (bin->regions - (uint64_t)in_use) * bin->size;
	memcpy(bitmap,
	       (const uint8_t *)heap_at(&heap->image, extent->edata, JEMALLOC_EDATA) +
		       JEMALLOC_BITMAP,
	       sizeof bitmap);
	for (uint32_t i = 0; i < bin->regions && !error; i++)
		if (!(bitmap[i / 64] >> i % 64 & 1))
			error = heap_add_block(heap, extent->start + i * bin->size, bin->size,
					       MEMATLAS_HEAP_JEMALLOC);
	return error;
}

/* A class behind the last one marks extents that the page allocator keeps. */
static int add_extent(struct jemalloc *jemalloc, const struct jemalloc_extent *extent)
{
	uint64_t size;

	if (!extent->active || extent->size_class >= jemalloc->class_count) {
		jemalloc->sum->unused +=
			heap_resident(&jemalloc->heap->image, extent->start, extent->size);
		return 0;
	}
	jemalloc->sum->pages++;
	if (extent->slab)
		return add_slab(jemalloc, extent);
	size = jemalloc_large_size(jemalloc, extent, jemalloc->pad);
	if (!size || size > extent->start + extent->size - extent->address) {
		jemalloc->sum->torn += extent->size;
		heap_finding(jemalloc->heap, MEMATLAS_HEAP_TORN_EXTENT, extent->start, extent->size,
			     MEMATLAS_HEAP_JEMALLOC);
		size = extent->start + extent->size - extent->address;
	}
	return heap_add_block(jemalloc->heap, extent->address, size, MEMATLAS_HEAP_JEMALLOC);
}

/* Extents of memory that is not in the image are of no heap, or the image was cut. */
static int visit_span(struct jemalloc *jemalloc, const struct jemalloc_extent *extent)
{
	int error;

	if (!heap_range(&jemalloc->heap->image, extent->start))
		return 0;
	error = heap_note_span(&jemalloc->spans, extent->start, extent->start + extent->size);
	return error ? error : jemalloc_add_base(jemalloc, extent->edata);
}

static int visit_extent(struct jemalloc *jemalloc, const struct jemalloc_extent *extent)
{
	if (!heap_at(&jemalloc->heap->image, extent->start, 1))
		return 0;
	return add_extent(jemalloc, extent);
}

static int subdivide(struct jemalloc *jemalloc)
{
	int error = jemalloc_each_extent(jemalloc, visit_span);

	for (uint32_t i = 0; i < jemalloc->tree.leaf_count && !error; i++)
		error = jemalloc_add_base(jemalloc, jemalloc->tree.leaves[i].address);
	for (uint32_t i = 0; i < jemalloc->base_count && !error; i++)
		error = heap_note_span(&jemalloc->spans, jemalloc->base[i].start,
				       jemalloc->base[i].end);
	return error ? error : heap_subdivide_all(jemalloc->heap, &jemalloc->spans);
}

static int read_one(struct jemalloc *jemalloc)
{
	int error;

	jemalloc->sum->copies++;
	if (!jemalloc_recognise(jemalloc)) {
		jemalloc->sum->refused++;
		heap_finding(jemalloc->heap, MEMATLAS_HEAP_UNKNOWN_LAYOUT, jemalloc->tree.root, 0,
			     MEMATLAS_HEAP_JEMALLOC);
		return 0;
	}
	jemalloc->spans.count = jemalloc->base_count = jemalloc->slab_count = 0;
	memset(jemalloc->in_use, 0, sizeof jemalloc->in_use);
	error = subdivide(jemalloc);
	jemalloc->first_block = jemalloc->heap->blocks.count;
	if (!error)
		error = jemalloc_each_extent(jemalloc, visit_extent);
	if (!error)
		error = jemalloc_read_counts(jemalloc);
	if (!error)
		error = jemalloc_drop_cached(jemalloc);
	jemalloc->sum->blocks += jemalloc->heap->blocks.count - jemalloc->first_block;
	return error;
}

int mematlas_heap_read_jemalloc(struct mematlas_heap *handle, struct mematlas_heap_allocator *ret)
{
	struct jemalloc jemalloc = {.heap = (struct heap *)handle, .sum = ret};
	int error = 0;

	memset(ret, 0, sizeof *ret);
	while (!error && ret->copies < HEAP_MOST_COPIES &&
	       heap_radix_find(jemalloc.heap, &jemalloc_tree, &jemalloc.tree))
		error = read_one(&jemalloc);
	free(jemalloc.tree.leaves);
	free(jemalloc.spans.items);
	free(jemalloc.base);
	free(jemalloc.slabs);
	return error;
}
