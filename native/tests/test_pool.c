/* The pool: an object is allocated to one user at a time, and no object is lost. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mematlas.h"
#include "check.h"

#define THREADS 4
#define ROUNDS 400

static struct mematlas_pool *pool;
static _Atomic(void *) shared[256]; /* objects that threads pass to each other */

static struct mematlas_pool_stats stats(void)
{
	struct mematlas_pool_stats now;

	mematlas_pool_read_stats(pool, &now);
	return now;
}

/* Allocates objects, marks each, passes some to other threads, and frees the rest, whose marks must
 * be intact. */
static void *pass_objects(void *argument)
{
	uint64_t me = (uint64_t)(uintptr_t)argument, seed = me * 0x9e3779b97f4a7c15ull;
	uint64_t *own[300];

	for (int round = 0; round < ROUNDS; round++) {
		unsigned held = 0;
		for (unsigned i = 0; i < 300; i++) {
			uint64_t *object = mematlas_pool_alloc(pool);
			if (!object)
				break;
			CHECK(object[0] == 0); /* as the last user left the object */
			object[0] = me;
			own[held++] = object;
		}
		while (held) {
			uint64_t *object = own[--held];
			CHECK(object[0] == me);
			object[0] = 0;
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			if (seed >> 62)
				object = atomic_exchange(&shared[seed >> 40 & 255], object);
			if (object)
				CHECK(mematlas_pool_free(pool, object) == 0);
		}
	}
	return NULL;
}

static void test_threads(uint64_t count)
{
	pthread_t threads[THREADS];

	CHECK(mematlas_pool_create(48, count, 16, -1, &pool) == 0);
	memset(shared, 0, sizeof shared);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, pass_objects, (void *)(i + 1)) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (unsigned i = 0; i < 256; i++)
		if (shared[i])
			CHECK(mematlas_pool_free(pool, shared[i]) == 0);
	CHECK(mematlas_pool_check(pool) == 0);
	struct mematlas_pool_stats now = stats();
	CHECK(now.in_use == 0 && now.allocs == now.frees && now.allocs > 0);
	mematlas_pool_destroy(pool);
}

static void test_mistakes(void)
{
	char elsewhere[64];

	CHECK(mematlas_pool_create(40, 100, 8, -1, &pool) == 0);
	char *object = mematlas_pool_alloc(pool);
	CHECK(object && ((uintptr_t)object & 7) == 0);
	CHECK(mematlas_pool_free(pool, object + 8) == -EINVAL);
	CHECK(mematlas_pool_free(pool, elsewhere) == -EFAULT);
	CHECK(mematlas_pool_free(pool, object + 40 * 200) == -EFAULT);
	CHECK(mematlas_pool_free(pool, object) == 0);
	CHECK(mematlas_pool_free(pool, object) == -EALREADY);
	CHECK(stats().in_use == 0 && mematlas_pool_check(pool) == 0);
	mematlas_pool_destroy(pool);
	CHECK(mematlas_pool_create(0, 10, 8, -1, &pool) == -EINVAL);
	CHECK(mematlas_pool_create(8, 10, 3, -1, &pool) == -EINVAL);
	CHECK(mematlas_pool_create(8, 1u << 24, 8, -1, &pool) == -EINVAL);
	CHECK(mematlas_pool_create(1ull << 45, 1u << 23, 8, -1, &pool) == -EOVERFLOW);
	mematlas_pool_destroy(NULL);
}

static void test_exhaustion(void)
{
	void *objects[37];

	CHECK(mematlas_pool_create(100, 37, 64, -1, &pool) == 0);
	for (unsigned i = 0; i < 37; i++) {
		objects[i] = mematlas_pool_alloc(pool);
		CHECK(objects[i] && ((uintptr_t)objects[i] & 63) == 0);
		memset(objects[i], 0xa5, 100);
	}
	CHECK(!mematlas_pool_alloc(pool) && !mematlas_pool_alloc(pool));
	CHECK(stats().failed_allocs == 2 && stats().in_use == 37);
	for (unsigned i = 0; i < 37; i++)
		CHECK(mematlas_pool_free(pool, objects[i]) == 0);
	CHECK(mematlas_pool_alloc(pool) && mematlas_pool_check(pool) == 0);
	mematlas_pool_destroy(pool);
}

static void *hold_some(void *argument)
{
	void *object = mematlas_pool_alloc(pool);

	CHECK(object && mematlas_pool_free(pool, object) == 0);
	pthread_barrier_wait(argument); /* the thread's magazine holds objects now */
	pthread_barrier_wait(argument);
	return NULL;
}

/* A child has only the forking thread. The objects in the other threads' magazines must be free
 * there. */
static void test_fork(void)
{
	pthread_barrier_t barrier;
	pthread_t thread;
	int status;

	CHECK(mematlas_pool_create(32, 6400, 32, -1, &pool) == 0);
	CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
	CHECK(pthread_create(&thread, NULL, hold_some, &barrier) == 0);
	pthread_barrier_wait(&barrier);
	CHECK(stats().cached > 0);
	pid_t child = fork();
	if (child == 0) {
		for (unsigned i = 0; i < 6400; i++)
			if (!mematlas_pool_alloc(pool))
				_exit(1);
		_exit(mematlas_pool_alloc(pool) || mematlas_pool_check(pool) ? 2 : 0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	pthread_barrier_wait(&barrier);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(stats().cached == 0 && mematlas_pool_check(pool) == 0);
	mematlas_pool_destroy(pool);
	pthread_barrier_destroy(&barrier);
}

/* Returns 0, or the number of the check that failed. */
static int use_all_and_free(unsigned count)
{
	void *objects[16];

	for (unsigned i = 0; i < count; i++)
		if (!(objects[i] = mematlas_pool_alloc(pool)))
			return 1;
	if (mematlas_pool_alloc(pool) || mematlas_pool_check(pool))
		return 2;
	for (unsigned i = 0; i < count; i++)
		if (mematlas_pool_free(pool, objects[i]))
			return 3;
	return mematlas_pool_check(pool) ? 4 : 0;
}

/* A pool without thread caches, all of whose objects were freed: none is lost in the child, however
 * often the objects are allocated. */
static void test_fork_of_a_small_pool(void)
{
	int status, failed = 0;

	CHECK(mematlas_pool_create(32, 16, 32, -1, &pool) == 0);
	CHECK(use_all_and_free(16) == 0);
	pid_t child = fork();
	if (child == 0) {
		for (unsigned round = 0; round < 3 && !failed; round++)
			failed = use_all_and_free(16);
		_exit(failed);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	mematlas_pool_destroy(pool);
}

/* Exit status of the child: 0, or the number of the check that failed. */
static int use_shared(int fd)
{
	struct mematlas_pool *other;
	unsigned allocated = 0;

	if (mematlas_pool_open(fd, &other) != 0)
		return 1;
	for (int round = 0; round < 2000; round++) {
		uint64_t *object = mematlas_pool_alloc(other);
		if (!object || (*object != 0 && *object != 7))
			return 2;
		*object = 7;
		if (mematlas_pool_free(other, object) != 0)
			return 3;
	}
	while (mematlas_pool_alloc(other))
		allocated++;
	return allocated == 499 ? 0 : 4;
}

/* What the other process held when it ended. */
static void reclaim_shared(void)
{
	CHECK(stats().in_use == 500 && stats().reclaimed == 0);
	for (int i = 0; i < 499; i++)
		CHECK(mematlas_pool_alloc(pool));
	CHECK(stats().reclaimed == 499 && mematlas_pool_check(pool) == 0);
}

/* Two processes, each with a mapping of its own of one pool. */
static void test_shared(void)
{
	int status, fd = memfd_create("pool", MFD_CLOEXEC);
	uint64_t *object;

	CHECK(fd >= 0 && mematlas_pool_create(64, 500, 64, fd, &pool) == 0);
	object = mematlas_pool_alloc(pool);
	*object = 4711;
	pid_t child = fork();
	if (child == 0)
		_exit(use_shared(fd));
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	reclaim_shared();
	CHECK(*object == 4711 && !mematlas_pool_alloc(pool) && stats().in_use == 500);
	mematlas_pool_destroy(pool);
	CHECK(ftruncate(fd, 100) == 0 && mematlas_pool_open(fd, &pool) == -EINVAL);
	close(fd);
}

/* Another process may write anything into the shared memory: the head of the list, its links, all sizes. */
/* Daemons close all descriptors, and files that they open then get the numbers. */
static void test_closed_descriptors(void)
{
	int fd = memfd_create("pool", MFD_CLOEXEC), foreign[8];

	CHECK(fd >= 0 && mematlas_pool_create(64, 4, 8, fd, &pool) == 0);
	CHECK(mematlas_pool_alloc(pool));
	for (int other = 3; other < fd + 8; other++)
		if (other != fd)
			close(other);
	for (int i = 0; i < 8; i++)
		foreign[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 4; i++)
		mematlas_pool_alloc(pool); /* the last searches for lost objects */
	mematlas_pool_destroy(pool);
	for (int i = 0; i < 8; i++)
		CHECK(fcntl(foreign[i], F_GETFD) >= 0 && close(foreign[i]) == 0);
	close(fd);
}

static void test_hostile_memory(void)
{
	int fd = memfd_create("pool", MFD_CLOEXEC);
	struct mematlas_pool *hostile;
	struct mematlas_pool_stats stats;

	CHECK(mematlas_pool_create(64, 200, 8, fd, &hostile) == 0);
	char *first = mematlas_pool_alloc(hostile);
	CHECK(first && mematlas_pool_free(hostile, first) == 0);
	mematlas_pool_read_stats(hostile, &stats);
	uint64_t *memory =
		mmap(NULL, stats.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(memory != MAP_FAILED);
	for (uint64_t number = 0xfffff0u; number != 199;
	     number = number > 300 ? number / 16 : 199) {
		memory[8] = 7ull << 24 | number; /* pool->memory->free_list, in the second line */
		char *object = mematlas_pool_alloc(hostile);
		CHECK(!object || (object >= first && object < first + 200ull * 64));
	}
	memset(memory, 0xff, 64); /* the header, which held the size of the mapping */
	mematlas_pool_destroy(hostile);
	memory[0] = 1; /* only the pool's own mapping is gone */
	munmap(memory, stats.mapping_bytes);
	close(fd);
}

#define OTHERS 64u

/* A child that no handler of fork runs in does not unmap what it has where its parent holds the lock. */
static void test_destroy_in_a_clone(void)
{
	struct mematlas_pool *parents;
	volatile char *others[OTHERS];
	int status, fd = memfd_create("pool", MFD_CLOEXEC);

	CHECK(fd >= 0 && mematlas_pool_create(64, 8, 16, fd, &parents) == 0);
	int child = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	CHECK(child >= 0);
	if (child == 0) {
		for (unsigned i = 0; i < OTHERS; i++) /* holes are filled first */
			others[i] =
				mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mematlas_pool_destroy(parents);
		for (unsigned i = 0; i < OTHERS; i++)
			others[i][0] = 1;
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	mematlas_pool_destroy(parents);
	close(fd);
}

int main(void)
{
	test_mistakes();
	test_exhaustion();
	test_threads(50);
	test_threads(5000);
	test_fork();
	test_fork_of_a_small_pool();
	test_closed_descriptors();
	test_shared();
	test_hostile_memory();
	test_destroy_in_a_clone();
	return 0;
}
