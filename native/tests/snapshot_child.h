/* Children that are copied, and looks at the copies. For the tests of snapshot/. */
#ifndef MEMATLAS_TESTS_SNAPSHOT_CHILD_H
#define MEMATLAS_TESTS_SNAPSHOT_CHILD_H

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "child_state.h"
#include "mematlas.h"

#define TIMEOUT_S 20.0
#define PAGE 4096ul

/* Shared with the child. */
struct shared {
	atomic_int ready;
	atomic_ulong count;
	uint64_t *block, *other;
	int results[32], errors[32];
	double seconds[32];
	int futex;
};
static struct shared *shared;
static double estimate_s;
static int can_copy_first = 1; /* this kernel can */
static uint64_t global_word = 0x1122334455667788;

static inline void map_shared(void)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	CHECK(shared != MAP_FAILED);
}

static inline int start(void (*body)(void))
{
	memset(shared, 0, sizeof *shared);
	int pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	while (!shared->ready)
		usleep(1000);
	return pid;
}

static inline void end(int pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static inline struct mematlas_image *capture(int pid, int way)
{
	struct mematlas_image *image;
	int error = mematlas_image_capture(pid, way, TIMEOUT_S, 0, &estimate_s, &image);

	if (error == -EPERM)
		SKIP("ptrace is refused");
	if (error)
		fprintf(stderr, "capture: %s\n", strerror(-error));
	CHECK(error == 0);
	return image;
}

static inline struct mematlas_image_facts facts_of(const struct mematlas_image *image)
{
	struct mematlas_image_facts facts;

	mematlas_image_facts(image, &facts);
	return facts;
}

static inline const struct mematlas_heap_range *find(const struct mematlas_image *image,
						     uint64_t address)
{
	const struct mematlas_heap_range *ranges = mematlas_image_ranges(image);
	uint64_t count = facts_of(image).range_count;

	for (uint64_t i = 0; i < count; i++)
		if (address - ranges[i].start < ranges[i].size)
			return &ranges[i];
	return NULL;
}

static inline uint64_t word_at(const struct mematlas_image *image, uint64_t address)
{
	const struct mematlas_heap_range *range = find(image, address);
	uint64_t word;

	CHECK(range && range->size - (address - range->start) >= sizeof word);
	memcpy(&word, range->bytes + (address - range->start), sizeof word);
	return word;
}

/* A child that ends if a sleep of it is interrupted. */
static inline void counts_alone(void)
{
	for (;;) {
		struct timespec nap = {.tv_nsec = 100000};
		shared->ready = 1;
		shared->count++;
		if (nanosleep(&nap, NULL) < 0)
			_exit(3); /* interrupted */
	}
}

static inline void check_goes_on(int pid)
{
	unsigned long before = shared->count;

	WAIT_FOR(shared->count > before);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
}

#define BLOCK_PAGES 64ul

static inline void holds_memory(void)
{
	char *block = mmap(NULL, BLOCK_PAGES * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned long i = 0; i < BLOCK_PAGES; i += 2)
		*(uint64_t *)(block + i * PAGE) = i + 1;
	global_word = 0x55;
	shared->block = (uint64_t *)block;
	shared->ready = 1;
	for (;;)
		pause();
}

static inline void find_abilities(void)
{
	int pid = start(holds_memory);
	struct mematlas_image *image;
	int error = mematlas_image_capture(pid, MEMATLAS_IMAGE_COPY_FIRST, TIMEOUT_S, 0,
					   &estimate_s, &image);

	can_copy_first = error == 0;
	if (error)
		printf("copying first is not possible here: %s\n", strerror(-error));
	mematlas_image_destroy(image);
	end(pid);
}

#endif
