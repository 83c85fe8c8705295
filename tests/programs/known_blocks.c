/* Allocates and frees in several threads, also what other threads allocated, and writes what is live to a
 * file: pairs of address and size. known_blocks FILE THREADS BLOCKS */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 4

struct block {
	uint64_t address;
	uint64_t size;
};

static struct block *blocks; /* threads * count; mapped, no block of malloc */
static uint64_t threads, count;
static pthread_barrier_t barrier;

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* Most are small, some of each size up to 3 MiB, few above. */
static uint64_t next_size(uint64_t random)
{
	uint64_t kind = random % 10000, within = random >> 20;

	if (kind < 7000)
		return 1 + within % 512;
	if (kind < 9500)
		return 1 + within % 16384;
	if (kind < 9950)
		return 1 + within % 200000;
	return 1 + within % (kind < 9998 ? 3000000 : 40000000);
}

static void *alloc(uint64_t random, uint64_t size)
{
	switch ((random >> 50) % 40) {
	case 0:
		return memalign(64UL << (random >> 20) % 9, size);
	case 1:
		return realloc(malloc(size / 2 + 1), size);
	case 2:
		return calloc(1, size);
	default:
		return malloc(size);
	}
}

static void release(struct block *block)
{
	free((void *)(uintptr_t)block->address);
	block->address = 0;
}

static void *work(void *argument)
{
	uint64_t thread = (uint64_t)(uintptr_t)argument,
		 random = 88172645463325252ULL * (thread + 1);

	for (uint64_t i = 0; i < count * ROUNDS; i++) {
		struct block *block = &blocks[thread * count + (next(&random) >> 33) % count];

		if (block->address) {
			release(block);
			if (next(&random) >> 60 < 10)
				continue;
		}
		block->size = next_size(next(&random));
		block->address = (uint64_t)(uintptr_t)alloc(random, block->size);
		if (!block->address)
			abort();
		memset((void *)(uintptr_t)block->address, 0x11,
		       block->size < 64 ? block->size : 64);
	}
	pthread_barrier_wait(&barrier);
	for (uint64_t i = thread % 7; i < count; i += 7) /* frees of another thread's blocks */
		release(&blocks[(thread + 1) % threads * count + i]);
	pthread_barrier_wait(&barrier);
	/* Every third thread ends, and leaves its blocks behind. */
	if (thread % 3 != 2)
		pause();
	return NULL;
}

static void run(void)
{
	pthread_t *started = mmap(NULL, threads * sizeof *started, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (started == MAP_FAILED)
		abort();
	pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
	for (uint64_t i = 0; i < threads; i++)
		if (pthread_create(&started[i], NULL, work, (void *)(uintptr_t)i))
			abort();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (uint64_t i = 2; i < threads; i += 3)
		pthread_join(started[i], NULL);
}

int main(int argument_count, char **arguments)
{
	int file =
		argument_count == 4 ? open(arguments[1], O_CREAT | O_WRONLY | O_TRUNC, 0600) : -1;

	if (file < 0)
		return 2;
	threads = strtoul(arguments[2], NULL, 10);
	count = strtoul(arguments[3], NULL, 10);
	blocks = mmap(NULL, threads * (count + 1) * sizeof *blocks, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (blocks == MAP_FAILED)
		return 2;
	if (count)
		run();
	for (uint64_t i = 0; i < threads * count; i++)
		if (blocks[i].address && write(file, &blocks[i], sizeof *blocks) != sizeof *blocks)
			return 2;
	if (write(STDOUT_FILENO, "ready\n", 6) != 6)
		return 2;
	pause();
	return 0;
}
