/* Allocates in keep() as a shape asks, and appends to FILE one line of JSON with what keep() has live at the
 * end, had at its peak, allocated and has resident; or what its functions touched first.
 *   known_totals SHAPE FILE */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define NOINLINE __attribute__((noinline, noclone))
#define MOST (1u << 18)

static struct {
	char *address;
	size_t size;
} blocks[MOST];
static unsigned count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t live, peak, allocated;
static uint64_t seed = 88172645463325252ull;

static uint64_t number(uint64_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % limit;
}

static void grew(size_t size)
{
	allocated += size;
	live += size;
	if (live > peak)
		peak = live;
}

NOINLINE static void keep(size_t size, size_t touched)
{
	char *block = malloc(size);

	memset(block, 1, touched);
	pthread_mutex_lock(&lock);
	blocks[count].address = block;
	blocks[count++].size = size;
	grew(size);
	pthread_mutex_unlock(&lock);
}

static void drop(unsigned index)
{
	free(blocks[index].address);
	live -= blocks[index].size;
	blocks[index] = blocks[--count];
}

static void small(void)
{
	for (int i = 0; i < 120000; i++)
		keep(200 + (size_t)i % 50, 200 + (size_t)i % 50);
}

static void mixed(void)
{
	while (allocated < 40u << 20) {
		size_t size = (size_t)16 << number(15);
		size += number(size);
		keep(size, size);
	}
}

static void churn(void)
{
	for (int i = 0; i < 150000; i++) {
		keep(400 + number(400), 1);
		if (number(3))
			drop((unsigned)number(count));
	}
}

static void large(void)
{
	for (int i = 0; i < 60; i++) {
		size_t size = (200 << 10) + number(2 << 20);
		keep(size, size);
	}
}

static void falls(void)
{
	for (int i = 0; i < 30000; i++)
		keep(1500, 1500);
	for (int i = 0; i < 10000; i++)
		drop((unsigned)number(count));
}

static void partly(void)
{
	for (int i = 0; i < 600; i++)
		keep(160 << 10, 40 << 10);
}

static void *thread(void *argument)
{
	for (int i = 0; i < 8000; i++)
		keep(1000, 1000);
	return argument;
}

static void threads(void)
{
	pthread_t all[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, thread, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(all[i], NULL);
}

NOINLINE static void *regrow(void *block, size_t size)
{
	void *moved = realloc(block, size);

	memset(moved, 1, size);
	grew(size);
	return moved;
}

static void grows(void)
{
	for (int i = 0; i < 40; i++) {
		size_t size = 10000;
		void *block = NULL;
		for (int step = 0; step < 12; step++, size += size / 2) {
			live -= step ? blocks[count].size : 0;
			block = regrow(block, size);
			blocks[count].size = size;
		}
		blocks[count++].address = block;
	}
}

/* Four functions touch the pages of one mapping in turn, in runs of random length: what each of them touched is
 * known. Samples come at equal distances, so the order must be another one in each run. */
#define TURN_PAGES 12000u
static size_t turned[4];

#define TURN(number)                                                                               \
	NOINLINE static void turn##number(volatile char *at, size_t pages)                         \
	{                                                                                          \
		for (size_t i = 0; i < pages; i++)                                                 \
			at[i * 4096] = 1;                                                          \
		turned[number] += pages * 4096;                                                    \
	}
TURN(0)
TURN(1)
TURN(2)
TURN(3)

static void turns(void)
{
	memcpy(&seed, (void *)getauxval(AT_RANDOM), sizeof seed);
	seed |= 1;
	static void (*const all[])(volatile char *, size_t) = {turn0, turn1, turn2, turn3};
	char *at = mmap(NULL, (size_t)(TURN_PAGES + 61) * 4096, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	for (uint64_t phase = number(61); phase; phase--, at += 4096)
		*at = 1;
	for (size_t left = TURN_PAGES; left;) {
		/* shares of 1/2, 1/4, 1/8 and 1/8 */
		uint64_t which = number(8);
		size_t pages = 1 + number(which % 2 ? 12 : 120);

		pages = pages < left ? pages : left;
		all[which < 4 ? 0 : which < 6 ? 1 : which - 4](at, pages);
		at += pages * 4096;
		left -= pages;
	}
}

/* Bytes of the blocks that lie on resident pages. */
static size_t resident(void)
{
	static unsigned char pages[1024];
	size_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		uintptr_t start = (uintptr_t)blocks[i].address, end = start + blocks[i].size;
		uintptr_t first = start & ~4095ul;
		if (mincore((void *)first, end - first, pages) != 0)
			abort();
		for (uintptr_t at = first; at < end; at += 4096)
			if (pages[(at - first) / 4096] & 1)
				sum += (at + 4096 < end ? at + 4096 : end) -
				       (at > start ? at : start);
	}
	return sum;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} shapes[] = {{"small", small},     {"mixed", mixed}, {"churn", churn},
		      {"large", large},     {"falls", falls}, {"partly", partly},
		      {"threads", threads}, {"grows", grows}, {"turns", turns}};
	char line[400];

	if (argc < 3)
		return 2;
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		if (strcmp(argv[1], shapes[i].name))
			continue;
		shapes[i].run();
		int length = snprintf(
			line, sizeof line,
			"{\"shape\": \"%s\", \"live\": %zu, \"peak\": %zu, \"allocated\": %zu, "
			"\"resident\": %zu",
			argv[1], live, peak, allocated, resident());
		if (shapes[i].run == turns)
			length = snprintf(line, sizeof line,
					  "{\"shape\": \"turns\", \"touches\": {\"turn0\": %zu, "
					  "\"turn1\": %zu, \"turn2\": %zu, \"turn3\": %zu}",
					  turned[0], turned[1], turned[2], turned[3]);
		length += snprintf(line + length, sizeof line - (size_t)length, "}\n");
		FILE *file = fopen(argv[2], "a");
		return !file || fwrite(line, 1, (size_t)length, file) != (size_t)length ||
		       fclose(file);
	}
	return 2;
}
