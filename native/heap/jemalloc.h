/* jemalloc 5 in a copied memory, found by content. Source: edata.h, rtree.h, bin_info.h, cache_bin.h;
 * extent_structs.h before 5.3. */
#ifndef MEMATLAS_HEAP_JEMALLOC_H
#define MEMATLAS_HEAP_JEMALLOC_H

#include "radix.h"

#define JEMALLOC_PAGE 4096ULL
#define JEMALLOC_ALIGN 64ULL /* of struct edata_s */
#define JEMALLOC_EDATA 128ULL /* its size */
#define JEMALLOC_NODE (1ULL << 18) /* words of the root and of each leaf of the radix tree */
#define JEMALLOC_NODE_BYTES (JEMALLOC_NODE * 8)
#define JEMALLOC_MOST_BINS 64U
#define JEMALLOC_MOST_CLASSES 256U
#define JEMALLOC_BITMAP 64U /* offset in struct edata_s, in all versions */
#define JEMALLOC_BITMAP_WORDS 8U

/* Where struct edata_s keeps what in its first word. */
struct jemalloc_layout {
	uint8_t state_shift, state_bits;
	uint8_t class_shift, free_shift;
};

/* regions * size <= slab */
struct jemalloc_bin {
	uint64_t size, slab;
	uint32_t regions;
};

struct jemalloc_extent {
	uint64_t start, size;
	uint64_t address; /* of a large block, which need not begin with its first page */
	uint64_t edata;
	uint32_t size_class, free;
	bool active, slab;
};

/* One copy of jemalloc: a program may have several. */
struct jemalloc {
	struct heap *heap;
	struct mematlas_heap_allocator *sum;
	struct heap_radix tree;
	const struct jemalloc_layout *layout;
	struct jemalloc_bin bins[JEMALLOC_MOST_BINS];
	uint64_t classes[JEMALLOC_MOST_CLASSES]; /* bytes of a block; those of bins come first */
	uint32_t bin_count, class_count;
	uint64_t
		pad; /* bytes of extents beside a large block, which then begins at any line of the first page */
	struct heap_spans spans; /* what the copy manages: extents and its own blocks */
	struct heap_span *base; /* blocks with jemalloc's own structures, ascending */
	uint32_t base_count, base_capacity;
	uint64_t *slabs; /* edata of active slabs */
	uint32_t slab_count, slab_capacity;
	uint64_t in_use[JEMALLOC_MOST_BINS]; /* regions of slabs that are handed out, or cached */
	uint32_t first_block; /* its blocks are [first_block, count) and ascend */
};

typedef int jemalloc_visitor(struct jemalloc *jemalloc, const struct jemalloc_extent *extent);

extern const struct heap_radix_kind jemalloc_tree;
/* jemalloc_find.c. The description of an extent to which an entry of a leaf leads. */
uint64_t jemalloc_edata(uint64_t entry);
/* False: no table of size classes, or no layout whose slabs agree with themselves. */
bool jemalloc_recognise(struct jemalloc *jemalloc);
/* jemalloc_extents.c. Calls `visit` for each extent in order of addresses. */
int jemalloc_each_extent(struct jemalloc *jemalloc, jemalloc_visitor *visit);
bool jemalloc_extent_at(const struct jemalloc *jemalloc, const struct jemalloc_layout *layout,
			uint64_t edata, struct jemalloc_extent *ret);
/* Regions that are handed out by the bitmap of a slab; -1: it contradicts the slab's count. */
int64_t jemalloc_regions_in_use(const struct jemalloc *jemalloc,
				const struct jemalloc_extent *extent);
/* Bytes of the large block in an extent; 0: its class and the extent contradict each other. */
uint64_t jemalloc_large_size(const struct jemalloc *jemalloc, const struct jemalloc_extent *extent,
			     uint64_t pad);
/* jemalloc_base.c. Adds the block of jemalloc's own structures that holds an address. */
int jemalloc_add_base(struct jemalloc *jemalloc, uint64_t address);
/* jemalloc_cache.c. Leaves out what thread caches hold. */
int jemalloc_drop_cached(struct jemalloc *jemalloc);
/* jemalloc_bins.c. Reads what the bins of all arenas count. */
int jemalloc_read_counts(struct jemalloc *jemalloc);

#endif
