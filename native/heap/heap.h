/* A heap in a copy of a process's memory: image, blocks, index of addresses, types, findings. */
#ifndef MEMATLAS_HEAP_HEAP_H
#define MEMATLAS_HEAP_HEAP_H

#include <stdbool.h>

#include "mematlas.h"

#define HEAP_NONE MEMATLAS_HEAP_NONE

struct heap_image {
	struct mematlas_heap_range *ranges; /* ascending, disjoint */
	size_t count;
	uint64_t page_size;
};

/* The range that holds `address`, or NULL. */
const struct mematlas_heap_range *heap_range(const struct heap_image *image, uint64_t address);
/* The copied bytes [address, address + size); NULL unless wholly inside one range. */
const void *heap_at(const struct heap_image *image, uint64_t address, size_t size);
/* The size of a block, or what the image has of it where the rest is far beyond the image: a damaged size. 0: no part. */
uint64_t heap_within(const struct heap_image *image, uint64_t address, uint64_t size);
/* The aligned or unaligned word at `address`; false: not in the image. */
bool heap_word(const struct heap_image *image, uint64_t address, uint64_t *ret);
/* Resident bytes of [address, address + size); all of them where the image does not know. */
uint64_t heap_resident(const struct heap_image *image, uint64_t address, uint64_t size);

/* count <= capacity; sorted: address[i] + size[i] <= address[i + 1] */
struct heap_blocks {
	uint64_t *address;
	uint64_t *size;
	uint32_t *type;
	uint8_t *origin;
	uint8_t *layout;
	uint32_t count;
	uint32_t capacity;
};

/* A bit for each granule of 8 bytes in which a block starts, in windows of 4 MiB.
 * rank[i] == number of bits before word i, those of all earlier windows included */
struct heap_index {
	uint64_t base; /* multiple of a window */
	uint64_t windows;
	uint32_t *
		coarse; /* windows: 0 none; HEAP_COVERED | block; else number of the window's bits + 1 */
	uint64_t *bits;
	uint32_t *rank;
	size_t coarse_bytes;
};

/* offset[0] == 0; offset[node] <= offset[node + 1]; offset[nodes] == edges */
struct heap_graph {
	uint32_t strong, groups, blocks, nodes;
	uint32_t *offset; /* nodes + 1 */
	uint32_t *edge;
	uint64_t edges, capacity;
	uint64_t most; /* edges <= most: containers that share one table must not multiply it */
	struct mematlas_heap_root *weak; /* roots of weak groups, ascending by group */
	uint64_t weak_count;
	uint32_t *parents; /* groups + 1; parents[0] is not used */
	uint8_t *ranks; /* groups + 1; ascending; ranks[0] is not used */
	uint32_t *dominator;
	uint64_t *retained, *retained_resident;
	uint32_t *retained_count;
	uint8_t *state; /* nodes */
	uint32_t *top;
	uint32_t *path, *path_top;
};

struct heap;
typedef void heap_visitor(void *to, uint64_t word);
/* Calls `visit` for each pointer of a block. */
typedef void heap_reader(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);

struct heap_python; /* what the interpreter's reader knows */

struct heap {
	struct heap_image image;
	struct heap_blocks blocks;
	struct heap_index index;
	struct heap_graph graph;
	heap_reader *readers[256]; /* by layout; NULL: as MEMATLAS_HEAP_WORDS */
	struct mematlas_heap_type *types;
	uint32_t *type_slots; /* open hash of types, index + 1 */
	uint32_t type_count, type_capacity, type_mask;
	struct mematlas_heap_finding *findings;
	uint32_t finding_count;
	uint64_t finding_total;
	uint64_t *resident;
	struct mematlas_heap_area *areas;
	uint32_t area_count, area_capacity;
	struct heap_python *python;
};

struct heap_span {
	uint64_t start, end;
};
/* count <= capacity */
struct heap_spans {
	struct heap_span *items;
	size_t count, capacity;
};
/* Lists a span, as a part of the last one if it begins where that ends. -ENOMEM */
int heap_note_span(struct heap_spans *spans, uint64_t start, uint64_t end);
/* Of one allocator. More are of a heap that was made up to be slow to read: each costs a pass over the image. */
#define HEAP_MOST_COPIES 16U
/* Leaves out the blocks that touch one of the ascending, disjoint spans, memory that another allocator
 * subdivides, and makes each a region. Call it before the blocks of that allocator are added. */
int heap_subdivide(struct heap *heap, const struct heap_span *spans, size_t count);
/* The same of spans in any order, which are sorted and merged. */
int heap_subdivide_all(struct heap *heap, struct heap_spans *spans);
bool heap_spans_are_disjoint(struct heap_span *spans, size_t count);
/* The block that begins at an address among those from number `first` on, which ascend but are not
 * indexed yet; HEAP_NONE: there is none. */
uint32_t heap_find_added(const struct heap *heap, uint32_t first, uint64_t address);
int heap_add_block(struct heap *heap, uint64_t address, uint64_t size, int origin);
/* Adds memory of an allocator whose counts and lists contradict each other as one block. */
int heap_add_torn(struct heap *heap, struct mematlas_heap_allocator *sum, int origin,
		  uint64_t start, uint64_t size);
#define HEAP_DROPPED 255 /* origin of a block that is to be left out */
/* Leaves out the blocks from number `first` on that are marked so. */
void heap_drop_blocks(struct heap *heap, uint32_t first);
int heap_add_area(struct heap *heap, uint64_t start, uint64_t end, int kind);
bool heap_in_area(const struct heap *heap, uint64_t address, int kind);
/* The start of the first area of a kind behind an address; UINT64_MAX: there is none. */
uint64_t heap_next_area(const struct heap *heap, uint64_t address, int kind);
/* False: the word leads to what stands before an object, where only the collector's lists lead. */
bool heap_is_reference(const struct heap *heap, uint32_t block, uint64_t word);
/* HEAP_NONE where no block holds `word`. */
uint32_t heap_find(const struct heap *heap, uint64_t word);
void heap_python_destroy(struct heap_python *python);
void heap_index_destroy(struct heap_index *index);
int heap_index_build(struct heap *heap);
void heap_visit(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);
/* The index of a type, made when it is new. -ENOMEM */
int64_t heap_type(struct heap *heap, int kind, uint64_t key);
void heap_finding(struct heap *heap, int kind, uint64_t address, uint64_t detail, uint32_t number);

#endif
