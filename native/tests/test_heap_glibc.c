/* The blocks of glibc's malloc found from outside, against a process that lists its own. */
#include <malloc.h>
#include <pthread.h>

#include "../heap/heap.h"
#include "capture.h"
#include "random.h"

#define THREADS 5
#define BLOCKS 4000

struct block {
	uint64_t address;
	size_t size;
};

static struct block (*blocks)[BLOCKS]; /* mapped: no block of malloc */
static pthread_barrier_t barrier;

static size_t next_size(uint64_t random)
{
	if (random % 100 < 80)
		return 1 + (random >> 8) % 200;
	if (random % 100 < 98)
		return 1 + (random >> 8) % 4000;
	return 1 + (random >> 8) % (random % 1000 < 997 ? 60000 : 1000000);
}

static void *alloc(uint64_t random, size_t size)
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

static void *work(void *argument)
{
	uint64_t thread = (uint64_t)(uintptr_t)argument,
		 random = 88172645463325252ULL * (thread + 1);

	for (int i = 0; i < BLOCKS * 4; i++) {
		struct block *block;

		random_next(&random);
		block = &blocks[thread][(random >> 33) % BLOCKS];
		if (block->address) {
			free((void *)block->address);
			block->address = 0;
			if (random >> 60 < 10)
				continue;
		}
		block->size = next_size(random);
		block->address = (uint64_t)(uintptr_t)alloc(random, block->size);
		memset((void *)block->address, 0x11, block->size < 64 ? block->size : 64);
	}
	pthread_barrier_wait(&barrier);
	if (thread) /* frees of another thread's blocks */
		for (int i = 0; i < BLOCKS; i += 97) {
			free((void *)blocks[thread - 1][i].address);
			blocks[thread - 1][i].address = 0;
		}
	pthread_barrier_wait(&barrier);
	pause();
	return NULL;
}

static void start(void)
{
	pthread_t thread;

	mallopt(M_MMAP_THRESHOLD, 65536);
	blocks = mmap(NULL, sizeof *blocks * THREADS, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(blocks != MAP_FAILED);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread, NULL, work, (void *)i));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
}

/* Returns how many of the known blocks were found, and checks the sizes. */
static uint64_t compare(const struct mematlas_heap *handle, uint64_t *known)
{
	const uint64_t *address = mematlas_heap_column(handle, MEMATLAS_HEAP_ADDRESS);
	const uint64_t *size = mematlas_heap_column(handle, MEMATLAS_HEAP_SIZE);
	uint64_t same = 0;

	*known = 0;
	for (int i = 0; i < THREADS * BLOCKS; i++) {
		const struct block *block = &blocks[i / BLOCKS][i % BLOCKS];
		uint32_t found = mematlas_heap_find(handle, block->address);

		if (!block->address)
			continue;
		++*known;
		if (found == HEAP_NONE || address[found] != block->address)
			continue;
		same++;
		CHECK(size[found] >= block->size);
	}
	return same;
}

static struct mematlas_heap *read_heap(const struct capture *capture,
				       struct mematlas_heap_glibc *sum, int64_t *count)
{
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(capture->ranges, capture->count, (uint64_t)getpagesize(),
				   &heap) == 0);
	CHECK(mematlas_heap_read_glibc(heap, sum) == 0);
	*count = mematlas_heap_index(heap);
	CHECK(*count > 0);
	return heap;
}

static void test_blocks(const struct capture *capture)
{
	const struct mematlas_heap_finding *findings;
	struct mematlas_heap_glibc sum;
	uint64_t total, known;
	int64_t count;
	struct mematlas_heap *heap = read_heap(capture, &sum, &count);

	CHECK(compare(heap, &known) == known);
	mematlas_heap_findings(heap, &total, &findings);
	printf("%lu known, %ld found, %lu arenas, %lu caches with %lu bytes, fast %lu, mapped %lu "
	       "of %lu\n",
	       known, count, sum.arenas, sum.thread_caches, sum.cached, sum.fast, sum.mapped_chunks,
	       sum.told_mapped_chunks);
	CHECK(total == 0 && sum.torn == 0);
	/* Others: thread caches, dynamic TLS vectors, a stdio buffer. */
	CHECK((uint64_t)count - known < 4 * THREADS + 8);
	CHECK(sum.mapped_chunks > 10);
	if (sum.told_mapped != UINT64_MAX)
		CHECK(sum.told_mapped_chunks == sum.mapped_chunks && sum.told_mapped == sum.mapped);
	mematlas_heap_destroy(heap);
}

static void write_word(struct capture *capture, uint64_t address, uint64_t word)
{
	for (uint64_t i = 0; i < capture->count; i++) {
		struct mematlas_heap_range *range = &capture->ranges[i];

		if (address - range->start < range->size)
			memcpy((uint8_t *)(uintptr_t)range->bytes + (address - range->start), &word,
			       8);
	}
}

/* A header overwritten by the block before it costs the blocks around, not the heap. */
static void test_torn(struct capture *capture)
{
	const struct mematlas_heap_finding *findings;
	struct mematlas_heap_glibc sum;
	const struct block *torn = blocks[2];
	uint64_t total, known, same;
	int64_t count;
	struct mematlas_heap *heap;

	while (torn->size > 1000 || !torn->address)
		torn++;
	write_word(capture, torn->address - 8, 0x4141414141414141);
	heap = read_heap(capture, &sum, &count);
	same = compare(heap, &known);
	printf("%lu of %lu after a torn chunk, %lu bytes skipped\n", same, known, sum.torn);
	CHECK(mematlas_heap_findings(heap, &total, &findings) >= 1);
	CHECK(findings[0].kind == MEMATLAS_HEAP_TORN_CHUNK);
	CHECK(findings[0].address == torn->address - 16 && findings[0].detail > torn->address);
	CHECK(same < known && known - same < 40 && sum.torn > 0 && sum.torn < 100000);
	mematlas_heap_destroy(heap);
}

int main(int count, char **arguments)
{
	static struct capture capture;

	start();
	capture_fork(&capture);
	if (count > 1) {
		capture_save(&capture, arguments[1]);
		return 0;
	}
	test_blocks(&capture);
	test_torn(&capture);
	capture_release(&capture);
	return 0;
}
