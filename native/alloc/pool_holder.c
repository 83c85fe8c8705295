/* Which process holds an object of a shared pool, and the return of objects whose process died.
 *
 * A process locks one byte of the pool's file, by an open file description of its own. The kernel
 * drops that lock when the process ends, whatever ends it, or executes another program. The number
 * of the byte stands in the owner word of each object that the process holds. Whoever can lock the
 * byte of another number knows that its process is dead, and keeps new processes off the number
 * while the objects go back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lock.h"
#include "pool.h"

/* Far behind the last byte of any pool. */
#define LOCK_OFFSET (1ll << 61)

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
		if (owner >> OWNER_SHIFT == holder)
			freed += pool_free_list_release(pool, (uint32_t)number, owner);
	}
	return freed;
}

/* NO_HOLDER: no file lock to be had. The objects stay in use when the process dies. */
static uint32_t claim(struct mematlas_pool *pool)
{
	for (uint32_t tries = 0; tries < HOLDERS_MAX; tries++) {
		uint32_t holder = atomic_fetch_add(&pool->memory->next_holder, 1) % HOLDERS_MAX + 1;
		if (lock_byte(pool->holder_fd, holder, F_WRLCK)) {
			free_objects_of(pool, holder); /* of an earlier process of this number */
			return holder;
		}
	}
	return NO_HOLDER;
}

void pool_holder_open(struct mematlas_pool *pool, int fd)
{
	struct stat file;

	pool->holder_fd = fd < 0 ? -1 : reopen(fd);
	if (pool->holder_fd >= 0 && fstat(pool->holder_fd, &file) == 0) {
		pool->holder_device = file.st_dev;
		pool->holder_inode = file.st_ino;
	}
	SET(pool->holder, 0);
}

uint32_t pool_holder_claim(struct mematlas_pool *pool)
{
	LOCK_SCOPE(&pool->holder_lock);
	if (!GET(pool->holder))
		SET(pool->holder, is_own_descriptor(pool) ? claim(pool) : NO_HOLDER);
	return GET(pool->holder);
}

void pool_holder_close(struct mematlas_pool *pool)
{
	if (is_own_descriptor(pool))
		close(pool->holder_fd);
}

/* The descriptor is the parent's description, and would keep the parent's lock beyond its death. */
void pool_holder_leave(struct mematlas_pool *pool)
{
	int inherited = is_own_descriptor(pool) ? pool->holder_fd : -1;

	pool_holder_open(pool, inherited);
	if (inherited >= 0)
		close(inherited);
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
		uint32_t holder = GET(pool->slots[number].owner) >> OWNER_SHIFT;
		if (!holder || holder > HOLDERS_MAX || holder == GET(pool->holder) ||
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
