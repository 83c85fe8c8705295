/* Extents in order of addresses, as the radix tree lists them. */
#include <string.h>

#include "jemalloc.h"

#define STATE_ACTIVE 0U
#define SLAB_BIT 12U
#define CLASS_MASK 0xFFU
#define FREE_MASK 0x3FFU

bool jemalloc_extent_at(const struct jemalloc *jemalloc, const struct jemalloc_layout *layout,
			uint64_t edata, struct jemalloc_extent *ret)
{
	const void *at = heap_at(&jemalloc->heap->image, edata, JEMALLOC_EDATA);
	uint64_t words[3];

	if (!at)
		return false;
	memcpy(words, at, sizeof words);
	*ret = (struct jemalloc_extent){
		.start = words[1] & ~(JEMALLOC_PAGE - 1),
		.size = words[2] & ~(JEMALLOC_PAGE - 1),
		.address = words[1],
		.edata = edata,
		.size_class = words[0] >> layout->class_shift & CLASS_MASK,
		.free = words[0] >> layout->free_shift & FREE_MASK,
		.active = (words[0] >> layout->state_shift & ((1U << layout->state_bits) - 1)) ==
			  STATE_ACTIVE,
		.slab = words[0] >> SLAB_BIT & 1,
	};
	return ret->size && ret->start + ret->size > ret->start;
}

int64_t jemalloc_regions_in_use(const struct jemalloc *jemalloc,
				const struct jemalloc_extent *extent)
{
	const uint8_t *at = heap_at(&jemalloc->heap->image, extent->edata, JEMALLOC_EDATA);
	uint64_t bitmap[JEMALLOC_BITMAP_WORDS];
	const struct jemalloc_bin *bin;
	uint32_t free = 0;

	if (!at || extent->size_class >= jemalloc->bin_count)
		return -1;
	bin = &jemalloc->bins[extent->size_class];
	if (extent->size != bin->slab || extent->free > bin->regions)
		return -1;
	memcpy(bitmap, at + JEMALLOC_BITMAP, sizeof bitmap);
	for (uint32_t i = 0; i < bin->regions; i++)
		free += bitmap[i / 64] >> i % 64 & 1;
	return free == extent->free ? (int64_t)(bin->regions - free) : -1;
}

/* From 5.3.1 on, large blocks need not be as large as their class. */
uint64_t jemalloc_large_size(const struct jemalloc *jemalloc, const struct jemalloc_extent *extent,
			     uint64_t pad)
{
	uint32_t number = extent->size_class;
	uint64_t size = extent->size - pad;

	if (number < jemalloc->bin_count) /* a small block that is sampled */
		return jemalloc->classes[number] <= extent->size ? jemalloc->classes[number] : 0;
	if (extent->size <= pad || size > jemalloc->classes[number] ||
	    size <= jemalloc->classes[number - 1])
		return 0;
	return size;
}

/* An extent is listed at its first page, a slab at all its pages, others at their last page, too. */
static int each_of_leaf(struct jemalloc *jemalloc, uint64_t leaf, uint64_t describes, uint64_t *end,
			jemalloc_visitor *visit)
{
	const uint8_t *bytes = heap_at(&jemalloc->heap->image, leaf, JEMALLOC_NODE_BYTES);
	struct jemalloc_extent extent;
	int error = 0;

	for (uint64_t i = 0; bytes && i < JEMALLOC_NODE && !error; i++) {
		uint64_t bits, page = describes + (i << 12);

		memcpy(&bits, bytes + i * 8, sizeof bits);
		if (!bits || page < *end)
			continue;
		if (!jemalloc_extent_at(jemalloc, jemalloc->layout, jemalloc_edata(bits),
					&extent) ||
		    extent.start != page) {
			heap_finding(jemalloc->heap, MEMATLAS_HEAP_TORN_EXTENT, page, 0,
				     MEMATLAS_HEAP_JEMALLOC);
			continue;
		}
		extent.size = heap_within(&jemalloc->heap->image, extent.start, extent.size);
		*end = extent.start + extent.size;
		error = visit(jemalloc, &extent);
	}
	return error;
}

int jemalloc_each_extent(struct jemalloc *jemalloc, jemalloc_visitor *visit)
{
	uint64_t end = 0;
	int error = 0;

	for (uint32_t i = 0; i < jemalloc->tree.leaf_count && !error; i++)
		error = each_of_leaf(jemalloc, jemalloc->tree.leaves[i].address,
				     jemalloc->tree.leaves[i].describes, &end, visit);
	return error;
}
