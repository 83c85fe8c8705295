/* Creation and layout of pools. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "membarrier.h"
#include "pool.h"

#define TCACHE_MIN_COUNT 128u /* with fewer objects, magazines would starve other threads */

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

static bool is_power_of_two(uint64_t value)
{
	return value && (value & (value - 1)) == 0;
}

/* Compute the layout. Returns 0, -EINVAL or -EOVERFLOW. */
static int plan_pool(uint64_t object_size, uint64_t count, uint64_t alignment,
		     struct pool_memory *ret)
{
	struct pool_memory plan = {.magic = POOL_MAGIC,
				   .object_size = object_size,
				   .count = count,
				   .alignment = alignment};
	uint64_t bytes;

	if (!object_size || object_size > PTRDIFF_MAX / 2 || !count || count >= NO_OBJECT)
		return -EINVAL;
	if (!is_power_of_two(alignment) || alignment > POOL_ALIGNMENT_MAX)
		return -EINVAL;
	plan.stride = round_up(object_size, alignment);
	if (plan.stride == 1)
		plan.stride = 2; /* 2^64 / 1 does not fit `reciprocal` */
	if (__builtin_mul_overflow(plan.stride, count, &bytes) || bytes > PTRDIFF_MAX / 2)
		return -EOVERFLOW;
	uint64_t head = sizeof plan + round_up(count * sizeof(struct slot), POOL_LINE) +
			round_up(count * sizeof(uint32_t), POOL_LINE);
	plan.objects_offset = round_up(head, POOL_ALIGNMENT_MAX);
	plan.mapping_size = round_up(plan.objects_offset + bytes, POOL_ALIGNMENT_MAX);
	*ret = plan;
	return 0;
}

/* The condition of pool_slot_at(). A pool that fails it is larger than 45 GiB, with objects of more
 * than 340 MiB. */
static bool is_exact(const struct pool_memory *plan)
{
	uint64_t product;

	return !__builtin_mul_overflow(plan->count * plan->stride, plan->stride, &product);
}

/* From the plan, never from the header in shared memory, which other processes can write. */
static void set_layout(struct mematlas_pool *pool, char *mapping, const struct pool_memory *plan)
{
	uint64_t at = sizeof *plan;

	pool->memory = (struct pool_memory *)mapping;
	pool->object_size = plan->object_size;
	pool->stride = plan->stride;
	pool->count = plan->count;
	pool->mapping_size = plan->mapping_size;
	pool->reciprocal = UINT64_MAX / plan->stride + 1;
	pool->slots = (struct slot *)(mapping + at);
	at += round_up(plan->count * sizeof(struct slot), POOL_LINE);
	pool->links = (_Atomic uint32_t *)(mapping + at);
	pool->objects = mapping + plan->objects_offset;
}

/* Across fork(2), so that the child finds the lock free. */
static void pool_lock(struct tcache_group *group)
{
	pthread_mutex_lock(&pool_of_group(group)->holder_lock);
}

static void pool_unlock(struct tcache_group *group)
{
	pthread_mutex_unlock(&pool_of_group(group)->holder_lock);
}

static void pool_forked(struct tcache_group *group)
{
	if (!group->private)
		pool_holder_leave(pool_of_group(group));
}

/* Takes ownership of the mapping, also on failure. */
static int open_mapping(char *mapping, const struct pool_memory *plan, int fd,
			struct mematlas_pool **ret)
{
	bool private = fd < 0;
	struct mematlas_pool *pool = aligned_alloc(TCACHE_LINE, sizeof *pool);
	uint64_t batch_size = plan->count / 64;
	int error = pool ? 0 : -ENOMEM;

	if (!error) {
		memset(pool, 0, sizeof *pool);
		set_layout(pool, mapping, plan);
		pool->uses_free_list = !private || plan->count < TCACHE_MIN_COUNT ||
				       !is_exact(plan) || !membarrier_register();
		pool->batch_size = (uint32_t)(batch_size < BATCH_SIZE ? batch_size : BATCH_SIZE);
		pool->group.private = private;
		pool->group.tcache_size = sizeof(struct pool_tcache);
		pool->group.init = pool_tcache_init;
		pool->group.flush = pool_tcache_flush;
		pool->group.rebuild = pool_rebuild;
		pool->group.lock = pool_lock;
		pool->group.unlock = pool_unlock;
		pool->group.forked = pool_forked;
		pthread_mutex_init(&pool->holder_lock, NULL);
		error = tcache_group_open(&pool->group);
	}
	if (error) {
		munmap(mapping, plan->mapping_size);
		free(pool);
		return error;
	}
	pool_holder_open(pool, fd);
	*ret = pool;
	return 0;
}

/* No process can shrink the file then, which would end the others by SIGBUS. Only a memfd has
 * seals. */
static void seal(int fd)
{
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
}

/* MAP_FAILED with errno. A pool with a descriptor is shared, and outlives the process. */
static char *map_pool(const struct pool_memory *plan, int fd)
{
	return mmap(NULL, plan->mapping_size, PROT_READ | PROT_WRITE,
		    fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
}

/* With a descriptor, the file is set to the size of the pool and stays the caller's. Pages that
 * were never written have no memory. */
int mematlas_pool_create(uint64_t object_size, uint64_t count, uint64_t alignment, int fd,
			 struct mematlas_pool **ret)
{
	struct pool_memory plan;
	int error = plan_pool(object_size, count, alignment, &plan);

	if (error)
		return error;
	if (fd >= 0 && ftruncate(fd, (off_t)plan.mapping_size) < 0)
		return -errno;
	if (fd >= 0)
		seal(fd);
	char *mapping = map_pool(&plan, fd);
	if (mapping == MAP_FAILED)
		return -errno;
	memcpy(mapping, &plan, sizeof plan);
	atomic_store(&((struct pool_memory *)mapping)->free_list, NO_OBJECT);
	return open_mapping(mapping, &plan, fd, ret);
}

/* The header is read once and planned anew: a file that another process wrote may hold any
 * number. -EINVAL: not the file of a pool, or of another size. */
int mematlas_pool_open(int fd, struct mematlas_pool **ret)
{
	struct pool_memory header, plan;
	struct stat status;

	ssize_t got = pread(fd, &header, sizeof header, 0);
	if (got < 0)
		return -errno;
	if (got != (ssize_t)sizeof header || header.magic != POOL_MAGIC ||
	    plan_pool(header.object_size, header.count, header.alignment, &plan))
		return -EINVAL;
	seal(fd); /* before its size is read */
	if (fstat(fd, &status) < 0)
		return -errno;
	if (plan.mapping_size != (uint64_t)status.st_size)
		return -EINVAL;
	char *mapping = map_pool(&plan, fd);
	if (mapping == MAP_FAILED)
		return -errno;
	return open_mapping(mapping, &plan, fd, ret);
}

/* Objects of a shared pool stay in use for other processes; those in magazines of this process
 * are lost to them, which is why shared pools have none. */
void mematlas_pool_destroy(struct mematlas_pool *pool)
{
	if (!pool)
		return;
	tcache_group_close(&pool->group);
	pool_holder_close(pool);
	munmap(pool->memory, pool->mapping_size);
	free(pool);
}
