/* The sweep's intervals: who owns which addresses. */
#ifndef MEMATLAS_COLLECTOR_SWEEP_H
#define MEMATLAS_COLLECTOR_SWEEP_H

#include "join.h"

enum owner {
	BLOCK_MALLOC,
	BLOCK_PYOBJECT,
	OWNER_USER,      /* a mapping the program made: what no block covers is its own */
	OWNER_ALLOCATOR, /* a mapping an allocator made */
	OWNER_PYMALLOC,
	OWNER_FILEMAP, /* the mapping's file gets the bytes, the stack is told them too */
	OWNER_STACK,
	OWNER_TRACER
};

struct span {
	uint64_t start, end;
	uint32_t sum;
	uint16_t owner; /* enum owner */
	uint16_t always;
};

/* Sorted by start. `at` is the first that may still matter: sweeps go upwards only. */
struct spans {
	struct span *items;
	size_t count, at;
};

int spans_of_blocks(const struct blocks *blocks, struct spans *spans);
int spans_of_owners(const struct process *process, struct spans *spans);

/* The span at `address`, or NULL; `*end` is cut to where that answer stops being true. */
static inline const struct span *span_at(struct spans *spans, uint64_t address, uint64_t *end)
{
	while (spans->at < spans->count && spans->items[spans->at].end <= address)
		spans->at++;
	if (spans->at == spans->count)
		return NULL;
	const struct span *span = &spans->items[spans->at];
	if (span->start > address) {
		if (span->start < *end)
			*end = span->start;
		return NULL;
	}
	if (span->end < *end)
		*end = span->end;
	return span;
}

#endif
