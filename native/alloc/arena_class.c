/* Size classes: which there are, and their spans. */
#include "arena.h"

/* 16 to 128 by 16, then four steps to each doubling: a quarter of a block is lost at most. */
static uint32_t next_size(uint32_t size)
{
	if (size < 128)
		return size + 16;
	return size + (1u << (31 - __builtin_clz(size))) / 4;
}

/* At least 8 slots and 16 KiB, so that little is lost at the end and fetching is rare. */
static uint32_t span_pages(uint32_t size)
{
	uint64_t bytes = (uint64_t)size * 64;

	if (bytes < 2 * PAGE)
		bytes = 2 * PAGE;
	if (bytes > 256u << 10)
		bytes = 256u << 10;
	return (uint32_t)((bytes + PAGE - 1) >> PAGE_BITS);
}

static void open_class(struct shard *shard, unsigned number, uint32_t size)
{
	struct size_class *class = &shard->classes[number];
	uint32_t batch = (32u << 10) / size;

	class->lock = &shard->lock;
	class->number = (uint8_t)number;
	class->size = size;
	class->batch = batch > BATCH ? BATCH : batch < 2 ? 2 : batch;
	class->pages = span_pages(size);
	class->usable.next = class->usable.previous = &class->usable;
}

void classes_open(struct mematlas_arena *arena)
{
	uint32_t size = 16, at_16 = 0, at_128 = 0;

	for (unsigned shard = 0; shard < SHARDS; shard++)
		pthread_mutex_init(&arena->shards[shard].lock, NULL);
	for (unsigned i = 0; i < CLASSES; i++, size = next_size(size)) {
		for (unsigned shard = 0; shard < SHARDS; shard++)
			open_class(&arena->shards[shard], i, size);
		for (; at_16 * 16 <= size && at_16 <= 1024 / 16; at_16++)
			arena->by_16[at_16] = (uint8_t)i;
		for (; at_128 * 128 <= size && at_128 <= SMALL_MAX / 128; at_128++)
			arena->by_128[at_128] = (uint8_t)i;
	}
}

void class_relist(struct size_class *class, struct run *run)
{
	bool wanted = run->free_count > 0 && GET(run->state) == RUN_SPAN;

	if (wanted == run->listed)
		return;
	run->listed = wanted;
	if (wanted) {
		run->next = class->usable.next;
		run->previous = &class->usable;
		run->next->previous = run->previous->next = run;
	} else {
		run->previous->next = run->next;
		run->next->previous = run->previous;
	}
}

static struct run *make_run(struct mematlas_arena *arena, struct size_class *class)
{
	uint32_t count = (uint32_t)(class->pages * PAGE / class->size);
	uint64_t bytes = sizeof(struct run) + count * (sizeof(struct slot) + sizeof(uint16_t));
	struct run *run = pages_store(arena, bytes);

	if (!run)
		return NULL;
	run->slot_size = class->size;
	run->reciprocal = UINT32_MAX / class->size + 1;
	run->count = count;
	run->class = class->number;
	SET(run->state, RUN_IDLE);
	run->home = class;
	run->pages = class->pages;
	run->slots = (struct slot *)(run + 1);
	run->free = (uint16_t *)(run->slots + count);
	run->next_of_class = class->all;
	class->all = run;
	return run;
}

static void set_pages(struct mematlas_arena *arena, const struct run *run, struct run *to)
{
	uint64_t first = (uint64_t)(GET(run->start) - arena->base) >> PAGE_BITS;

	for (uint64_t page = 0; page < run->pages; page++)
		atomic_store_explicit(&arena->pages[first + page], to, memory_order_release);
}

/* A new span, all free, in the list. With the class's lock. */
static struct run *make_span(struct mematlas_arena *arena, struct size_class *class)
{
	pthread_mutex_lock(&arena->heap.lock);
	struct run *run = class->idle ? class->idle : make_run(arena, class);
	char *start = run ? pages_take(arena, class->pages) : NULL;
	if (run && class->idle == run)
		class->idle = run->next;
	if (run && !start) {
		run->next = class->idle;
		class->idle = run;
	}
	pthread_mutex_unlock(&arena->heap.lock);
	if (!start)
		return NULL;
	SET(run->start, start);
	run->free_count = run->count;
	for (uint32_t i = 0; i < run->count; i++) /* lowest addresses first */
		run->free[i] = (uint16_t)(run->count - 1 - i);
	atomic_store_explicit(&run->state, RUN_SPAN, memory_order_release);
	set_pages(arena, run, run);
	class_relist(class, run);
	class->empty++;
	return run;
}

static void dissolve(struct mematlas_arena *arena, struct size_class *class, struct run *run)
{
	SET(run->state, RUN_IDLE);
	class_relist(class, run);
	set_pages(arena, run, NULL);
	class->empty--;
	pthread_mutex_lock(&arena->heap.lock);
	pages_give(arena, run->start, run->pages);
	pthread_mutex_unlock(&arena->heap.lock);
	run->next = class->idle;
	class->idle = run;
}

void class_dissolve(struct mematlas_arena *arena, struct size_class *class, uint32_t keep)
{
	struct run *next;

	for (struct run *run = class->usable.next; run != &class->usable && class->empty > keep;
	     run = next) {
		next = run->next;
		if (run->free_count == run->count)
			dissolve(arena, class, run);
	}
}

bool class_fetch(struct mematlas_arena *arena, struct size_class *class, struct magazine *magazine,
		 bool may_grow)
{
	uint32_t filled = 0;

	pthread_mutex_lock(class->lock);
	while (filled < class->batch) {
		struct run *run = class->usable.next;
		if (run == &class->usable)
			run = filled || !may_grow ? NULL : make_span(arena, class);
		if (!run)
			break;
		class->empty -= run->free_count == run->count;
		while (filled < class->batch && run->free_count) {
			uint32_t number = run->free[--run->free_count];
			magazine->objects[filled++] = GET(run->start) + number * run->slot_size;
		}
		class_relist(class, run);
	}
	pthread_mutex_unlock(class->lock);
	SET(magazine->filled, filled);
	return filled > 0;
}

static void return_slot(struct run *run, void *object)
{
	run->free[run->free_count++] = (uint16_t)(slot_of(run, object) - run->slots);
	class_relist(run->home, run);
	run->home->empty += run->free_count == run->count;
}

static void leave_class(struct mematlas_arena *arena, struct size_class *class)
{
	if (!class)
		return;
	if (class->empty > 2)
		class_dissolve(arena, class, 1);
	pthread_mutex_unlock(class->lock);
}

void class_return(struct mematlas_arena *arena, struct magazine *magazine, uint32_t batch)
{
	uint32_t filled = GET(magazine->filled) - batch;
	struct size_class *class = NULL;

	for (uint32_t i = 0; i < batch; i++) { /* the coldest: what was given last is taken next */
		struct run *run = run_at(arena, magazine->objects[i]);
		if (run->home != class) { /* robbed of another shard's thread, if not the first */
			leave_class(arena, class);
			class = run->home;
			pthread_mutex_lock(class->lock);
		}
		return_slot(run, magazine->objects[i]);
	}
	leave_class(arena, class);
	memmove(magazine->objects, magazine->objects + batch, filled * sizeof(void *));
	SET(magazine->filled, filled);
}
