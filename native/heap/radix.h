/* Maps of two levels in a copied memory, from pages to what describes them: a root leads to leaves. */
#ifndef MEMATLAS_HEAP_RADIX_H
#define MEMATLAS_HEAP_RADIX_H

#include "heap.h"

#define HEAP_LOOK_ON (UINT64_MAX - 1) /* this entry does not tell */
#define HEAP_NO_LEAF UINT64_MAX

/* What the maps of an allocator have in common. */
struct heap_radix_kind {
	uint64_t root_words, leaf_words;
	uint32_t alignment; /* of leaves */
	uint32_t page_shift; /* each word of a leaf describes a page */
	uint32_t probes; /* entries of a leaf that are asked for its place */
	uint32_t origin; /* of findings */
	/* Which entry of the root a leaf is, by the word of its entry `number`; HEAP_LOOK_ON, HEAP_NO_LEAF. */
	uint64_t (*place)(const struct heap_image *image, uint64_t word, uint64_t number);
};

/* One map, and where the next one is looked for. Leaves ascend by what they describe. */
struct heap_radix {
	uint64_t root;
	struct {
		uint64_t address, describes;
	} *leaves;
	uint32_t leaf_count, leaf_capacity;
	size_t range;
	uint64_t offset;
};

/* Looks for the next map in the data of the program and its libraries; false: no more. */
bool heap_radix_find(struct heap *heap, const struct heap_radix_kind *kind,
		     struct heap_radix *radix);

#endif
