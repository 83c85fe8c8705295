/* NumPy's data handler without NumPy: the layout that NumPy reads and the callbacks that NumPy calls. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

static void *work(void *argument)
{
	uint64_t seed = (uint64_t)(uintptr_t)argument * 88172645463325252u;
	size_t sizes[16] = {0};
	unsigned char *arrays[16] = {0}, mark = (unsigned char)(uintptr_t)argument;

	for (unsigned i = 0; i < 16; i++)
		arrays[i] = ours->malloc(ours->context, 1);
	for (unsigned step = 0; step < 4000; step++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned at = (unsigned)(seed >> 60);
		size_t size = 1 + (seed >> 20) % (3 * LIMIT);
		CHECK(!sizes[at] || (arrays[at][0] == mark && arrays[at][sizes[at] - 1] == mark));
		if (step % 3 == 0) {
			arrays[at] = ours->realloc(ours->context, arrays[at], size);
			CHECK(!sizes[at] || arrays[at][0] == mark);
		} else {
			ours->free(ours->context, arrays[at], sizes[at]);
			arrays[at] = step % 3 == 1 ? ours->malloc(ours->context, size)
						   : ours->calloc(ours->context, size, 1);
			CHECK(step % 3 == 1 || (arrays[at][0] == 0 && arrays[at][size - 1] == 0));
		}
		CHECK(size < LIMIT || ((uintptr_t)arrays[at] & 4095) == 0);
		sizes[at] = size;
		memset(arrays[at], mark, size);
	}
	for (unsigned i = 0; i < 16; i++)
		ours->free(ours->context, arrays[i], sizes[i]);
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
