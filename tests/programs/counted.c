/* Counts its own allocations: every use_* function has its own counters, printed as JSON at the end.
 * A realloc counts as an allocation of the new size and a free of the old block.
 *   counted          print and exit        counted stop     stop itself (SIGSTOP) before that */
#define _GNU_SOURCE
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline, noclone))
#define KEPT 4096
#define STEPS 3000

struct tally {
	const char *function;
	size_t allocated, count, live, live_count;
};

struct block {
	void *address;
	size_t size;
};

/* Static, so that the counters are not counted themselves. */
static struct block kept[16][KEPT];
static uint64_t seed = 88172645463325252ull;

static size_t next_size(size_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % limit;
}

static void note(struct tally *tally, struct block *block, void *address, size_t size)
{
	if (!address)
		abort();
	memset(address, 1, size);
	*block = (struct block){address, size};
	tally->allocated += size;
	tally->live += size;
	tally->count++;
	tally->live_count++;
}

static void drop(struct tally *tally, struct block *block)
{
	if (!block->address)
		return;
	free(block->address);
	tally->live -= block->size;
	tally->live_count--;
	*block = (struct block){0};
}

/* One function per way to allocate; half of the slots are used repeatedly, half once. */
#define USE(name, index, expression)                                                               \
	NOINLINE static void name(struct tally *tally)                                             \
	{                                                                                          \
		for (size_t i = 0; i < STEPS; i++) {                                               \
			struct block *block = &kept[index][i % (KEPT / 2)];                        \
			size_t size = next_size(700);                                              \
			drop(tally, block);                                                        \
			note(tally, block, expression, size);                                      \
		}                                                                                  \
	}

static void *aligned_at(size_t alignment, size_t size)
{
	void *address = NULL;
	return posix_memalign(&address, alignment, size) ? NULL : address;
}

USE(use_malloc, 0, malloc(size))
USE(use_calloc, 1, calloc(1, size))
USE(use_memalign, 2, memalign(64, size))
USE(use_posix_memalign, 3, aligned_at(128, size))
USE(use_aligned_alloc, 4, aligned_alloc(32, size))
USE(use_reallocarray, 5, reallocarray(NULL, size, 1))

NOINLINE static void use_strdup(struct tally *tally)
{
	static char text[512];

	for (size_t i = 0; i < STEPS; i++) {
		size_t length = next_size(500);
		memset(text, 'x', length);
		text[length] = 0;
		char *copy = strdup(text);
		note(tally, &kept[6][i % 100], copy, length + 1);
		drop(tally, &kept[6][i % 100]);
	}
}

NOINLINE static void use_realloc(struct tally *tally)
{
	for (size_t i = 0; i < STEPS; i++) {
		struct block *block = &kept[7][i % 300];
		size_t size = 1 + next_size(3000);
		void *address = realloc(block->address, size);
		if (block->address) {
			tally->live -= block->size;
			tally->live_count--;
		}
		note(tally, block, address, size);
	}
}

NOINLINE static void use_large(struct tally *tally)
{
	for (size_t i = 0; i < 20; i++)
		note(tally, &kept[8][i], malloc(1 << 20), 1 << 20);
	for (size_t i = 0; i < 20; i += 2)
		drop(tally, &kept[8][i]);
}

NOINLINE static void use_mmap(struct tally *tally)
{
	for (size_t i = 0; i < 40; i++) {
		size_t size = (1 + i) * 4096;
		void *address = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		note(tally, &kept[9][i], address, size);
		if (i % 4)
			continue;
		munmap(address, size);
		tally->live -= size;
		tally->live_count--;
	}
}

static struct tally tallies[] = {
	{.function = "use_malloc"},        {.function = "use_calloc"},
	{.function = "use_memalign"},      {.function = "use_posix_memalign"},
	{.function = "use_aligned_alloc"}, {.function = "use_reallocarray"},
	{.function = "use_strdup"},        {.function = "use_realloc"},
	{.function = "use_large"},         {.function = "use_mmap"},
};

static void (*const uses[])(struct tally *) = {
	use_malloc,       use_calloc, use_memalign, use_posix_memalign, use_aligned_alloc,
	use_reallocarray, use_strdup, use_realloc,  use_large,          use_mmap,
};

int main(int argc, char **argv)
{
	size_t number = sizeof(uses) / sizeof(*uses);

	for (size_t i = 0; i < number; i++)
		uses[i](&tallies[i]);
	if (argc > 1 && strcmp(argv[1], "stop") == 0)
		raise(SIGSTOP);
	printf("{");
	for (size_t i = 0; i < number; i++)
		printf("%s\"%s\": {\"allocated\": %zu, \"count\": %zu, \"live\": %zu, "
		       "\"live_count\": %zu}",
		       i ? ", " : "", tallies[i].function, tallies[i].allocated, tallies[i].count,
		       tallies[i].live, tallies[i].live_count);
	printf("}\n");
	return 0;
}
