/* tcmalloc of gperftools in a copied memory, found by content. Source: span.h, pagemap.h, thread_cache.h,
 * central_freelist.h. */
#ifndef MEMATLAS_HEAP_TCMALLOC_H
#define MEMATLAS_HEAP_TCMALLOC_H

#include "radix.h"

#define TCMALLOC_PAGE_SHIFT 13
#define TCMALLOC_CLASSES 128U
#define TCMALLOC_MOST_BLOCKS 65536U /* of a span */
#define TCMALLOC_LEAF (1ULL << 18) /* words of a leaf of the page map */
#define TCMALLOC_ROOT (1ULL << 17)
#define TCMALLOC_LEAF_BYTES (TCMALLOC_LEAF * 8)

/* struct Span. For a span with blocks of one size: blocks == handed out + listed */
struct tcmalloc_span {
	uint64_t start, size; /* bytes */
	uint64_t objects; /* free blocks */
	uint32_t handed_out; /* those in caches included */
	uint32_t size_class; /* 0: the span is one block */
	bool in_use;
};

struct tcmalloc {
	struct heap *heap;
	struct mematlas_heap_allocator *sum;
	struct heap_radix map;
	uint32_t classes[TCMALLOC_CLASSES]; /* bytes of a block; classes[0] == 0 */
	uint32_t class_count;
	uint64_t listed[TCMALLOC_CLASSES]; /* blocks in lists of spans */
	uint8_t *live; /* of the blocks of the last span that was read */
	struct heap_spans spans;
	uint32_t first_block; /* its blocks are [first_block, count) and ascend */
};

typedef int tcmalloc_visitor(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span);

extern const struct heap_radix_kind tcmalloc_map;
/* tcmalloc_find.c. False: no table of size classes, or spans that contradict their counts. */
bool tcmalloc_recognise(struct tcmalloc *tcmalloc);
/* tcmalloc_spans.c. Calls `visit` for each span in order of addresses. */
int tcmalloc_each_span(struct tcmalloc *tcmalloc, tcmalloc_visitor *visit);
/* Marks which blocks of a span are handed out. False: its list and its count contradict each other. */
bool tcmalloc_read_blocks(struct tcmalloc *tcmalloc, const struct tcmalloc_span *span,
			  uint32_t *count);
/* tcmalloc_cache.c. Leaves out what caches of threads and of size classes hold. */
void tcmalloc_drop_cached(struct tcmalloc *tcmalloc);

#endif
