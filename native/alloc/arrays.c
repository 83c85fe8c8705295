/* NumPy's data handler (NEP 49). The callbacks know nothing of Python, and take no lock of its. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct mematlas_arrays *all;
static void *(*read_capsule)(void *capsule, const char *name);

static struct array_block **bucket_of(struct mematlas_arrays *arrays, const void *memory)
{
	uint64_t page = (uintptr_t)memory >> 12;

	return &arrays->buckets[(page ^ page >> 8 ^ page >> 16) % ARRAYS_BUCKETS];
}

/* Where the block of an address hangs; NULL: it is not one of ours. With the lock. */
static struct array_block **find(struct mematlas_arrays *arrays, const void *memory)
{
	struct array_block **at = bucket_of(arrays, memory);

	while (*at && (*at)->start != memory)
		at = &(*at)->next;
	return *at ? at : NULL;
}

static bool may_be_ours(const void *memory)
{
	return memory && ((uintptr_t)memory & 4095) == 0;
}

static void *hand_out(struct mematlas_arrays *arrays, struct array_block *block)
{
	struct array_block **bucket = bucket_of(arrays, block->start);

	block->next = *bucket;
	*bucket = block;
	arrays->stats.blocks++;
	arrays->stats.bytes += block->length;
	return block->start;
}

static void *take_placed(struct mematlas_arrays *arrays, uint64_t size, bool fresh)
{
	pthread_mutex_lock(&arrays->lock);
	struct array_block *block = fresh ? NULL : arrays_reuse(arrays, size);
	void *memory = block ? hand_out(arrays, block) : NULL;
	if (block)
		arrays->stats.reused++;
	pthread_mutex_unlock(&arrays->lock);
	if (block)
		return memory;
	block = arrays_map(arrays, size);
	if (!block)
		return NULL;
	pthread_mutex_lock(&arrays->lock);
	arrays->stats.mapped++;
	memory = hand_out(arrays, block);
	pthread_mutex_unlock(&arrays->lock);
	return memory;
}

static void *take(void *context, size_t size)
{
	struct mematlas_arrays *arrays = context;

	if (size < arrays->rules.min_size)
		return arrays->small.malloc(arrays->small.context, size);
	return take_placed(arrays, size, false);
}

static void *take_zeroed(void *context, size_t count, size_t size)
{
	struct mematlas_arrays *arrays = context;
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	if (bytes < arrays->rules.min_size)
		return arrays->small.calloc(arrays->small.context, count, size);
	return take_placed(arrays, bytes, true); /* zeros come free with fresh pages */
}

/* False: it is not one of ours. */
static bool give_placed(struct mematlas_arrays *arrays, void *memory)
{
	pthread_mutex_lock(&arrays->lock);
	struct array_block **at = find(arrays, memory), *block = at ? *at : NULL;
	if (block) {
		*at = block->next;
		arrays->stats.blocks--;
		arrays->stats.bytes -= block->length;
		arrays_keep(arrays, block);
	}
	pthread_mutex_unlock(&arrays->lock);
	return block != NULL;
}

/* The size NumPy states is that of the array now, not always that of the memory. */
static void give(void *context, void *memory, size_t size)
{
	struct mematlas_arrays *arrays = context;

	if (__builtin_expect(!may_be_ours(memory) || !give_placed(arrays, memory), 1))
		arrays->small.free(arrays->small.context, memory, size);
}

static uint64_t length_of(struct mematlas_arrays *arrays, const void *memory)
{
	if (!may_be_ours(memory))
		return 0;
	pthread_mutex_lock(&arrays->lock);
	struct array_block **at = find(arrays, memory);
	uint64_t length = at ? (*at)->length : 0;
	pthread_mutex_unlock(&arrays->lock);
	return length;
}

/* NumPy does not tell the old size: the default handler's is what its malloc says. */
static void *resize(void *context, void *memory, size_t size)
{
	struct mematlas_arrays *arrays = context;
	uint64_t old = length_of(arrays, memory), placed = old;

	if (!memory)
		return take(context, size);
	if (!old && size < arrays->rules.min_size)
		return arrays->small.realloc(arrays->small.context, memory, size);
	if (old && size <= old && size >= old / 2 && size >= arrays->rules.min_size)
		return memory;
	if (!old)
		old = malloc_usable_size(memory);
	void *moved = take(context, size);
	if (!moved)
		return NULL;
	memcpy(moved, memory, old < size ? old : size);
	if (placed)
		give_placed(arrays, memory);
	else
		arrays->small.free(arrays->small.context, memory, old);
	return moved;
}

static void before_fork(void)
{
	pthread_mutex_lock(&registry);
	for (struct mematlas_arrays *arrays = all; arrays; arrays = arrays->next)
		pthread_mutex_lock(&arrays->lock);
}

static void after_fork(void)
{
	for (struct mematlas_arrays *arrays = all; arrays; arrays = arrays->next)
		pthread_mutex_unlock(&arrays->lock);
	pthread_mutex_unlock(&registry);
}

static void after_fork_in_child(void)
{
	for (struct mematlas_arrays *arrays = all; arrays; arrays = arrays->next) {
		if (arrays->rules.huge == MEMATLAS_ARRAYS_2M)
			arrays_shrink_cache(arrays, 0);
		for (unsigned i = 0; i < ARRAYS_BUCKETS; i++)
			for (struct array_block *block = arrays->buckets[i]; block;
			     block = block->next)
				block->absent = block->hugetlb;
	}
	after_fork();
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

int mematlas_arrays_create(const struct mematlas_arrays_config *rules, const void *default_handler,
			   struct mematlas_arrays **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct mematlas_arrays *arrays = calloc(1, sizeof *arrays);

	if (!arrays)
		return -ENOMEM;
	pthread_once(&once, watch_forks);
	strcpy(arrays->handler.name, "mematlas");
	arrays->handler.version = 1;
	arrays->handler.allocator =
		(struct data_allocator){arrays, take, take_zeroed, resize, give};
	arrays->small = ((const struct data_handler *)default_handler)->allocator;
	arrays->rules = *rules;
	arrays->cache.next = arrays->cache.previous = &arrays->cache;
	pthread_mutex_init(&arrays->lock, NULL);
	pthread_mutex_lock(&registry);
	arrays->next = all;
	all = arrays;
	pthread_mutex_unlock(&registry);
	*ret = arrays;
	return 0;
}

void mematlas_arrays_destroy(struct mematlas_arrays *arrays)
{
	pthread_mutex_lock(&registry);
	for (struct mematlas_arrays **at = &all; *at; at = &(*at)->next)
		if (*at == arrays) {
			*at = arrays->next;
			break;
		}
	pthread_mutex_unlock(&registry);
	arrays_shrink_cache(arrays, 0);
	free(arrays);
}

void mematlas_arrays_set_capsule_reader(void *reader)
{
	memcpy(&read_capsule, &reader, sizeof reader);
}

const char *mematlas_arrays_capsule_name(void)
{
	return "mem_handler";
}

void mematlas_arrays_capsule_destructor(void *capsule)
{
	struct mematlas_arrays *arrays = read_capsule(capsule, mematlas_arrays_capsule_name());

	if (arrays)
		mematlas_arrays_destroy(arrays);
}

void mematlas_arrays_set_cache(struct mematlas_arrays *arrays, uint64_t bytes)
{
	pthread_mutex_lock(&arrays->lock);
	arrays->rules.cache_bytes = bytes;
	arrays_shrink_cache(arrays, bytes);
	pthread_mutex_unlock(&arrays->lock);
}

void mematlas_arrays_read_stats(struct mematlas_arrays *arrays, struct mematlas_arrays_stats *ret)
{
	pthread_mutex_lock(&arrays->lock);
	*ret = arrays->stats;
	pthread_mutex_unlock(&arrays->lock);
}
