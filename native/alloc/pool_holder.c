/* Which process holds an object of a shared pool, and the return of objects whose process died.
 *
 * A process locks one byte of the pool's file, by an open file description of its own, when it
 * opens the pool. The kernel drops that lock with the last reference to the description: when the
 * process ends, whatever ends it, or executes another program. The number of the byte stands in
 * the owner word of each object that the process holds. Whoever can lock the byte of another
 * number knows that its process is dead, and keeps new processes off the number while the objects
 * go back.
 *
 * A mapping of the description holds the lock for a process that closes all its descriptors, as
 * daemons do. No child inherits the mapping, since a child would keep the lock. Without the
 * descriptor the process cannot ask for the locks of others, and frees no objects of the dead. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "pool.h"

/* Far behind the last byte of any pool. */
#define LOCK_OFFSET (1ll << 61)
/* Locks in a chain of halves; the order of the kernel's list is as good as random. */
#define SEARCH_DEPTH 128u

/* True: this process has the lock now. A lock of the same description counts as none. */
static bool lock_byte(int fd, uint32_t holder, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_OFFSET + holder, .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* A description of its own, since those that were inherited or received share their locks. */
static int reopen(int fd)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* A program may have closed all its descriptors, and opened another file at that number. */
static bool is_own_descriptor(const struct mematlas_pool *pool)
{
	struct stat now;

	return pool->holder_fd >= 0 && fstat(pool->holder_fd, &now) == 0 &&
	       now.st_dev == pool->holder_device && now.st_ino == pool->holder_inode;
}

/* Frees the objects of a dead holder. The owner word decides who frees an object, so a process
 * that dies here leaves each object free or held. Returns the number of objects. */
static uint64_t free_objects_of(struct mematlas_pool *pool, uint32_t holder)
{
	uint64_t bump = GET(pool->memory->bump), freed = 0;

	if (bump > pool->count)
		bump = pool->count;
	for (uint64_t number = 0; number < bump; number++) {
		uint32_t owner = GET(pool->slots[number].owner);
		if ((owner & OWNER_MASK) == holder)
			freed += pool_free_list_release(pool, (uint32_t)number, owner);
	}
	return freed;
}

/* NO_HOLDER: no file lock to be had. The objects stay in use when the process dies. */
static uint32_t lock_any(struct mematlas_pool *pool)
{
	for (uint32_t tries = 0; tries < HOLDERS_MAX; tries++) {
		uint32_t holder = atomic_fetch_add(&pool->memory->next_holder, 1) % HOLDERS_MAX + 1;
		if (lock_byte(pool->holder_fd, holder, F_WRLCK))
			return holder;
		if (errno != EAGAIN && errno != EACCES)
			break; /* not another holder's: the file has no locks */
	}
	return NO_HOLDER;
}

/* MAP_FAILED: the descriptor alone holds the lock. */
static void *map_description(const struct mematlas_pool *pool)
{
	void *page = mmap(NULL, POOL_ALIGNMENT_MAX, PROT_NONE, MAP_SHARED, pool->holder_fd, 0);

	if (page == MAP_FAILED || madvise(page, POOL_ALIGNMENT_MAX, MADV_DONTFORK) == 0)
		return page;
	munmap(page, POOL_ALIGNMENT_MAX);
	return MAP_FAILED;
}

void pool_holder_open(struct mematlas_pool *pool, int fd)
{
	struct stat file;

	pool->holder_fd = fd < 0 ? -1 : reopen(fd);
	pool->holder_mapping = MAP_FAILED;
	pool->holder_process = getpid();
	pool->holder_locked = NO_HOLDER;
	pool->searched = (struct pool_holders){0};
	SET(pool->holder, 0);
	if (pool->holder_fd < 0)
		return;
	if (fstat(pool->holder_fd, &file) == 0) {
		pool->holder_device = file.st_dev;
		pool->holder_inode = file.st_ino;
	}
	pool->holder_locked = lock_any(pool);
	pool->holder_mapping = map_description(pool);
}

/* The first alloc pays for the search, so that a child that allocates nothing does not. */
uint32_t pool_holder_claim(struct mematlas_pool *pool)
{
	LOCK_SCOPE(&pool->holder_lock);
	if (!GET(pool->holder)) {
		if (pool->holder_locked != NO_HOLDER) /* an earlier process had the number */
			atomic_fetch_add(&pool->memory->reclaimed,
					 free_objects_of(pool, pool->holder_locked));
		SET(pool->holder, pool->holder_locked);
	}
	return GET(pool->holder);
}

void pool_holder_close(struct mematlas_pool *pool)
{
	/* A child of clone(2), which runs no handlers of fork, may have memory of its own there. */
	if (pool->holder_mapping != MAP_FAILED && pool->holder_process == getpid())
		munmap(pool->holder_mapping, POOL_ALIGNMENT_MAX);
	if (is_own_descriptor(pool))
		close(pool->holder_fd);
}

/* The descriptor is the parent's description, and would keep the parent's lock beyond its death.
 * The mapping is the parent's alone. */
void pool_holder_leave(struct mematlas_pool *pool)
{
	int inherited = is_own_descriptor(pool) ? pool->holder_fd : -1;

	pool_holder_open(pool, inherited);
	if (inherited >= 0)
		close(inherited);
}

/* Adds the numbers from `first` to before `end` that are locked by others. The kernel names any one
 * lock of the range. False: too deep, as where another process locked all numbers at once. */
static bool add_living(int fd, uint32_t first, uint32_t end, unsigned depth, uint64_t *ret_sum)
{
	while (first < end) {
		struct flock lock = {.l_type = F_WRLCK,
				     .l_whence = SEEK_SET,
				     .l_start = LOCK_OFFSET + first,
				     .l_len = end - first};
		if (!depth-- || fcntl(fd, F_OFD_GETLK, &lock) < 0)
			return false;
		if (lock.l_type == F_UNLCK)
			return true;
		if (lock.l_start < LOCK_OFFSET + first || lock.l_start >= LOCK_OFFSET + end)
			return false;
		uint32_t found = (uint32_t)(lock.l_start - LOCK_OFFSET);
		*ret_sum += (found + 1ull) * 0x9e3779b97f4a7c15ull;
		if (!add_living(fd, first, found, depth, ret_sum))
			return false;
		first = found + 1;
	}
	return true;
}

/* What changes when a holder ends or begins, and at the latest after a second, for what no lock
 * tells. */
static struct pool_holders living(struct mematlas_pool *pool)
{
	struct pool_holders found = {.begun = GET(pool->memory->next_holder)};
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	found.second = (uint64_t)now.tv_sec;
	if (is_own_descriptor(pool))
		add_living(pool->holder_fd, 1, HOLDERS_MAX + 1, SEARCH_DEPTH, &found.sum);
	return found;
}

bool pool_holder_may_have_died(struct mematlas_pool *pool, struct pool_holders *ret)
{
	LOCK_SCOPE(&pool->holder_lock);
	const struct pool_holders *last = &pool->searched;

	*ret = living(pool);
	return ret->sum != last->sum || ret->begun != last->begun || ret->second != last->second;
}

void pool_holder_found_nothing(struct mematlas_pool *pool, const struct pool_holders *before)
{
	LOCK_SCOPE(&pool->holder_lock);
	pool->searched = *before;
}

/* The lock of the process is needed, because all its threads share one description. */
uint64_t pool_holder_reclaim(struct mematlas_pool *pool)
{
	uint8_t alive[HOLDERS_MAX / 8 + 1] = {0};
	uint64_t freed = 0, bump = GET(pool->memory->bump);

	if (!is_own_descriptor(pool))
		return 0;
	LOCK_SCOPE(&pool->holder_lock);
	if (bump > pool->count)
		bump = pool->count;
	for (uint64_t number = 0; number < bump; number++) {
		uint32_t holder = GET(pool->slots[number].owner) & OWNER_MASK;
		if (!holder || holder > HOLDERS_MAX || holder == pool->holder_locked ||
		    alive[holder / 8] >> holder % 8 & 1)
			continue;
		if (!lock_byte(pool->holder_fd, holder, F_WRLCK)) {
			alive[holder / 8] |= (uint8_t)(1u << holder % 8);
			continue;
		}
		freed += free_objects_of(pool, holder);
		lock_byte(pool->holder_fd, holder, F_UNLCK);
	}
	return freed;
}
