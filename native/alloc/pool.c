/* Making pools, opening and closing them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "membarrier.h"
#include "pool.h"

#define SMALL 128u /* objects: below that, magazines would starve other threads */

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

/* A pool whose slots, links and objects lie one after another. -EINVAL, -EOVERFLOW. */
static int plan_pool(uint64_t object_size, uint64_t count, uint64_t alignment,
		     struct pool_memory *ret)
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
	if (plan.stride == 1)
		plan.stride = 2; /* 1 has no reciprocal below 2^64 */
	if (__builtin_mul_overflow(plan.stride, count, &bytes) || bytes > PTRDIFF_MAX / 2)
		return -EOVERFLOW;
	uint64_t head = round_up(sizeof plan, LINE) + round_up(count * sizeof(struct slot), LINE) +
			round_up(count * 4, LINE);
	plan.objects_offset = round_up(head, 4096);
	plan.mapping_size = round_up(plan.objects_offset + bytes, 4096);
	*ret = plan;
	return 0;
}

static void lay_out(struct mematlas_pool *pool, char *mapping, const struct pool_memory *plan)
{
	uint64_t at = round_up(sizeof *plan, LINE);

	pool->memory = (struct pool_memory *)mapping;
	pool->stride = plan->stride;
	pool->count = plan->count;
	pool->reciprocal = UINT64_MAX / plan->stride + 1;
	pool->slots = (struct slot *)(mapping + at);
	at += round_up(plan->count * sizeof(struct slot), LINE);
	pool->next = (_Atomic uint32_t *)(mapping + at);
	pool->objects = mapping + plan->objects_offset;
}

static void unmap_pool(struct mematlas_pool *pool, const struct pool_memory *plan)
{
	munmap(pool->memory, plan->mapping_size);
	free(pool);
}

static int finish(char *mapping, const struct pool_memory *plan, bool private,
		  struct mematlas_pool **ret)
{
	struct mematlas_pool *pool = aligned_alloc(128, sizeof *pool);
	uint64_t batch = plan->count / 64;

	if (!pool) {
		munmap(mapping, plan->mapping_size);
		return -ENOMEM;
	}
	memset(pool, 0, sizeof *pool);
	lay_out(pool, mapping, plan);
	pool->common = !private || plan->count < SMALL || !membarrier_register();
	pool->exchange.private = private;
	pool->batch = (uint32_t)(batch < BATCH ? batch : BATCH);
	pool->magazine = 2 * pool->batch;
	pool->exchange.keeper_size = sizeof(struct pool_keeper);
	pool->exchange.leave = pool_leave;
	pool->exchange.adopt = pool_adopt;
	int error = exchange_open(&pool->exchange);
	if (error)
		unmap_pool(pool, plan);
	else
		*ret = pool;
	return error;
}

static char *map_pool(const struct pool_memory *plan, int fd)
{
	return mmap(NULL, plan->mapping_size, PROT_READ | PROT_WRITE,
		    fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
}

int mematlas_pool_create(uint64_t object_size, uint64_t count, uint64_t alignment, int fd,
			 struct mematlas_pool **ret)
{
	struct pool_memory plan;
	int error = plan_pool(object_size, count, alignment, &plan);

	if (error)
		return error;
	if (fd >= 0 && ftruncate(fd, (off_t)plan.mapping_size) < 0)
		return -errno;
	char *mapping = map_pool(&plan, fd);
	if (mapping == MAP_FAILED)
		return -errno;
	memcpy(mapping, &plan, sizeof plan);
	atomic_store(&((struct pool_memory *)mapping)->head, NONE);
	return finish(mapping, &plan, fd < 0, ret);
}

int mematlas_pool_open(int fd, struct mematlas_pool **ret)
{
	struct pool_memory seen, plan;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (pread(fd, &seen, sizeof seen, 0) != (ssize_t)sizeof seen || seen.magic != POOL_MAGIC ||
	    plan_pool(seen.object_size, seen.count, seen.alignment, &plan) ||
	    plan.mapping_size != (uint64_t)status.st_size)
		return -EINVAL;
	char *mapping = map_pool(&plan, fd);
	if (mapping == MAP_FAILED)
		return -errno;
	return finish(mapping, &plan, false, ret);
}

void mematlas_pool_destroy(struct mematlas_pool *pool)
{
	if (!pool)
		return;
	exchange_close(&pool->exchange);
	munmap(pool->memory, pool->memory->mapping_size);
	free(pool);
}
