/* NumPy's data handler without NumPy: the layout that NumPy reads and the callbacks that NumPy
 * calls. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mematlas.h"
#include "check.h"

#define LIMIT (64u << 10)

/* As in numpy/ndarraytypes.h. */
struct handler {
	char name[127];
	uint8_t version;
	void *context;
	void *(*malloc)(void *context, size_t size);
	void *(*calloc)(void *context, size_t count, size_t size);
	void *(*realloc)(void *context, void *memory, size_t size);
	void (*free)(void *context, void *memory, size_t size);
};

static void *plain_malloc(void *context, size_t size)
{
	(void)context;
	return malloc(size);
}

static void *plain_calloc(void *context, size_t count, size_t size)
{
	(void)context;
	return calloc(count, size);
}

static void *plain_realloc(void *context, void *memory, size_t size)
{
	(void)context;
	return realloc(memory, size);
}

static void plain_free(void *context, void *memory, size_t size)
{
	(void)context;
	(void)size;
	free(memory);
}

static const struct handler plain = {"plain",       1,         NULL, plain_malloc, plain_calloc,
				     plain_realloc, plain_free};
static struct handler *ours;

struct array {
	unsigned char *start;
	size_t size;
};

/* Replaces an array by one of another size, through one callback after another. */
static void replace(struct array *array, size_t size, unsigned step, unsigned char mark)
{
	bool resized = step % 3 == 0, zeroed = step % 3 == 2;

	if (resized) {
		array->start = ours->realloc(ours->context, array->start, size);
		CHECK(!array->size || array->start[0] == mark);
	} else {
		ours->free(ours->context, array->start, array->size);
		array->start = zeroed ? ours->calloc(ours->context, size, 1)
				      : ours->malloc(ours->context, size);
		CHECK(!zeroed || (array->start[0] == 0 && array->start[size - 1] == 0));
	}
	CHECK(size < LIMIT || (uintptr_t)array->start % (uint64_t)sysconf(_SC_PAGESIZE) == 0);
	array->size = size;
	memset(array->start, mark, size);
}

static void *work(void *argument)
{
	uint64_t seed = (uint64_t)(uintptr_t)argument * 88172645463325252u;
	unsigned char mark = (unsigned char)(uintptr_t)argument;
	struct array arrays[16] = {0};

	for (unsigned i = 0; i < 16; i++)
		arrays[i].start = ours->malloc(ours->context, 1);
	for (unsigned step = 0; step < 4000; step++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		struct array *array = &arrays[seed >> 60];
		if (array->size) {
			CHECK(array->start[0] == mark && array->start[array->size - 1] == mark);
		}
		replace(array, 1 + (seed >> 20) % (3 * LIMIT), step, mark);
	}
	for (unsigned i = 0; i < 16; i++)
		ours->free(ours->context, arrays[i].start, arrays[i].size);
	return NULL;
}

int main(void)
{
	struct mematlas_arrays_config config = {
		.min_size = LIMIT, .cache_bytes = 1 << 20, .mode = -1};
	struct mematlas_arrays_stats stats;
	struct mematlas_arrays *arrays;
	pthread_t threads[3];

	CHECK(mematlas_arrays_create(&config, &plain, &arrays) == 0);
	ours = (struct handler *)arrays;
	CHECK(strcmp(ours->name, "mematlas") == 0 && ours->version == 1);
	CHECK(!ours->malloc(ours->context, SIZE_MAX) &&
	      !ours->calloc(ours->context, SIZE_MAX / 2, 4));
	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	mematlas_arrays_read_stats(arrays, &stats);
	CHECK(stats.blocks == 0 && stats.bytes == 0 && stats.reused > 0 && stats.mapped > 0);
	CHECK(stats.cached_bytes > 0 && stats.cached_bytes <= config.cache_bytes);
	CHECK(stats.failures == 1 && stats.failed_step == MEMATLAS_ARRAYS_MAP);
	mematlas_arrays_destroy(arrays);
	return 0;
}
