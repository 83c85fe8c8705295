/* A pool of equal objects: lock-free between threads and between processes.
 *
 *   free batches   head -> batch -> batch ...   (chains of object numbers, linked out of line)
 *   fresh          objects never taken yet: one counter
 *   magazine       a thread's own objects, refilled and emptied a whole batch at a time
 *
 * Objects are numbered. The head holds a batch's first number and a tag that grows with every
 * change, so a compare-and-swap fails after any change, also after one that put the same batch back
 * (the ABA problem); links live in side arrays, so a racing reader never reads an object's bytes.
 *
 * Invariant: taken flags + free-listed + fresh + in magazines == count. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mematlas.h"

#define POOL_MAGIC 0x326c6f6f70656d6dull /* "mmepool2" */
#define INDEX_BITS 24u
#define INDEX_MASK ((1ull << INDEX_BITS) - 1)
#define NONE INDEX_MASK
#define LARGEST_BATCH 64u
#define LINE 64u

/* The part of a pool that lives in its mapping, and is shared where the mapping is. */
struct pool_memory {
	uint64_t magic;
	uint64_t object_size; /* as asked */
	uint64_t stride;      /* object_size rounded up to the alignment */
	uint64_t alignment;
	uint64_t count;
	uint64_t mapping_size;
	uint64_t objects_offset;
	_Alignas(LINE) _Atomic uint64_t head; /* tag << 24 | first object of a batch, or NONE */
	_Alignas(LINE) _Atomic uint64_t fresh;
	_Alignas(LINE) _Atomic uint64_t taken;
	_Alignas(LINE) _Atomic uint64_t given;
	_Alignas(LINE) _Atomic uint64_t refused; /* takes that found nothing */
};

struct magazine {
	struct mematlas_pool *pool;
	struct magazine *next;
	uint64_t taken, given;
	uint32_t filled;
	uint32_t objects[2 * LARGEST_BATCH];
};

struct mematlas_pool {
	struct pool_memory *memory;
	_Atomic uint8_t *flags;        /* one an object: 1 if taken */
	int shift;                     /* log2 of the stride, or -1 */
	_Atomic uint32_t *next_object; /* within a batch */
	_Atomic uint32_t *next_batch;  /* from a batch's first object */
	char *objects;
	uint32_t batch;
	bool private;
	pthread_key_t key;
	struct magazine *magazines;
	struct mematlas_pool *next_pool;
};

/* Guards the lists of pools and magazines only; never held while an object is taken or given. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct mematlas_pool *pools;

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

static void push_batch(struct mematlas_pool *pool, uint32_t first)
{
	_Atomic uint64_t *head = &pool->memory->head;
	uint64_t seen = atomic_load_explicit(head, memory_order_relaxed);
	uint64_t changed;

	do {
		atomic_store_explicit(&pool->next_batch[first], (uint32_t)(seen & INDEX_MASK),
				      memory_order_relaxed);
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | first;
	} while (!atomic_compare_exchange_weak_explicit(head, &seen, changed, memory_order_release,
							memory_order_relaxed));
}

static uint32_t pop_batch(struct mematlas_pool *pool)
{
	_Atomic uint64_t *head = &pool->memory->head;
	uint64_t seen = atomic_load_explicit(head, memory_order_acquire);
	uint64_t changed;

	do {
		uint32_t first = (uint32_t)(seen & INDEX_MASK);
		if (first == NONE)
			return NONE;
		/* May be stale when another thread takes the batch first; the tag then differs. */
		uint32_t after =
			atomic_load_explicit(&pool->next_batch[first], memory_order_relaxed);
		changed = ((seen >> INDEX_BITS) + 1) << INDEX_BITS | after;
	} while (!atomic_compare_exchange_weak_explicit(head, &seen, changed, memory_order_acquire,
							memory_order_acquire));
	return (uint32_t)(seen & INDEX_MASK);
}

/* Moves one batch into `objects`; returns how many, 0 when the pool is empty. */
static uint32_t fetch_batch(struct mematlas_pool *pool, uint32_t *objects)
{
	uint32_t filled = 0;
	uint32_t index = pop_batch(pool);

	for (; index != NONE; filled++) {
		objects[filled] = index;
		index = atomic_load_explicit(&pool->next_object[index], memory_order_relaxed);
	}
	if (filled)
		return filled;
	uint64_t count = pool->memory->count;
	uint64_t first = atomic_load_explicit(&pool->memory->fresh, memory_order_relaxed);
	uint64_t last;
	do {
		if (first >= count)
			return 0;
		last = first + pool->batch < count ? first + pool->batch : count;
	} while (!atomic_compare_exchange_weak(&pool->memory->fresh, &first, last));
	/* Handed out from the end of the array: lowest addresses first. */
	for (uint64_t object = last; object-- > first;)
		objects[filled++] = (uint32_t)object;
	return filled;
}

static void return_batch(struct mematlas_pool *pool, const uint32_t *objects, uint32_t filled)
{
	for (uint32_t i = 0; i < filled; i++)
		atomic_store_explicit(&pool->next_object[objects[i]],
				      i + 1 < filled ? objects[i + 1] : (uint32_t)NONE,
				      memory_order_relaxed);
	if (filled)
		push_batch(pool, objects[0]);
}

static void settle_counts(struct magazine *magazine)
{
	struct pool_memory *memory = magazine->pool->memory;

	atomic_fetch_add_explicit(&memory->taken, magazine->taken, memory_order_relaxed);
	atomic_fetch_add_explicit(&memory->given, magazine->given, memory_order_relaxed);
	magazine->taken = magazine->given = 0;
}

static void empty_magazine(struct magazine *magazine)
{
	uint32_t batch = magazine->pool->batch;

	while (magazine->filled) {
		uint32_t some = magazine->filled < batch ? magazine->filled : batch;
		magazine->filled -= some;
		return_batch(magazine->pool, magazine->objects + magazine->filled, some);
	}
	settle_counts(magazine);
}

static void unlink_magazine(struct magazine *magazine)
{
	for (struct magazine **at = &magazine->pool->magazines; *at; at = &(*at)->next) {
		if (*at == magazine) {
			*at = magazine->next;
			return;
		}
	}
}

/* The thread ends: its objects go back to everybody. */
static void leave_magazine(void *argument)
{
	struct magazine *magazine = argument;

	empty_magazine(magazine);
	pthread_mutex_lock(&registry);
	unlink_magazine(magazine);
	pthread_mutex_unlock(&registry);
	free(magazine);
}

static struct magazine *get_magazine(struct mematlas_pool *pool)
{
	struct magazine *magazine = pthread_getspecific(pool->key);

	if (magazine)
		return magazine;
	magazine = calloc(1, sizeof *magazine);
	if (!magazine || pthread_setspecific(pool->key, magazine) != 0) {
		free(magazine);
		return NULL;
	}
	magazine->pool = pool;
	pthread_mutex_lock(&registry);
	magazine->next = pool->magazines;
	pool->magazines = magazine;
	pthread_mutex_unlock(&registry);
	return magazine;
}

static void before_fork(void)
{
	pthread_mutex_lock(&registry);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&registry);
}

/* The other threads are gone, with what was in their magazines: take it back. */
static void after_fork_in_child(void)
{
	for (struct mematlas_pool *pool = pools; pool; pool = pool->next_pool) {
		struct magazine *mine = pool->private ? pthread_getspecific(pool->key) : NULL;
		struct magazine **at = &pool->magazines;
		while (*at) {
			struct magazine *magazine = *at;
			if (magazine == mine) {
				at = &magazine->next;
				continue;
			}
			empty_magazine(magazine);
			*at = magazine->next;
			free(magazine);
		}
	}
	pthread_mutex_unlock(&registry);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* An object that was fetched has no other owner, so no other writer of its flag. */
static void mark_taken(struct mematlas_pool *pool, uint32_t object)
{
	atomic_store_explicit(&pool->flags[object], 1, memory_order_relaxed);
}

/* False if it was not taken. Of two threads that give the same object, one is told so. */
static bool mark_given(struct mematlas_pool *pool, uint32_t object)
{
	return atomic_exchange_explicit(&pool->flags[object], 0, memory_order_relaxed) != 0;
}

static void *address_of(const struct mematlas_pool *pool, uint32_t object)
{
	return pool->objects + (size_t)object * pool->memory->stride;
}

static void *take_shared(struct mematlas_pool *pool)
{
	uint32_t objects[2 * LARGEST_BATCH];

	if (fetch_batch(pool, objects) == 0) {
		atomic_fetch_add_explicit(&pool->memory->refused, 1, memory_order_relaxed);
		return NULL;
	}
	atomic_fetch_add_explicit(&pool->memory->taken, 1, memory_order_relaxed);
	mark_taken(pool, objects[0]);
	return address_of(pool, objects[0]);
}

void *mematlas_pool_take(struct mematlas_pool *pool)
{
	struct magazine *magazine = pool->private ? get_magazine(pool) : NULL;

	if (!magazine)
		return pool->private ? NULL : take_shared(pool);
	if (magazine->filled == 0)
		magazine->filled = fetch_batch(pool, magazine->objects);
	if (magazine->filled == 0) {
		atomic_fetch_add_explicit(&pool->memory->refused, 1, memory_order_relaxed);
		return NULL;
	}
	uint32_t object = magazine->objects[--magazine->filled];
	magazine->taken++;
	mark_taken(pool, object);
	return address_of(pool, object);
}

int mematlas_pool_give(struct mematlas_pool *pool, void *object)
{
	uint64_t offset = (uint64_t)((char *)object - pool->objects);
	uint64_t stride = pool->memory->stride;

	if ((char *)object < pool->objects || offset >= stride * pool->memory->count)
		return -EFAULT;
	/* A division takes as long as all the rest. */
	uint32_t index = (uint32_t)(pool->shift >= 0 ? offset >> pool->shift : offset / stride);
	if (offset != index * stride)
		return -EINVAL;
	struct magazine *magazine = pool->private ? get_magazine(pool) : NULL;
	if (pool->private && !magazine)
		return -ENOMEM;
	if (!mark_given(pool, index))
		return -EALREADY;
	if (!magazine) {
		atomic_fetch_add_explicit(&pool->memory->given, 1, memory_order_relaxed);
		return_batch(pool, &index, 1);
		return 0;
	}
	if (magazine->filled == 2 * pool->batch) {
		magazine->filled -= pool->batch;
		return_batch(pool, magazine->objects + magazine->filled, pool->batch);
	}
	magazine->given++;
	magazine->objects[magazine->filled++] = index;
	return 0;
}

static void lay_out(struct mematlas_pool *pool, char *mapping)
{
	struct pool_memory *memory = (struct pool_memory *)mapping;
	uint64_t at = round_up(sizeof *memory, LINE);

	pool->memory = memory;
	pool->shift = memory->stride & (memory->stride - 1) ? -1 : __builtin_ctzll(memory->stride);
	pool->flags = (_Atomic uint8_t *)(mapping + at);
	at += round_up(memory->count, LINE);
	pool->next_object = (_Atomic uint32_t *)(mapping + at);
	at += round_up(memory->count * 4, LINE);
	pool->next_batch = (_Atomic uint32_t *)(mapping + at);
	pool->objects = mapping + memory->objects_offset;
}

/* A small pool keeps its objects in common: magazines must not starve other threads. */
static uint32_t batch_for(uint64_t count, bool private)
{
	uint64_t batch = count / 64;

	if (!private || batch < 2)
		return 1;
	return (uint32_t)(batch < LARGEST_BATCH ? batch : LARGEST_BATCH);
}

static int finish(struct mematlas_pool *pool, char *mapping, bool private,
		  struct mematlas_pool **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	lay_out(pool, mapping);
	pool->private = private;
	pool->batch = batch_for(pool->memory->count, private);
	int error = private ? pthread_key_create(&pool->key, leave_magazine) : 0;
	if (error) {
		munmap(mapping, pool->memory->mapping_size);
		free(pool);
		return -error;
	}
	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&registry);
	pool->next_pool = pools;
	pools = pool;
	pthread_mutex_unlock(&registry);
	*ret = pool;
	return 0;
}

int mematlas_pool_create(uint64_t object_size, uint64_t count, uint64_t alignment, int fd,
			 struct mematlas_pool **ret)
{
	struct pool_memory plan = {.magic = POOL_MAGIC,
				   .object_size = object_size,
				   .count = count,
				   .alignment = alignment};
	uint64_t bytes;

	if (!object_size || !count || count >= NONE || !alignment ||
	    (alignment & (alignment - 1)) || alignment > 4096 || object_size > PTRDIFF_MAX / 2)
		return -EINVAL;
	plan.stride = round_up(object_size, alignment);
	if (__builtin_mul_overflow(plan.stride, count, &bytes) || bytes > PTRDIFF_MAX / 2)
		return -EOVERFLOW;
	uint64_t head =
		round_up(sizeof plan, LINE) + round_up(count, LINE) + 2 * round_up(count * 4, LINE);
	plan.objects_offset = round_up(head, 4096);
	plan.mapping_size = round_up(plan.objects_offset + bytes, 4096);
	if (fd >= 0 && ftruncate(fd, (off_t)plan.mapping_size) < 0)
		return -errno;

	struct mematlas_pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return -ENOMEM;
	char *mapping = mmap(NULL, plan.mapping_size, PROT_READ | PROT_WRITE,
			     fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (mapping == MAP_FAILED) {
		int error = -errno;
		free(pool);
		return error;
	}
	memcpy(mapping, &plan, sizeof plan);
	atomic_store(&((struct pool_memory *)mapping)->head, NONE);
	return finish(pool, mapping, fd < 0, ret);
}

int mematlas_pool_open(int fd, struct mematlas_pool **ret)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_size < (off_t)sizeof(struct pool_memory))
		return -EINVAL;
	char *mapping =
		mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED)
		return -errno;
	const struct pool_memory *memory = (const struct pool_memory *)mapping;
	struct mematlas_pool *pool = NULL;
	int error = -EINVAL;
	if (memory->magic == POOL_MAGIC && memory->mapping_size == (uint64_t)status.st_size) {
		pool = calloc(1, sizeof *pool);
		error = -ENOMEM;
	}
	if (!pool) {
		munmap(mapping, (size_t)status.st_size);
		return error;
	}
	return finish(pool, mapping, false, ret);
}

void mematlas_pool_destroy(struct mematlas_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&registry);
	for (struct mematlas_pool **at = &pools; *at; at = &(*at)->next_pool) {
		if (*at == pool) {
			*at = pool->next_pool;
			break;
		}
	}
	struct magazine *magazine = pool->magazines;
	pthread_mutex_unlock(&registry);
	if (pool->private)
		pthread_key_delete(pool->key);
	while (magazine) {
		struct magazine *next = magazine->next;
		free(magazine);
		magazine = next;
	}
	munmap(pool->memory, pool->memory->mapping_size);
	free(pool);
}

void mematlas_pool_read_stats(struct mematlas_pool *pool, struct mematlas_pool_stats *ret)
{
	struct pool_memory *memory = pool->memory;

	memset(ret, 0, sizeof *ret);
	ret->object_size = memory->object_size;
	ret->stride = memory->stride;
	ret->count = memory->count;
	ret->mapping_bytes = memory->mapping_size;
	ret->taken = atomic_load(&memory->taken);
	ret->given = atomic_load(&memory->given);
	ret->refused = atomic_load(&memory->refused);
	pthread_mutex_lock(&registry);
	for (struct magazine *magazine = pool->magazines; magazine; magazine = magazine->next) {
		ret->taken += magazine->taken;
		ret->given += magazine->given;
		ret->cached += magazine->filled;
	}
	pthread_mutex_unlock(&registry);
	for (uint64_t object = 0; object < memory->count; object++)
		ret->in_use += atomic_load_explicit(&pool->flags[object], memory_order_relaxed);
}

static bool see_once(uint8_t *seen, struct mematlas_pool *pool, uint32_t object)
{
	if (object >= pool->memory->count || seen[object] || atomic_load(&pool->flags[object]))
		return false;
	seen[object] = 1;
	return true;
}

int mematlas_pool_check(struct mematlas_pool *pool)
{
	uint64_t count = pool->memory->count;
	uint64_t fresh = atomic_load(&pool->memory->fresh);
	uint64_t accounted = count - fresh;
	uint8_t *seen = calloc(1, count);
	bool sound = true;

	if (!seen)
		return -ENOMEM;
	uint64_t found = 0;
	uint32_t batch = (uint32_t)(atomic_load(&pool->memory->head) & INDEX_MASK);
	for (; sound && batch != NONE; batch = atomic_load(&pool->next_batch[batch]))
		for (uint32_t i = batch; sound && i != NONE;
		     i = atomic_load(&pool->next_object[i]), found++)
			sound = see_once(seen, pool, i);
	for (struct magazine *magazine = pool->magazines; sound && magazine;
	     magazine = magazine->next)
		for (uint32_t i = 0; sound && i < magazine->filled; i++, found++)
			sound = see_once(seen, pool, magazine->objects[i]);
	struct mematlas_pool_stats stats;
	mematlas_pool_read_stats(pool, &stats);
	free(seen);
	return sound && accounted + found + stats.in_use == count ? 0 : -EUCLEAN;
}
