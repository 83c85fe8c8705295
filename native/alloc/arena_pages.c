/* Runs of pages: taken from free runs, which are split, or from new address space; merged when given back. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "arena.h"

#define STORE (1ull << 20)

struct store {
	struct store *next;
	uint64_t bytes;
};

static void *map(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int pages_open(struct mematlas_arena *arena)
{
	uint64_t table = (arena->capacity >> PAGE_BITS) * sizeof *arena->pages;
	/* On a boundary of huge pages, for those who ask for them. */
	uint64_t around = arena->capacity + (2ull << 20);
	char *base =
		mmap(NULL, around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -errno;
	uint64_t before = -(uintptr_t)base & ((2ull << 20) - 1);
	if (before)
		munmap(base, before);
	arena->base = base + before;
	munmap(arena->base + arena->capacity, around - arena->capacity - before);
	arena->heap.top = arena->base;
	for (unsigned i = 0; i < BINS; i++)
		arena->heap.bins[i].next = arena->heap.bins[i].previous = &arena->heap.bins[i];
	arena->pages = map(table);
	return arena->pages ? 0 : -ENOMEM;
}

void pages_close(struct mematlas_arena *arena)
{
	for (struct store *next, *store = arena->heap.stores; store; store = next) {
		next = store->next;
		munmap(store, store->bytes);
	}
	if (arena->base)
		munmap(arena->base, arena->capacity);
	if (arena->pages)
		munmap(arena->pages, (arena->capacity >> PAGE_BITS) * sizeof *arena->pages);
}

void *pages_store(struct mematlas_arena *arena, uint64_t bytes)
{
	struct page_heap *heap = &arena->heap;

	bytes = (bytes + 63) & ~63ull;
	if ((uint64_t)(heap->store_end - heap->store) < bytes) {
		uint64_t room = bytes + 64 > STORE ? bytes + 64 : STORE;
		struct store *store = map(room);
		if (!store)
			return NULL;
		*store = (struct store){.next = heap->stores, .bytes = room};
		heap->stores = store;
		heap->store = (char *)store + 64;
		heap->store_end = (char *)store + room;
	}
	void *memory = heap->store;
	heap->store += bytes;
	return memory;
}

static void set_page(struct mematlas_arena *arena, const char *address, struct run *run)
{
	atomic_store_explicit(&arena->pages[(uint64_t)(address - arena->base) >> PAGE_BITS], run,
			      memory_order_release);
}

static void set_ends(struct mematlas_arena *arena, struct run *run, struct run *to)
{
	set_page(arena, run->start, to);
	set_page(arena, run->start + (run->pages - 1) * PAGE, to);
}

static unsigned bin_of(uint64_t pages)
{
	return pages < BINS ? (unsigned)pages - 1 : BINS - 1;
}

static struct run *make_run(struct mematlas_arena *arena)
{
	struct run *run = arena->heap.idle;

	if (!run)
		return pages_store(arena, sizeof *run);
	arena->heap.idle = run->next;
	return run;
}

static void drop_run(struct mematlas_arena *arena, struct run *run)
{
	run->next = arena->heap.idle;
	arena->heap.idle = run;
}

static void unlist(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;
	unsigned bin = bin_of(run->pages);

	run->previous->next = run->next;
	run->next->previous = run->previous;
	if (heap->bins[bin].next == &heap->bins[bin])
		heap->bitmap[bin / 64] &= ~(1ull << bin % 64);
	heap->free_bytes -= run->pages * PAGE;
	if (run->released)
		heap->released_bytes -= run->pages * PAGE;
}

static void list(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;
	unsigned bin = bin_of(run->pages);

	SET(run->state, RUN_FREE);
	set_ends(arena, run, run);
	run->next = heap->bins[bin].next;
	run->previous = &heap->bins[bin];
	run->next->previous = run->previous->next = run;
	heap->bitmap[bin / 64] |= 1ull << bin % 64;
	heap->free_bytes += run->pages * PAGE;
	if (run->released)
		heap->released_bytes += run->pages * PAGE;
}

static bool is_free(struct mematlas_arena *arena, const char *address, struct run **ret)
{
	*ret = in_reservation(arena, address) ? run_at(arena, address) : NULL;
	return *ret && GET((*ret)->state) == RUN_FREE;
}

/* Makes one free run of a run and its free neighbours. */
static struct run *merge(struct mematlas_arena *arena, struct run *run)
{
	struct run *other;

	if (is_free(arena, run->start - PAGE, &other)) {
		unlist(arena, other);
		set_ends(arena, other, NULL);
		SET(run->start, other->start);
		run->pages += other->pages;
		run->released &= other->released;
		drop_run(arena, other);
	}
	if (is_free(arena, run->start + run->pages * PAGE, &other)) {
		unlist(arena, other);
		set_ends(arena, other, NULL);
		run->pages += other->pages;
		run->released &= other->released;
		drop_run(arena, other);
	}
	return run;
}

static void release(struct mematlas_arena *arena, struct run *run)
{
	if (run->released || madvise(run->start, run->pages * PAGE, MADV_DONTNEED) != 0)
		return;
	run->released = true;
	arena->heap.returned += run->pages * PAGE;
	arena->heap.released_bytes += run->pages * PAGE;
}

static struct run *grow(struct mematlas_arena *arena, uint64_t pages)
{
	struct page_heap *heap = &arena->heap;
	uint64_t left = (uint64_t)(arena->base + arena->capacity - heap->top);
	uint64_t bytes = (pages * PAGE + GROWTH - 1) / GROWTH * GROWTH;

	if (bytes > left)
		bytes = left;
	struct run *run = bytes < pages * PAGE ? NULL : make_run(arena);
	if (!run)
		return NULL;
	if (mprotect(heap->top, bytes, PROT_READ | PROT_WRITE) != 0) {
		drop_run(arena, run);
		return NULL;
	}
	SET(run->start, heap->top);
	run->pages = (uint32_t)(bytes >> PAGE_BITS);
	run->released = true;
	heap->top += bytes;
	run = merge(arena, run);
	list(arena, run);
	return run;
}

static struct run *find_free(struct mematlas_arena *arena, uint64_t pages)
{
	struct page_heap *heap = &arena->heap;

	for (unsigned bin = bin_of(pages); bin < BINS - 1; bin++) {
		uint64_t word = heap->bitmap[bin / 64] >> bin % 64;
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

/* A run of exactly so many pages, in no list; its ends are set for the caller to set anew. */
static struct run *take_run(struct mematlas_arena *arena, uint64_t pages)
{
	struct run *run = find_free(arena, pages);

	if (!run)
		run = grow(arena, pages);
	if (!run)
		return NULL;
	struct run *rest = run->pages > pages ? make_run(arena) : NULL;
	if (run->pages > pages && !rest)
		return NULL;
	unlist(arena, run);
	set_ends(arena, run, NULL);
	if (rest) {
		SET(rest->start, run->start + pages * PAGE);
		rest->pages = run->pages - (uint32_t)pages;
		rest->released = run->released;
		run->pages = (uint32_t)pages;
		list(arena, rest);
	}
	run->released = false;
	return run;
}

static void give_run(struct mematlas_arena *arena, struct run *run)
{
	struct page_heap *heap = &arena->heap;

	run->released = false;
	set_ends(arena, run, NULL);
	run = merge(arena, run);
	list(arena, run);
	if (heap->free_bytes - heap->released_bytes > RETAINED)
		release(arena, run);
}

char *pages_take(struct mematlas_arena *arena, uint64_t pages)
{
	struct run *run = take_run(arena, pages);

	if (!run)
		return NULL;
	char *start = run->start;
	drop_run(arena, run);
	return start;
}

void pages_give(struct mematlas_arena *arena, char *start, uint64_t pages)
{
	struct run *run = make_run(arena);

	if (!run)
		return; /* no memory to remember them by: lost until the arena closes */
	SET(run->start, start);
	run->pages = (uint32_t)pages;
	give_run(arena, run);
}

void *pages_take_block(struct mematlas_arena *arena, uint64_t size)
{
	uint64_t pages = (size + PAGE - 1) >> PAGE_BITS;

	pthread_mutex_lock(&arena->heap.lock);
	struct run *run = take_run(arena, pages);
	if (run) {
		SET(run->state, RUN_BLOCK);
		set_ends(arena, run, run);
		arena->heap.block_bytes += pages * PAGE;
		arena->heap.blocks++;
	}
	pthread_mutex_unlock(&arena->heap.lock);
	return run ? run->start : NULL;
}

/* What is wrong with an address that is no block's start. */
static int explain(struct mematlas_arena *arena, const char *address)
{
	struct page_heap *heap = &arena->heap;

	if (address >= heap->top)
		return -EFAULT;
	for (unsigned bin = 0; bin < BINS; bin++)
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next)
			if (address >= run->start && address < run->start + run->pages * PAGE)
				return -EALREADY;
	return -EINVAL;
}

int pages_give_block(struct mematlas_arena *arena, void *block)
{
	pthread_mutex_lock(&arena->heap.lock);
	struct run *run = run_at(arena, block);
	bool ours = run && GET(run->state) == RUN_BLOCK && run->start == (char *)block;
	int error = ours ? 0 : explain(arena, block);
	if (ours) {
		arena->heap.block_bytes -= run->pages * PAGE;
		arena->heap.blocks--;
		give_run(arena, run);
	}
	pthread_mutex_unlock(&arena->heap.lock);
	return error;
}

int64_t pages_block_size(struct mematlas_arena *arena, const void *block)
{
	pthread_mutex_lock(&arena->heap.lock);
	struct run *run = run_at(arena, block);
	bool ours = run && GET(run->state) == RUN_BLOCK && run->start == (const char *)block;
	int64_t size = ours ? (int64_t)(run->pages * PAGE) : explain(arena, block);
	pthread_mutex_unlock(&arena->heap.lock);
	return size;
}

uint64_t pages_trim(struct mematlas_arena *arena)
{
	struct page_heap *heap = &arena->heap;

	pthread_mutex_lock(&heap->lock);
	uint64_t before = heap->returned;
	for (unsigned bin = 0; bin < BINS; bin++)
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next)
			release(arena, run);
	uint64_t returned = heap->returned - before;
	pthread_mutex_unlock(&heap->lock);
	return returned;
}

/* Free runs are as long as they say, listed once, and have no free neighbour. */
bool pages_sound(struct mematlas_arena *arena)
{
	struct page_heap *heap = &arena->heap;
	uint64_t free_bytes = 0, released = 0;
	struct run *other;

	for (unsigned bin = 0; bin < BINS; bin++)
		for (struct run *run = heap->bins[bin].next; run != &heap->bins[bin];
		     run = run->next) {
			if (GET(run->state) != RUN_FREE || bin_of(run->pages) != bin ||
			    run_at(arena, run->start) != run ||
			    run_at(arena, run->start + (run->pages - 1) * PAGE) != run ||
			    is_free(arena, run->start - PAGE, &other) ||
			    is_free(arena, run->start + run->pages * PAGE, &other))
				return false;
			free_bytes += run->pages * PAGE;
			released += run->released ? run->pages * PAGE : 0;
		}
	return free_bytes == heap->free_bytes && released == heap->released_bytes;
}
