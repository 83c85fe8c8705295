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

enum pool {
	POOL_NONE, /* bytes go to a named part; blocks here count as they lie */
	POOL_USER,
	POOL_HEAP,
	POOL_ARENA,
	POOL_PYMALLOC,
	POOL_ALLOCATOR,
	POOL_MAPPED, /* anonymous memory in which blocks were found */
	POOLS
};

#define NO_PART UINT32_MAX

struct tally {
	uint64_t covered, bare; /* resident bytes under blocks, and not */
	double estimate, variance;
	uint64_t whole, pinned; /* of `bare`: pages without a live byte, and beside live bytes */
};

#define NO_PAGE UINT64_MAX
#define PAGE_BLOCKS (TRACE_FILE_ALIGN / 16) /* of the largest page there is */

/* The page the sweep is on, as far as it has come. */
struct pinned_page {
	uint64_t number;
	enum pool pool;
	uint32_t bare, blocks;
	uint32_t sums[PAGE_BLOCKS], bytes[PAGE_BLOCKS]; /* of its live blocks */
};

/* Where the sweep is: what a byte of this mapping is when nobody else owns it. */
struct place {
	enum pool pool;
	uint32_t part;  /* with POOL_NONE */
	bool anonymous; /* private memory without a file: what owners speak of */
};

struct join {
	struct mematlas_collector *collector;
	struct process *process;
	struct vmas vmas;
	struct runs runs;
	struct spans blocks, owners;
	struct place place;
	uint32_t tracer_part, stack_part, anon_part;
	struct tally tallies[POOLS];
	struct pinned_page page;
	bool failed;
};

/* fragmentation.c: bytes [at, until) are of a block, or, NULL, bare. Called upwards, resident bytes alone. */
void pins_note(struct join *join, enum pool pool, const struct span *block, uint64_t at,
	       uint64_t until);
void pins_end(struct join *join);

/* places.c */
uint32_t part_index(struct join *join, uint32_t kind, const char *name);
struct place place_of(struct join *join, size_t i, const struct place *before);

/* discover_modules.c: executable mappings that no MODULE record told of */
void learn_modules(struct join *join);

#endif
