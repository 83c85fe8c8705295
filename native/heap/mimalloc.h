/* mimalloc 2 in a copied memory, found by content: also that inside CPython 3.13 and later. Source: types.h,
 * segment.c. Segments of 32 MiB hold the descriptions of their pages, and pages blocks of one size. */
#ifndef MEMATLAS_HEAP_MIMALLOC_H
#define MEMATLAS_HEAP_MIMALLOC_H

#include "heap.h"

#define MIMALLOC_SEGMENT (32ULL << 20) /* alignment of all segments, size of most */
#define MIMALLOC_SLICE 65536ULL
#define MIMALLOC_MOST_SLICES 513U
#define MIMALLOC_HUGE_SIZE (1ULL << 31) /* the block fills the page */

/* Offsets in struct mi_page_s, which is one entry of a segment's slices. */
struct mimalloc_layout {
	uint8_t entry; /* bytes of the structure */
	uint8_t used, used_bytes;
	uint8_t size, size_bytes; /* of blocks */
	uint8_t start; /* of the first block; 0: computed */
	uint8_t local_free, thread_free, heap;
	uint8_t keys; /* of its lists of free blocks, whose words are encoded; 0: they are not */
	bool tagged; /* of CPython without the GIL: pages tell whether they hold objects */
	uint8_t shift; /* how far the first block is behind the start of a page: enum mimalloc_shift */
};
enum mimalloc_shift { MIMALLOC_FIXED_SHIFT, MIMALLOC_BLOCK_SHIFT };
#define MIMALLOC_LAYOUTS 9U
extern const struct mimalloc_layout mimalloc_layouts[MIMALLOC_LAYOUTS];

/* slices[i] is a page of slice_count[i] slices or a slice inside of one. */
struct mimalloc_segment {
	uint64_t address, size;
	uint64_t thread; /* that owns it; 0: none, its thread ended */
	uint32_t slices; /* offset of the descriptions */
	uint32_t entries;
	uint8_t layout; /* index */
};

/* used == capacity - free - locally freed; live == used - freed by other threads */
struct mimalloc_page {
	uint64_t start, size; /* first block, bytes of each */
	uint64_t heap;
	uint32_t capacity, used;
	uint32_t listed; /* blocks in its free lists: those of other threads are counted in used */
	uint32_t thread_freed;
	bool objects; /* of CPython */
};

struct mimalloc_owner {
	uint64_t heap, thread;
	bool encoded; /* its list of free blocks is */
};

struct mimalloc {
	struct heap *heap;
	struct mematlas_heap_allocator *sum;
	struct mimalloc_segment *segments; /* ascending */
	uint32_t segment_count, segment_capacity;
	struct mimalloc_owner *owners; /* of pages */
	uint32_t owner_count, owner_capacity;
	struct heap_spans spans; /* segments, or pages of a map */
	uint8_t *live; /* of the blocks of the last page that was read */
	uint32_t first_block;
};

/* mimalloc_find.c. Lists all segments, with the layout that their pages agree with. */
int mimalloc_find(struct mimalloc *mimalloc);
/* mimalloc_pages.c. False: the entry is no page with blocks. *sound: its lists agree with its counts. */
bool mimalloc_read_page(struct mimalloc *mimalloc, const struct mimalloc_segment *segment,
			uint32_t slice, struct mimalloc_page *ret, bool *sound);
/* The slices of a page or of free memory that begins at `slice`; 0: the entries are damaged. */
uint32_t mimalloc_slice_count(const struct mimalloc *mimalloc,
			      const struct mimalloc_segment *segment, uint32_t slice);
/* The word of a list of free blocks at an address; `end` stands for the end of the list. */
bool mimalloc_next(const struct heap_image *image, uint64_t at, const uint64_t *keys, uint64_t end,
		   uint64_t *ret);
/* Blocks that the image does not have could be any number. */
bool mimalloc_in_image(const struct mimalloc *mimalloc, const struct mimalloc_page *page);
/* The first blocks of the lists of free blocks of a page, and how the lists are encoded. */
struct mimalloc_lists {
	uint64_t free, local, thread;
	uint64_t keys[2];
	bool encoded;
	uint64_t end; /* stands for the end of an encoded list: the page's description */
};
/* Marks which blocks of a page are live. False: its lists contradict its counts. */
bool mimalloc_read_lists(struct mimalloc *mimalloc, const struct mimalloc_lists *lists,
			 struct mimalloc_page *page);
/* mimalloc_map.c. Adds the blocks of mimalloc 3, which has no segments but a map of pages. */
int mimalloc_read_maps(struct mimalloc *mimalloc);
/* mimalloc.c. Adds the live blocks of a page. */
int mimalloc_add_page(struct mimalloc *mimalloc, const struct mimalloc_page *page);
/* mimalloc_delayed.c. Leaves out what other threads freed to the heaps of the pages' owners. */
void mimalloc_drop_delayed(struct mimalloc *mimalloc);

#endif
