/* Blocks of any size out of one reservation of address space.
 *
 *   reservation   PROT_NONE, made accessible from its start as the arena grows
 *   page          8 KiB, the unit of runs, independent of the kernel's page size
 *   run           consecutive pages: free (merged with free neighbours), one block, or one span
 *   span          a run of equal slots of one size class, created for the threads of one shard
 *   magazine      stack of free slots of one class in a thread cache, refilled in batches
 *   large block   a mapping of its own, found in a table sorted by address
 *
 * The arena stores nothing in or beside a block, so no write of the program, in bounds or not,
 * corrupts the arena's state. slot.h says which thread owns a slot.
 *
 * Lock order: the registry of thread_cache.c, shards by number, page heap, large blocks. */
#ifndef MEMATLAS_ALLOC_ARENA_H
#define MEMATLAS_ALLOC_ARENA_H

#include <errno.h>
#include <string.h>

#include "magazine.h"
#include "remote_free.h"
#include "mematlas.h"

#define PAGE_BITS 13u
#define PAGE (1ull << PAGE_BITS)
/* Alignment of every block. A number of a unit in 32 bits reaches over CAPACITY_MAX. */
#define UNIT 16u
#define CLASSES 48u
#define MOVE_MAX 128u       /* slots moved between a magazine and its class at a time */
#define TRANSFER_BATCHES 4u /* that a class keeps ready for the next magazine */
#define SHARDS 8u /* groups of threads; two shards use slots of one span only after a steal */
#define SMALL_MAX 131072u
#define RELEASE_SLOT_MIN 40960u /* free slots of this size on are released one by one */
#define LARGE_MIN (2ull << 20) /* or the size of a huge page, if the arena has these */
#define GROW_BYTES (4ull << 20)    /* made accessible at a time */
#define RETAIN_BYTES (64ull << 20) /* free bytes kept resident before runs are released */
#define RELEASE_PAGES 128u /* of a run that is resident in part, released at a time */
#define BINS 128u /* lists of free runs by length in pages; the last bin holds all longer runs */
#define CAPACITY_MAX (1ull << 36)
#define BY_16_MAX 1024u /* largest size looked up in steps of 16 bytes; above, steps of 128 */

_Static_assert(CAPACITY_MAX / UNIT <= 1ull << 32, "a unit's number fits an item of a batch");
_Static_assert(CLASSES <= UINT8_MAX, "a class's index fits a byte");
_Static_assert(GROW_BYTES % PAGE == 0 && GROW_BYTES % 65536 == 0, "whole pages of any kernel");
_Static_assert(BINS % 64 == 0, "whole words of bin_bitmap");

/* A spare run has no pages. A span's run becomes spare rather than free, because while its entries
 * are removed from the page table, a reader must not merge the run with a neighbour. */
enum run_state { RUN_FREE, RUN_BLOCK, RUN_SPAN, RUN_SPARE };

/* A run of pages. The run of a span keeps its slot size and class for ever, so a thread with a
 * stale address still finds slots of the right number, which are free or owned by another cache.
 *
 *   in_span == (state == RUN_SPAN ? count : 0)
 *   span: free_count <= count, listed == (free_count > 0)
 *         count slots == free_count on the stack + in use + in magazines + in transfer caches
 *                        + in flight in batches
 *   free: resident <= pages; both neighbours are not free, and arena->pages leads to the run at both its ends */
struct run {
	_Alignas(64) char *_Atomic start;
	uint64_t reciprocal;      /* 2^64 / slot_size, rounded up */
	_Atomic uint64_t in_span; /* slots of a span, count; of any other run 0 */
	uint32_t magazine;        /* offset in a thread cache */
	uint32_t remote_limit;    /* slots of a batch of remote frees */
	uint32_t slot_size;
	uint32_t count; /* slots */
	uint32_t pages;
	_Atomic uint8_t state;
	bool listed;   /* span: in size_class->partial */
	struct size_class *size_class;
	uint16_t *free; /* stack of slot numbers */
	uint32_t free_count;
	uint32_t resident; /* free: pages that may have memory, at most */
	uint32_t released_slots; /* span: bit i, slot i is free and has no memory */
	struct run *next, *previous;
	struct run *next_in_class; /* links size_class->all */
	uint8_t *marks;            /* for mematlas_arena_check() only; by slot */
};

_Static_assert(offsetof(struct run, free) < 64 && sizeof(struct run) % 64 == 0,
	       "a free reads one cache line of the run");

/* Of a span. */
static inline struct slot *run_slots(const struct run *run)
{
	return (struct slot *)(run + 1);
}

/* The spans of one class in one shard.
 *
 *   empty == spans in `partial` with free_count == count
 *   transferred <= (transfer ? TRANSFER_BATCHES * batch_size : 0)
 *   each run of `all` is in use as a span or in `spare_runs` */
struct size_class {
	_Alignas(TCACHE_LINE) pthread_mutex_t *lock; /* of the shard; guards the rest */
	uint32_t size;       /* bytes of a slot */
	uint32_t batch_size; /* slots moved at a time, 2 .. MOVE_MAX */
	uint32_t pages;      /* of a span */
	uint8_t index;
	uint32_t empty;
	struct run partial; /* list head; spans with free slots */
	struct run *spare_runs;
	struct run *all;
	/* Transfer cache: a stack of free slots that magazines gave up, also of spans of other
	 * shards. NULL until the first. */
	struct free_slot *transfer;
	uint32_t transferred;
};

struct shard {
	_Alignas(TCACHE_LINE) pthread_mutex_t lock;
	struct size_class classes[CLASSES];
};

/* Free runs and blocks of whole pages.
 *
 *   span bytes + block_bytes + free_bytes == top - base
 *   free_bytes == sum over bins of run->pages * PAGE
 *   released_bytes == sum over bins of (run->pages - run->resident) * PAGE
 *   bit i of bin_bitmap == bin i is not empty */
struct page_heap {
	_Alignas(TCACHE_LINE) pthread_mutex_t lock; /* guards the rest */
	char *top; /* end of the accessible part of the reservation */
	uint64_t free_bytes;
	uint64_t released_bytes; /* the part of free_bytes without memory, at least */
	uint64_t block_bytes, blocks;
	uint64_t returned_bytes; /* to the kernel since creation, in total */
	uint64_t bin_bitmap[BINS / 64];
	struct run bins[BINS]; /* list heads */
	struct run *spare_runs;
	/* Bump allocator of run descriptors, slots and stacks. Unmapped with the arena only,
	 * because readers without a lock may follow stale pointers. */
	char *metadata, *metadata_end;
	struct metadata_chunk *metadata_chunks;
};

struct large_block {
	char *start;
	uint64_t size;
};

/*   count <= capacity
 *   bytes == sum of blocks[i].size
 *   blocks[i].start + blocks[i].size <= blocks[i + 1].start */
struct large_heap {
	_Alignas(TCACHE_LINE) pthread_mutex_t lock; /* guards the rest */
	struct large_block *blocks;
	uint64_t count, capacity, bytes;
};

struct mematlas_arena {
	char *base;
	uint64_t capacity; /* bytes */
	/* charged == span bytes + heap.block_bytes + large.bytes <= capacity */
	_Atomic uint64_t charged;
	struct mematlas_arena_placement placement;
	uint64_t huge_page; /* bytes of a transparent huge page; 0: placed in base pages */
	/* By page: the run of a span at all its pages, any other run at its first and last page. */
	struct run *_Atomic *pages;
	/* The offset of the magazine for size (i - 1) * 16 + 1 .. i * 16. */
	uint16_t by_16[BY_16_MAX / 16 + 1];
	uint16_t by_128[SMALL_MAX / 128 + 1]; /* the same in steps of 128 */
	struct tcache_group group;
	_Atomic uint64_t failed_allocs;
	struct shard shards[SHARDS];
	struct page_heap heap;
	struct large_heap large;
};

struct arena_tcache {
	struct tcache base;
	struct magazine magazines[CLASSES];
	struct free_slot slots[]; /* of all magazines, one after another */
};

static inline uint32_t magazine_offset(unsigned class)
{
	return (uint32_t)(offsetof(struct arena_tcache, magazines) +
			  class * sizeof(struct magazine));
}

static inline struct magazine *arena_magazine(struct arena_tcache *tcache, uint32_t offset)
{
	return (struct magazine *)((char *)tcache + offset);
}

static inline bool arena_contains(const struct mematlas_arena *arena, const void *address)
{
	return (uint64_t)((const char *)address - arena->base) < arena->capacity;
}

/* The run that the page table has for an address inside the reservation, or NULL. */
static inline struct run *arena_run_at(const struct mematlas_arena *arena, const void *address)
{
	uint64_t page = (uint64_t)((const char *)address - arena->base) >> PAGE_BITS;

	return atomic_load_explicit(&arena->pages[page], memory_order_acquire);
}

/* The slot that begins at an address of the reservation, or NULL, also if the run is no span. The
 * lower half of the product is the remainder of the division, scaled: below the reciprocal only for
 * remainder 0. The invariants test tries all addresses of all classes. */
static inline struct slot *run_slot_at(struct run *run, const void *address)
{
	uint64_t offset = (uint64_t)((const char *)address - GET(run->start));
	unsigned __int128 product = (unsigned __int128)offset * run->reciprocal;
	uint64_t number = (uint64_t)(product >> 64);

	return (uint64_t)product < run->reciprocal && number < GET(run->in_span)
		       ? &run_slots(run)[number]
		       : NULL;
}

/* The slot that begins at an address anywhere, or NULL. */
static inline struct slot *arena_slot_at(const struct mematlas_arena *arena, const void *address,
					 struct run **ret)
{
	struct run *run = arena_contains(arena, address) ? arena_run_at(arena, address) : NULL;

	*ret = run;
	return run ? run_slot_at(run, address) : NULL;
}

/* The classes of all shards as one array of SHARDS * CLASSES. */
static inline struct size_class *arena_class_at(struct mematlas_arena *arena, unsigned number)
{
	return &arena->shards[number / CLASSES].classes[number % CLASSES];
}

/* The class in the shard of a thread cache. */
static inline struct size_class *arena_class_for(struct mematlas_arena *arena,
						 struct arena_tcache *tcache,
						 const struct magazine *magazine)
{
	ptrdiff_t index = magazine - tcache->magazines;

	return &arena->shards[tcache->base.id % SHARDS].classes[index];
}

/* Smaller blocks are runs of the reservation. In an arena of huge pages a block below the size of
 * one shares a huge page with others. */
static inline uint64_t arena_large_min(const struct mematlas_arena *arena)
{
	return arena->huge_page > LARGE_MIN ? arena->huge_page : LARGE_MIN;
}

/* False: the capacity is used up. */
static inline bool arena_charge(struct mematlas_arena *arena, uint64_t bytes)
{
	uint64_t seen = GET(arena->charged);

	do
		if (bytes > arena->capacity - seen)
			return false;
	while (!atomic_compare_exchange_weak_explicit(&arena->charged, &seen, seen + bytes,
						      memory_order_relaxed, memory_order_relaxed));
	return true;
}

static inline void arena_uncharge(struct mematlas_arena *arena, uint64_t bytes)
{
	atomic_fetch_sub_explicit(&arena->charged, bytes, memory_order_relaxed);
}

static inline struct mematlas_arena *arena_of_group(struct tcache_group *group)
{
	return (void *)((char *)group - offsetof(struct mematlas_arena, group));
}

/* arena_place.c */
/* mbind(2) and madvise(2) of memory that nobody has touched. Returns 0 or -errno. */
int arena_place_range(const struct mematlas_arena *arena, char *start, uint64_t bytes);

/* arena_metadata.c */
/* Zeroed memory that lives as long as the arena, or NULL. Heap's lock held. */
void *arena_metadata_alloc(struct mematlas_arena *arena, uint64_t bytes);
void arena_metadata_close(struct mematlas_arena *arena);

/* page_heap.c */
/* Returns 0 or -errno. page_heap_close() follows in either case. */
int page_heap_open(struct mematlas_arena *arena);
void page_heap_close(struct mematlas_arena *arena);
/* Pages without an entry in the page table, or NULL. Heap's lock held. */
char *page_heap_alloc(struct mematlas_arena *arena, uint64_t pages);
/* At most `resident` of the pages have memory. */
void page_heap_free(struct mematlas_arena *arena, char *start, uint32_t pages, uint32_t resident);
/* A run of exactly `pages` pages, in no bin and without entries in the page table, or NULL. Heap's lock
 * held, as in the next two. */
struct run *page_heap_alloc_run(struct mematlas_arena *arena, uint64_t pages);
/* Take a run that is in no bin. */
void page_heap_free_run(struct mematlas_arena *arena, struct run *run);
/* Set the entries of the first and the last page. */
void page_heap_set_ends(struct mematlas_arena *arena, struct run *run, struct run *to);
/* Release all free runs. */
void page_heap_trim(struct mematlas_arena *arena);
/* Release the memory of a free slot. False, and nothing is changed, if the slot is not made of whole
 * pages of the kernel. */
bool page_heap_release(struct mematlas_arena *arena, char *start, uint64_t bytes);
/* The bytes returned to the kernel since creation. */
uint64_t page_heap_returned(struct mematlas_arena *arena);
bool page_heap_is_sound(struct mematlas_arena *arena);

/* page_blocks.c */
void *page_heap_alloc_block(struct mematlas_arena *arena, uint64_t size);
/* Returns 0; -EALREADY: free; -EINVAL: not the start of a block; -EFAULT: never allocated. */
int page_heap_free_block(struct mematlas_arena *arena, void *block);
/* Returns bytes, or an error as above. */
int64_t page_heap_block_size(struct mematlas_arena *arena, const void *block);

/* arena_large.c */
void *arena_large_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment);
/* Returns 0; -EINVAL: inside a block; -EFAULT: in no block. */
int arena_large_free(struct mematlas_arena *arena, void *block);
/* Returns bytes, or an error as above. */
int64_t arena_large_size(struct mematlas_arena *arena, const void *block);
/* Returns 0, -ENOMEM, or an error as above. -EFAULT for a block, too: it consists of several
 * mappings. */
int arena_large_resize(struct mematlas_arena *arena, void **block, uint64_t size);
void arena_large_close(struct mematlas_arena *arena);
bool arena_large_is_sound(struct mematlas_arena *arena);

/* size_class.c */
void size_class_init_all(struct mematlas_arena *arena);
/* Move up to a batch of free slots into an empty magazine. Creates a span only if `may_grow`.
 * Returns the number of slots. */
uint32_t size_class_refill(struct mematlas_arena *arena, struct size_class *class,
			   struct magazine *magazine, bool may_grow);
/* Move `count` slots out of a magazine. */
void size_class_flush(struct mematlas_arena *arena, struct size_class *class,
		      struct magazine *magazine, uint32_t count);
/* Give the pages of empty spans to the page heap until `keep` empty spans are left. Class's lock
 * held. */
void size_class_release_empty(struct mematlas_arena *arena, struct size_class *class,
			      uint32_t keep);
/* Give the slots of transfer caches back to their spans, and the pages of all empty spans back to
 * the page heap. */
void arena_release_spans(struct mematlas_arena *arena);
/* Release the memory of free slots of several pages. */
void arena_release_slots(struct mematlas_arena *arena);
/* Insert a span in `partial`, or remove the span, as free_count and state require. Class's lock
 * held. */
void size_class_relist(struct size_class *class, struct run *run);

/* arena_alloc.c */
size_t arena_tcache_size(struct mematlas_arena *arena);
void arena_tcache_init(struct tcache_group *group, struct tcache *tcache);
struct arena_tcache *arena_tcache_join(struct mematlas_arena *arena);
void arena_tcache_flush(struct tcache_group *group, struct tcache *tcache);
/* Reclaim the slots in the remote queues of all threads. */
void arena_tcache_collect(struct mematlas_arena *arena, struct arena_tcache *tcache);

/* arena_check.c */
void arena_rebuild(struct tcache_group *group);

#endif
