/* The sweep of the residency join: which span, pool and stack each resident byte belongs to. */
#ifndef MEMATLAS_COLLECTOR_SWEEP_H
#define MEMATLAS_COLLECTOR_SWEEP_H

#include <stdlib.h>

#include "../cleanup.h"
#include "join.h"
#include "sharing.h"

enum owner {
	BLOCK_MALLOC,
	BLOCK_PYOBJECT,
	OWNER_USER,      /* a mapping by the program, which owns bytes that no block covers */
	OWNER_ALLOCATOR, /* a mapping by an allocator */
	OWNER_PYMALLOC,
	OWNER_FILEMAP, /* bytes count for the file, and for the stack that mapped it */
	OWNER_SHARED,  /* bytes count for shared memory, and for the stack that mapped it */
	OWNER_STACK,
	OWNER_TRACER
};

struct span {
	uint64_t start, end;
	uint32_t stats;
	uint16_t owner; /* enum owner */
	uint16_t always;
};

/* Sorted by start. `at` is the first that ends after the sweep's address. The sweep only moves
 * up. */
struct spans {
	struct span *items;
	size_t count, at;
};

int spans_of_blocks(const struct blocks *blocks, struct spans *ret);
int spans_of_owners(struct process *process, struct spans *ret);
int spans_of_before(const struct ranges *before, struct spans *ret);

/* The span at `address`, or NULL. *end is lowered to where the answer changes. */
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
	POOL_NONE, /* bytes go to a named part; blocks in it count as they lie */
	POOL_USER,
	POOL_HEAP,
	POOL_ARENA,
	POOL_PYMALLOC,
	POOL_ALLOCATOR,
	POOL_MAPPED, /* anonymous memory in which blocks were found */
	POOLS
};

#define NO_PART UINT32_MAX
#define NO_OWNER UINT32_MAX

/* Resident bytes of one pool: free_pages + held_free <= uncovered */
struct pool_stats {
	uint64_t covered, uncovered; /* under blocks, and not */
	uint64_t before; /* not under blocks, and resident when tracing began */
	double estimate, variance;   /* of live bytes */
	uint64_t free_pages;         /* pages without a live byte */
	uint64_t held_free;          /* free bytes on pages with live ones */
};

#define NO_PAGE UINT64_MAX
#define MIN_BLOCK 16
#define PAGE_BLOCKS (TRACE_FILE_ALIGN / MIN_BLOCK) /* of the largest page there is */

/* The page the sweep is on, up to the sweep's address. */
struct page_usage {
	uint64_t number;
	enum pool pool;
	uint32_t uncovered, blocks;
	uint32_t stats[PAGE_BLOCKS], bytes[PAGE_BLOCKS]; /* of its live blocks */
};

/* Where bytes of a mapping go that no span owns. */
struct vma_class {
	enum pool pool;
	uint32_t part;  /* with POOL_NONE */
	uint32_t
		copies; /* part + 1 of the pages of a private file mapping that were written; 0: none */
	bool anonymous; /* private memory without a file; owners of other memory are stale */
};

/* How many processes map a page: 2 <= least <= most, or both 0: unknown. */
struct sharers {
	uint32_t least, most;
};

struct join {
	struct mematlas_collector *collector;
	struct process *process;
	struct vmas vmas;
	struct sharing sharing;
	struct runs runs;
	struct spans blocks, owners, before;
	struct vma_class class; /* of the mapping the sweep is in */
	uint32_t tracer_part, stack_part, anon_part, before_part;
	struct pool_stats pools[POOLS];
	struct page_usage page;
	float share; /* of the run the sweep is in, as */
	uint32_t processes;
	uint32_t family; /* running processes that may share pages with this one, itself counted */
	uint32_t cow_part; /* for `cow_sharers` */
	struct sharers cow_sharers; /* most 1: none yet */
	struct fault_sites touched;
	uint32_t asked; /* the look that the process waits for */
	uint64_t rss_before; /* by the kernel's counters, before the pages were read; 0: unknown */
	bool failed; /* no memory */
};

/* A scope guard. */
static inline void join_free(struct join *join)
{
	vmas_free(&join->vmas);
	sharing_free(&join->sharing);
	free(join->runs.items);
	free(join->blocks.items);
	free(join->owners.items);
	free(join->before.items);
	free(join->touched.items);
	free(join->touched.table);
}

/* fragmentation.c: bytes [at, until) are resident and belong to `block`, or to none (NULL).
 * Addresses ascend from call to call. */
void fragmentation_add(struct join *join, enum pool pool, const struct span *block, uint64_t at,
		       uint64_t until);
void fragmentation_finish(struct join *join);

/* vma_class.c */
bool is_glibc_arena(const struct vmas *vmas, size_t i);
uint32_t part_index(struct join *join, uint32_t kind, const char *name);
struct vma_class vma_class_of(struct join *join, size_t i);

/* touches.c: resident bytes of memory that no block covers */
void touches_sweep(struct join *join, uint32_t owner, uint64_t at, uint64_t until);

/* discover_modules.c: executable mappings without a MODULE record */
void discover_modules(struct join *join);

/* moment.c: reads all that the sweep goes over. */
int moment_read(struct join *join, struct mematlas_account *account);

#endif
