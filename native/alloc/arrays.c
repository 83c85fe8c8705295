/* NumPy's data handler (NEP 49). NumPy may call it without the GIL, so it uses nothing of
 * Python. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "lock.h"
#include "page_size.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct mematlas_arrays *all;
static void *(*read_capsule)(void *capsule, const char *name);

/* Start addresses are multiples of ARRAYS_ALIGNMENT and often of a huge page, so higher bits are
 * mixed in. */
static struct array_block **bucket_of(struct mematlas_arrays *arrays, const void *memory)
{
	uint64_t page = (uintptr_t)memory / ARRAYS_ALIGNMENT;

	return &arrays->buckets[(page ^ page >> 8 ^ page >> 16) % ARRAYS_BUCKETS];
}

/* Hash-chain link of the block at this address, or NULL. Lock held. */
static struct array_block **find(struct mematlas_arrays *arrays, const void *memory)
{
	struct array_block **at = bucket_of(arrays, memory);

	while (*at && (*at)->start != memory)
		at = &(*at)->next;
	return *at ? at : NULL;
}

/* Spares most arrays of the default handler the lock: theirs are rarely so aligned. */
static bool may_be_placed(const void *memory)
{
	return memory && (uintptr_t)memory % ARRAYS_ALIGNMENT == 0;
}

/* Lock held. */
static void *add_in_use(struct mematlas_arrays *arrays, struct array_block *block)
{
	struct array_block **bucket = bucket_of(arrays, block->start);

	block->next = *bucket;
	*bucket = block;
	arrays->stats.blocks++;
	arrays->stats.bytes += block->length;
	return block->start;
}

/* NULL: the cache has no block of about this size. */
static void *reuse_placed(struct mematlas_arrays *arrays, uint64_t size)
{
	LOCK_SCOPE(&arrays->lock);
	struct array_block *block = arrays_cache_pop(arrays, size);
	if (!block)
		return NULL;
	arrays->stats.reused++;
	return add_in_use(arrays, block);
}

/* The system calls run without the lock. */
static void *map_placed(struct mematlas_arrays *arrays, uint64_t size)
{
	struct array_block *block = arrays_map(arrays, size);

	if (!block)
		return NULL;
	LOCK_SCOPE(&arrays->lock);
	arrays->stats.mapped++;
	return add_in_use(arrays, block);
}

/* NULL makes NumPy raise MemoryError; mematlas_arrays_read_stats() has the reason. Small arrays
 * go to the handler that was there before. */
static void *handler_malloc(void *context, size_t size)
{
	struct mematlas_arrays *arrays = context;
	struct data_allocator *fallback = &arrays->default_allocator;

	if (size < arrays->config.min_size)
		return fallback->malloc(fallback->context, size);
	void *memory = reuse_placed(arrays, size);
	return memory ? memory : map_placed(arrays, size);
}

static void *handler_calloc(void *context, size_t count, size_t size)
{
	struct mematlas_arrays *arrays = context;
	struct data_allocator *fallback = &arrays->default_allocator;
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	if (bytes < arrays->config.min_size)
		return fallback->calloc(fallback->context, count, size);
	/* Fresh pages are zeros. To clear a cached block would cost more. */
	return map_placed(arrays, bytes);
}

/* False if the memory is the default handler's. */
static bool free_placed(struct mematlas_arrays *arrays, void *memory)
{
	LOCK_SCOPE(&arrays->lock);
	struct array_block **at = find(arrays, memory), *block = at ? *at : NULL;
	if (!block)
		return false;
	*at = block->next;
	arrays->stats.blocks--;
	arrays->stats.bytes -= block->length;
	arrays_cache_push(arrays, block);
	return true;
}

/* `size` is that of the array, which may differ from that of the memory, so it cannot tell the two
 * kinds of memory apart. */
static void handler_free(void *context, void *memory, size_t size)
{
	struct mematlas_arrays *arrays = context;
	struct data_allocator *fallback = &arrays->default_allocator;

	if (__builtin_expect(!may_be_placed(memory) || !free_placed(arrays, memory), 1))
		fallback->free(fallback->context, memory, size);
}

/* Bytes of a placed block; 0 if the memory is the default handler's. */
static uint64_t placed_length(struct mematlas_arrays *arrays, const void *memory)
{
	if (!may_be_placed(memory))
		return 0;
	LOCK_SCOPE(&arrays->lock);
	struct array_block **at = find(arrays, memory);
	return at ? (*at)->length : 0;
}

/* NumPy does not pass the old size. The default handler uses malloc(3), whose usable size bounds
 * what there is to copy. */
static void *move(struct mematlas_arrays *arrays, void *memory, uint64_t placed, size_t size)
{
	struct data_allocator *fallback = &arrays->default_allocator;
	uint64_t old = placed ? placed : malloc_usable_size(memory);
	void *moved = handler_malloc(arrays, size);

	if (!moved)
		return NULL;
	memcpy(moved, memory, old < size ? old : size);
	if (placed)
		free_placed(arrays, memory);
	else
		fallback->free(fallback->context, memory, old);
	return moved;
}

/* A placed block stays in place while it is used by half at least; see arrays_cache_pop() for
 * the other direction. */
static void *handler_realloc(void *context, void *memory, size_t size)
{
	struct mematlas_arrays *arrays = context;
	struct data_allocator *fallback = &arrays->default_allocator;
	uint64_t placed = placed_length(arrays, memory);

	if (!memory)
		return handler_malloc(context, size);
	if (!placed && size < arrays->config.min_size)
		return fallback->realloc(fallback->context, memory, size);
	if (placed && size <= placed && size >= placed / 2 && size >= arrays->config.min_size)
		return memory;
	return move(arrays, memory, placed, size);
}

/* Another thread may hold a lock, which the child could never release. */
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

/* The child lacks the hugetlb blocks, see map_hugetlb(). Those in use are marked, so that a free
 * does not put them in the cache. */
static void after_fork_in_child(void)
{
	for (struct mematlas_arrays *arrays = all; arrays; arrays = arrays->next) {
		if (arrays->config.huge == MEMATLAS_ARRAYS_2M)
			arrays_cache_shrink(arrays, 0);
		for (unsigned i = 0; i < ARRAYS_BUCKETS; i++)
			for (struct array_block *block = arrays->buckets[i]; block;
			     block = block->next)
				block->absent = block->hugetlb;
	}
	after_fork();
}

static void register_fork_handlers(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

int mematlas_arrays_create(const struct mematlas_arrays_config *config, const void *default_handler,
			   struct mematlas_arrays **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct mematlas_arrays *arrays = calloc(1, sizeof *arrays);

	if (!arrays)
		return -ENOMEM;
	pthread_once(&once, register_fork_handlers);
	page_size_pmd(); /* opens a file, which a sandbox may forbid later on */
	strcpy(arrays->handler.name, "mematlas");
	arrays->handler.version = 1;
	arrays->handler.allocator = (struct data_allocator){arrays, handler_malloc, handler_calloc,
							    handler_realloc, handler_free};
	arrays->default_allocator = ((const struct data_handler *)default_handler)->allocator;
	arrays->config = *config;
	arrays->cache.next = arrays->cache.previous = &arrays->cache;
	pthread_mutex_init(&arrays->lock, NULL);
	pthread_mutex_lock(&registry);
	arrays->next = all;
	all = arrays;
	pthread_mutex_unlock(&registry);
	*ret = arrays;
	return 0;
}

/* When the capsule is gone, so no array is left: NumPy keeps a reference to the capsule in each
 * array. */
void mematlas_arrays_destroy(struct mematlas_arrays *arrays)
{
	pthread_mutex_lock(&registry);
	for (struct mematlas_arrays **at = &all; *at; at = &(*at)->next)
		if (*at == arrays) {
			*at = arrays->next;
			break;
		}
	pthread_mutex_unlock(&registry);
	arrays_cache_shrink(arrays, 0);
	free(arrays);
}

/* PyCapsule_GetPointer, passed in because this library does not link to Python. */
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
	LOCK_SCOPE(&arrays->lock);
	arrays->config.cache_bytes = bytes;
	arrays_cache_shrink(arrays, bytes);
}

void mematlas_arrays_read_stats(struct mematlas_arrays *arrays, struct mematlas_arrays_stats *ret)
{
	LOCK_SCOPE(&arrays->lock);
	*ret = arrays->stats;
}
