/* The page heap: runs are split off free runs, or off address space that was never accessible, and
 * merge with their free neighbours when they are freed. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "arena.h"
#include "lock.h"
#include "page_size.h"

static int reserve(struct mematlas_arena *arena)
{
	/* Aligned to huge pages, for programs that advise them. */
	uint64_t alignment = page_size_pmd(), length = arena->capacity + alignment;
	char *start =
		mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		return -errno;
	uint64_t before = -(uintptr_t)start & (alignment - 1);
	if (before)
		munmap(start, before);
	arena->base = start + before;
	munmap(arena->base + arena->capacity, length - arena->capacity - before);
	arena->heap.top = arena->base;
	return 0;
}

static uint64_t table_bytes(const struct mematlas_arena *arena)
{
	return (arena->capacity >> PAGE_BITS) * sizeof *arena->pages;
}

int page_heap_open(struct mematlas_arena *arena)
{
	int error = reserve(arena);

	if (error)
		return error;
	for (unsigned i = 0; i < BINS; i++)
		arena->heap.bins[i].next = arena->heap.bins[i].previous = &arena->heap.bins[i];
	void *table = mmap(NULL, table_bytes(arena), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;
	arena->pages = table;
	return 0;
}

void page_heap_close(struct mematlas_arena *arena)
{
	if (arena->base)
		munmap(arena->base, arena->capacity);
	if (arena->pages)
		munmap(arena->pages, table_bytes(arena));
}

static void set_page(struct mematlas_arena *arena, const char *address, struct run *run)
{
	atomic_store_explicit(&arena->pages[(uint64_t)(address - arena->base) >> PAGE_BITS], run,
			      memory_order_release);
}

void page_heap_set_ends(struct mematlas_arena *arena, struct run *run, struct run *to)
{
	set_page(arena, run->start, to);
	set_page(arena, run->start + (run->pages - 1) * PAGE, to);
}

/* Bin i holds runs of i + 1 pages; the last bin holds runs of BINS pages and more, unsorted. */
static unsigned bin_of(uint64_t pages)
{
	return pages < BINS ? (unsigned)pages - 1 : BINS - 1;
}

/* A descriptor for a run, or NULL. A reused one keeps its old fields except `next`: a reader
 * without the lock may still look at it, so descriptors are never unmapped. Heap's lock held, as
 * in all functions below that have no lock of their own. */
static struct run *new_run(struct mematlas_arena *arena)
{
	struct run *run = arena->heap.spare_runs;

	if (!run)
		return arena_metadata_alloc(arena, sizeof *run);
	arena->heap.spare_runs = run->next;
	return run;
}

static void recycle_run(struct mematlas_arena *arena, struct run *run)
{
	run->next = arena->heap.spare_runs;
	arena->heap.spare_runs = run;
}

/* Of a free run, at least. */
static uint64_t released_bytes_of(const struct run *run)
{
	return (run->pages - run->resident) * PAGE;
}

/* Before the run's `pages` or `resident` change, because both are subtracted from the sums. */
static void bin_remove(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;
	unsigned bin = bin_of(run->pages);

	run->previous->next = run->next;
	run->next->previous = run->previous;
	if (heap->bins[bin].next == &heap->bins[bin])
		heap->bin_bitmap[bin / 64] &= ~(1ull << bin % 64);
	heap->free_bytes -= run->pages * PAGE;
	heap->released_bytes -= released_bytes_of(run);
}

/* The neighbours must have been merged. Sets state, both entries in the page table and the sums. */
static void bin_insert(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;
	unsigned bin = bin_of(run->pages);

	SET(run->state, RUN_FREE);
	page_heap_set_ends(arena, run, run);
	run->next = heap->bins[bin].next;
	run->previous = &heap->bins[bin];
	run->next->previous = run->previous->next = run;
	heap->bin_bitmap[bin / 64] |= 1ull << bin % 64;
	heap->free_bytes += run->pages * PAGE;
	heap->released_bytes += released_bytes_of(run);
}

/* `address` may be below the reservation or at its end, where no run is. The caller holds the
 * heap's lock, so a run that is free stays free. */
static bool is_free(struct mematlas_arena *arena, const char *address, struct run **ret)
{
	*ret = arena_contains(arena, address) ? arena_run_at(arena, address) : NULL;
	return *ret && GET((*ret)->state) == RUN_FREE;
}

/* Add an adjacent free run to a run that is in no bin. */
static void absorb(struct mematlas_arena *arena, struct run *run, struct run *other)
{
	bin_remove(arena, other);
	page_heap_set_ends(arena, other, NULL);
	if (other->start < run->start)
		SET(run->start, other->start);
	run->pages += other->pages;
	run->resident += other->resident;
	recycle_run(arena, other);
}

/* Merge a run with its free neighbours. */
static struct run *merge(struct mematlas_arena *arena, struct run *run)
{
	struct run *other;

	if (is_free(arena, run->start - PAGE, &other))
		absorb(arena, run, other);
	if (is_free(arena, run->start + run->pages * PAGE, &other))
		absorb(arena, run, other);
	return run;
}

/* Release the memory of a free run. Where kernel pages are larger than PAGE, the parts of kernel
 * pages at both ends keep their memory, because a neighbour may be in use. A huge page released in
 * part would be split, and the next block there would be in base pages. */
static void release_run(struct mematlas_arena *arena, struct run *run)
{
	uint64_t mask = (arena->huge_page ? arena->huge_page : page_size_base()) - 1;
	uintptr_t start = ((uintptr_t)run->start + mask) & ~mask;
	uintptr_t end = ((uintptr_t)run->start + run->pages * PAGE) & ~mask;

	if (!run->resident || end <= start)
		return;
	if (madvise((void *)start, end - start, MADV_DONTNEED) != 0)
		return;
	uint32_t ends = run->pages - (uint32_t)((end - start) >> PAGE_BITS);
	uint32_t left = run->resident < ends ? run->resident : ends;
	arena->heap.returned_bytes += (run->resident - left) * PAGE;
	arena->heap.released_bytes += (run->resident - left) * PAGE;
	run->resident = left;
}

/* Makes more of the reservation accessible. Returns a free run of at least `pages` pages in its
 * bin, or NULL: end of the reservation, or no memory. The kernel commits pages when they are
 * touched, so the new part counts as released. */
static struct run *grow(struct mematlas_arena *arena, uint64_t pages)
{
	struct page_heap *heap = &arena->heap;
	uint64_t left = (uint64_t)(arena->base + arena->capacity - heap->top);
	uint64_t step = arena->huge_page > GROW_BYTES ? arena->huge_page : GROW_BYTES;
	uint64_t bytes = (pages * PAGE + step - 1) / step * step;

	if (bytes > left)
		bytes = left;
	struct run *run = bytes < pages * PAGE ? NULL : new_run(arena);
	if (!run)
		return NULL;
	if (mprotect(heap->top, bytes, PROT_READ | PROT_WRITE) != 0) {
		recycle_run(arena, run);
		return NULL;
	}
	SET(run->start, heap->top);
	run->pages = (uint32_t)(bytes >> PAGE_BITS);
	run->resident = 0;
	heap->top += bytes;
	run = merge(arena, run);
	bin_insert(arena, run);
	return run;
}

/* A free run that is long enough, or NULL; the run stays in its bin. All runs of a bin but the
 * last are equally long. In the last bin the shortest is taken, of equals the lowest, which
 * keeps the top of the heap free. */
static struct run *find_free(struct mematlas_arena *arena, uint64_t pages)
{
	struct page_heap *heap = &arena->heap;

	for (unsigned bin = bin_of(pages); bin < BINS - 1; bin++) {
		uint64_t word = heap->bin_bitmap[bin / 64] >> bin % 64;
		if (!word) {
			bin |= 63;
			continue;
		}
		bin += (unsigned)__builtin_ctzll(word);
		if (bin < BINS - 1)
			return heap->bins[bin].next;
	}
	struct run *best = NULL, *end = &heap->bins[BINS - 1];
	for (struct run *run = end->next; run != end; run = run->next)
		if (run->pages >= pages &&
		    (!best || run->pages < best->pages ||
		     (run->pages == best->pages && run->start < best->start)))
			best = run;
	return best;
}

/* Splits a run of exactly `pages` pages off a free run. The run is in no bin and has no entries in
 * the page table. */
static struct run *split_run(struct mematlas_arena *arena, uint64_t pages)
{
	struct run *run = find_free(arena, pages);

	if (!run)
		run = grow(arena, pages);
	if (!run)
		return NULL;
	struct run *rest = run->pages > pages ? new_run(arena) : NULL;
	if (run->pages > pages && !rest)
		return NULL;
	bin_remove(arena, run);
	page_heap_set_ends(arena, run, NULL);
	if (rest) {
		SET(rest->start, run->start + pages * PAGE);
		rest->pages = run->pages - (uint32_t)pages;
		rest->resident = run->resident < rest->pages ? run->resident : rest->pages;
		run->pages = (uint32_t)pages;
		bin_insert(arena, rest);
	}
	return run;
}

struct run *page_heap_alloc_run(struct mematlas_arena *arena, uint64_t pages)
{
	if (!arena_charge(arena, pages * PAGE))
		return NULL;
	struct run *run = split_run(arena, pages);
	if (!run)
		arena_uncharge(arena, pages * PAGE);
	return run;
}

/* A small part of a long run waits for more, because a call walks the whole run. */
static bool is_worth_release(const struct run *run)
{
	return run->resident >= RELEASE_PAGES || run->resident >= run->pages / 8;
}

void page_heap_free_run(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;

	arena_uncharge(arena, run->pages * PAGE);
	page_heap_set_ends(arena, run, NULL);
	run = merge(arena, run);
	bin_insert(arena, run);
	if (heap->free_bytes - heap->released_bytes > RETAIN_BYTES && is_worth_release(run))
		release_run(arena, run);
}

char *page_heap_alloc(struct mematlas_arena *arena, uint64_t pages)
{
	struct run *run = page_heap_alloc_run(arena, pages);

	if (!run)
		return NULL;
	char *start = run->start;
	recycle_run(arena, run);
	return start;
}

void page_heap_free(struct mematlas_arena *arena, char *start, uint32_t pages, uint32_t resident)
{
	struct run *run = new_run(arena);

	if (!run)
		return; /* leaks the pages until the arena is destroyed */
	SET(run->start, start);
	run->pages = pages;
	run->resident = resident;
	page_heap_free_run(arena, run);
}

void page_heap_trim(struct mematlas_arena *arena)
{
	struct page_heap *heap = &arena->heap;

	LOCK_SCOPE(&heap->lock);
	for (unsigned bin = 0; bin < BINS; bin++)
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next)
			release_run(arena, run);
}

bool page_heap_release(struct mematlas_arena *arena, char *start, uint64_t bytes)
{
	if (arena->huge_page || ((uintptr_t)start | bytes) & (page_size_base() - 1) ||
	    madvise(start, bytes, MADV_DONTNEED) != 0)
		return false;
	LOCK_SCOPE(&arena->heap.lock);
	arena->heap.returned_bytes += bytes;
	return true;
}

uint64_t page_heap_returned(struct mematlas_arena *arena)
{
	LOCK_SCOPE(&arena->heap.lock);
	return arena->heap.returned_bytes;
}

/* A free run in the right bin, with an entry at both ends and no free neighbour. */
static bool is_sound(struct mematlas_arena *arena, const struct run *run, unsigned bin)
{
	const char *end = run->start + run->pages * PAGE;
	struct run *other;

	if (GET(run->state) != RUN_FREE || bin_of(run->pages) != bin || run->resident > run->pages)
		return false;
	if (arena_run_at(arena, run->start) != run || arena_run_at(arena, end - PAGE) != run)
		return false;
	return !is_free(arena, run->start - PAGE, &other) && !is_free(arena, end, &other);
}

/* Verifies the equations beside struct page_heap, except for the one on spans. */
bool page_heap_is_sound(struct mematlas_arena *arena)
{
	struct page_heap *heap = &arena->heap;
	uint64_t free_bytes = 0, released_bytes = 0;

	for (unsigned bin = 0; bin < BINS; bin++) {
		bool listed = heap->bin_bitmap[bin / 64] >> bin % 64 & 1;
		if (listed != (heap->bins[bin].next != &heap->bins[bin]))
			return false;
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next) {
			if (!is_sound(arena, run, bin))
				return false;
			free_bytes += run->pages * PAGE;
			released_bytes += released_bytes_of(run);
		}
	}
	return free_bytes == heap->free_bytes && released_bytes == heap->released_bytes;
}
