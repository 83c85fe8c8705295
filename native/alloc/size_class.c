/* Size classes and their spans. */
#include "arena.h"

/* 16 to 128 in steps of 16, then four steps per doubling, so rounding up loses a quarter at
 * most. */
static uint32_t next_size(uint32_t size)
{
	if (size < 128)
		return size + 16;
	return size + (1u << (31 - __builtin_clz(size))) / 4;
}

/* Pages for 64 slots, clamped to 16 .. 256 KiB, so for at least 8 of up to 32 KiB. Larger slots share
 * spans of at least 4. Smaller spans would lose more at their end and refill more often. */
static uint32_t span_pages(uint32_t size)
{
	uint64_t bytes = (uint64_t)size * 64;

	if (bytes < 2 * PAGE)
		bytes = 2 * PAGE;
	if (bytes > 256u << 10)
		bytes = 256u << 10;
	if (bytes < (uint64_t)size * 4)
		bytes = (uint64_t)size * 4;
	return (uint32_t)((bytes + PAGE - 1) >> PAGE_BITS);
}

/* A batch moves 32 KiB, but no fewer than 2 slots: with one, each call would take the lock. */
static void init_class(struct shard *shard, unsigned index, uint32_t size)
{
	struct size_class *class = &shard->classes[index];
	uint32_t batch_size = (32u << 10) / size;

	class->lock = &shard->lock;
	class->index = (uint8_t)index;
	class->size = size;
	class->batch_size = batch_size > MOVE_MAX ? MOVE_MAX : batch_size < 2 ? 2 : batch_size;
	class->pages = span_pages(size);
	class->partial.next = class->partial.previous = &class->partial;
}

void size_class_init_all(struct mematlas_arena *arena)
{
	uint32_t size = 16, at_16 = 0, at_128 = 0;

	for (unsigned shard = 0; shard < SHARDS; shard++)
		pthread_mutex_init(&arena->shards[shard].lock, NULL);
	for (unsigned i = 0; i < CLASSES; i++, size = next_size(size)) {
		for (unsigned shard = 0; shard < SHARDS; shard++)
			init_class(&arena->shards[shard], i, size);
		for (; at_16 * 16 <= size && at_16 <= BY_16_MAX / 16; at_16++)
			arena->by_16[at_16] = (uint16_t)magazine_offset(i);
		for (; at_128 * 128 <= size && at_128 <= SMALL_MAX / 128; at_128++)
			arena->by_128[at_128] = (uint16_t)magazine_offset(i);
	}
}

void size_class_relist(struct size_class *class, struct run *run)
{
	bool wanted = run->free_count > 0 && GET(run->state) == RUN_SPAN;

	if (wanted == run->listed)
		return;
	run->listed = wanted;
	if (wanted) {
		run->next = class->partial.next;
		run->previous = &class->partial;
		run->next->previous = run->previous->next = run;
	} else {
		run->previous->next = run->next;
		run->next->previous = run->previous;
	}
}

/* Heap's lock held, for the metadata. */
static struct run *create_run(struct mematlas_arena *arena, struct size_class *class)
{
	uint32_t count = (uint32_t)(class->pages * PAGE / class->size);
	uint64_t bytes = sizeof(struct run) + count * (sizeof(struct slot) + sizeof(uint16_t));
	struct run *run = arena_metadata_alloc(arena, bytes);

	if (!run)
		return NULL;
	run->slot_size = class->size;
	run->reciprocal = UINT64_MAX / class->size + 1;
	run->count = count;
	run->magazine = magazine_offset(class->index);
	/* No more bytes are held back than a magazine moves. */
	run->remote_limit = class->batch_size < BATCH_SIZE ? class->batch_size : BATCH_SIZE;
	SET(run->state, RUN_SPARE);
	run->size_class = class;
	run->pages = class->pages;
	run->free = (uint16_t *)(run_slots(run) + count);
	run->next_in_class = class->all;
	class->all = run;
	return run;
}

/* Release order: a reader that finds the run in the page table sees its fields. NULL before the
 * pages are given back. */
static void set_pages(struct mematlas_arena *arena, const struct run *run, struct run *to)
{
	uint64_t first = (uint64_t)(GET(run->start) - arena->base) >> PAGE_BITS;

	for (uint64_t page = 0; page < run->pages; page++)
		atomic_store_explicit(&arena->pages[first + page], to, memory_order_release);
}

/* The run keeps slots and class; see struct run. Class's lock held. */
static void push_spare(struct size_class *class, struct run *run)
{
	run->next = class->spare_runs;
	class->spare_runs = run;
}

/* A span of free slots, inserted in `partial`. Class's lock held. */
static struct run *create_span(struct mematlas_arena *arena, struct size_class *class)
{
	struct run *run = class->spare_runs;

	pthread_mutex_lock(&arena->heap.lock);
	if (run)
		class->spare_runs = run->next;
	else
		run = create_run(arena, class);
	char *start = run ? page_heap_alloc(arena, class->pages) : NULL;
	pthread_mutex_unlock(&arena->heap.lock);
	if (run && !start)
		push_spare(class, run);
	if (!start)
		return NULL;
	SET(run->start, start);
	run->free_count = run->count;
	for (uint32_t i = 0; i < run->count; i++) /* the stack pops the lowest address first */
		run->free[i] = (uint16_t)(run->count - 1 - i);
	/* Before the page table leads readers to the run. */
	SET(run->in_span, run->count);
	atomic_store_explicit(&run->state, RUN_SPAN, memory_order_release);
	set_pages(arena, run, run);
	size_class_relist(class, run);
	class->empty++;
	return run;
}

static uint32_t resident_pages(const struct run *run)
{
	uint32_t released = (uint32_t)__builtin_popcount(run->released_slots);

	return run->pages - (uint32_t)(released * run->slot_size / PAGE);
}

/* All slots must be free. The state changes first, so that a late reader of the page table
 * refuses the address. Class's lock held; takes the heap's lock, which comes later in the order. */
static void release_span(struct mematlas_arena *arena, struct size_class *class, struct run *run)
{
	SET(run->in_span, 0);
	SET(run->state, RUN_SPARE);
	size_class_relist(class, run);
	set_pages(arena, run, NULL);
	class->empty--;
	pthread_mutex_lock(&arena->heap.lock);
	page_heap_free(arena, run->start, run->pages, resident_pages(run));
	pthread_mutex_unlock(&arena->heap.lock);
	run->released_slots = 0;
	push_spare(class, run);
}

void size_class_release_empty(struct mematlas_arena *arena, struct size_class *class, uint32_t keep)
{
	struct run *next;

	for (struct run *run = class->partial.next; run != &class->partial && class->empty > keep;
	     run = next) {
		next = run->next;
		if (run->free_count == run->count)
			release_span(arena, class, run);
	}
}

/* Class's lock held. Returns the number of slots. */
static uint32_t refill_from_transfer(struct size_class *class, struct magazine *magazine)
{
	uint32_t count =
		class->transferred < class->batch_size ? class->transferred : class->batch_size;

	class->transferred -= count;
	magazine_put_all(magazine, class->transfer + class->transferred, count);
	return count;
}

/* Class's lock held. Returns the number of slots. */
static uint32_t refill_from_spans(struct mematlas_arena *arena, struct size_class *class,
				  struct magazine *magazine, bool may_grow)
{
	uint32_t filled = 0;

	while (filled < class->batch_size) {
		struct run *run = class->partial.next;
		if (run == &class->partial)
			run = filled || !may_grow ? NULL : create_span(arena, class);
		if (!run)
			break;
		class->empty -= run->free_count == run->count;
		for (; filled < class->batch_size && run->free_count; filled++) {
			uint32_t number = run->free[--run->free_count];
			if (run->released_slots)
				run->released_slots &= ~(1u << number);
			magazine_put(magazine, GET(run->start) + number * run->slot_size,
				     &run_slots(run)[number]);
		}
		size_class_relist(class, run);
	}
	return filled;
}

uint32_t size_class_refill(struct mematlas_arena *arena, struct size_class *class,
			   struct magazine *magazine, bool may_grow)
{
	pthread_mutex_lock(class->lock);
	uint32_t filled = class->transferred ? refill_from_transfer(class, magazine)
					     : refill_from_spans(arena, class, magazine, may_grow);
	pthread_mutex_unlock(class->lock);
	return filled;
}

/* Class's lock held. `empty` counts the span once, when its last slot comes back. */
static void push_free_slot(struct run *run, const struct slot *slot)
{
	run->free[run->free_count++] = (uint16_t)(slot - run_slots(run));
	size_class_relist(run->size_class, run);
	run->size_class->empty += run->free_count == run->count;
}

/* Keeps an empty span, or a program that allocates and frees at the edge of a span would map and
 * release pages each time. NULL: nothing is locked. */
static void unlock_class(struct mematlas_arena *arena, struct size_class *class)
{
	if (!class)
		return;
	if (class->empty > 2)
		size_class_release_empty(arena, class, 1);
	pthread_mutex_unlock(class->lock);
}

/* The slots may be of several shards: some were freed remotely and stolen. */
static void push_free_slots(struct mematlas_arena *arena, const struct free_slot *slots,
			    uint32_t count)
{
	struct size_class *class = NULL;

	for (uint32_t i = 0; i < count; i++) {
		struct run *run = arena_run_at(arena, slots[i].object);
		if (run->size_class != class) {
			unlock_class(arena, class);
			class = run->size_class;
			pthread_mutex_lock(class->lock);
		}
		push_free_slot(run, slots[i].slot);
	}
	unlock_class(arena, class);
}

static bool make_transfer(struct mematlas_arena *arena, struct size_class *class)
{
	if (!class->transfer) {
		pthread_mutex_lock(&arena->heap.lock);
		class->transfer = arena_metadata_alloc(arena, TRANSFER_BATCHES * class->batch_size *
								      sizeof *class->transfer);
		pthread_mutex_unlock(&arena->heap.lock);
	}
	return class->transfer != NULL;
}

/* False: the transfer cache has no room. */
static bool push_transfer(struct mematlas_arena *arena, struct size_class *class,
			  const struct free_slot *slots, uint32_t count)
{
	pthread_mutex_lock(class->lock);
	bool fits = class->transferred + count <= TRANSFER_BATCHES * class->batch_size &&
		    make_transfer(arena, class);
	if (fits) {
		memcpy(class->transfer + class->transferred, slots, count * sizeof *slots);
		class->transferred += count;
	}
	pthread_mutex_unlock(class->lock);
	return fits;
}

void size_class_flush(struct mematlas_arena *arena, struct size_class *class,
		      struct magazine *magazine, uint32_t count)
{
	struct free_slot *bottom = magazine->bottom; /* the bottom of the stack is coldest */

	if (!push_transfer(arena, class, bottom, count))
		push_free_slots(arena, bottom, count);
	magazine_drop(magazine, count);
	memmove(bottom, bottom + count, magazine_filled(magazine) * sizeof *bottom);
}

/* A batch at a time, because its slots may need the locks of other shards. */
static void empty_transfer(struct mematlas_arena *arena, struct size_class *class)
{
	struct free_slot slots[MOVE_MAX];
	uint32_t count;

	do {
		pthread_mutex_lock(class->lock);
		count = class->transferred < MOVE_MAX ? class->transferred : MOVE_MAX;
		class->transferred -= count;
		if (count)
			memcpy(slots, class->transfer + class->transferred, count * sizeof *slots);
		pthread_mutex_unlock(class->lock);
		push_free_slots(arena, slots, count);
	} while (count);
}

void arena_release_spans(struct mematlas_arena *arena)
{
	for (unsigned i = 0; i < SHARDS * CLASSES; i++)
		empty_transfer(arena, arena_class_at(arena, i));
	for (unsigned i = 0; i < SHARDS * CLASSES; i++) {
		struct size_class *class = arena_class_at(arena, i);
		pthread_mutex_lock(class->lock);
		size_class_release_empty(arena, class, 0);
		pthread_mutex_unlock(class->lock);
	}
}

/* Class's lock held. */
static void release_slots(struct mematlas_arena *arena, struct run *run)
{
	for (uint32_t i = 0; i < run->free_count; i++) {
		uint32_t number = run->free[i];
		char *slot = GET(run->start) + number * run->slot_size;

		if (!(run->released_slots >> number & 1) &&
		    page_heap_release(arena, slot, run->slot_size))
			run->released_slots |= 1u << number;
	}
}

void arena_release_slots(struct mematlas_arena *arena)
{
	for (unsigned i = 0; i < SHARDS * CLASSES; i++) {
		struct size_class *class = arena_class_at(arena, i);
		if (class->size < RELEASE_SLOT_MIN)
			continue;
		pthread_mutex_lock(class->lock);
		for (struct run *run = class->partial.next; run != &class->partial; run = run->next)
			release_slots(arena, run);
		pthread_mutex_unlock(class->lock);
	}
}
