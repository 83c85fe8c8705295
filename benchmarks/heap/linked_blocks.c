/* Blocks that point to each other. Prints a line when all are there, then waits for its end.
 *
 *     linked_blocks COUNT order|random
 *
 * Each block has 4 pointers. `order`: to the next one and to three within 128 in the order of allocation.
 * `random`: along one path through all in random order, and to three anywhere. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINTERS 4
#define BYTES 184

static void *first;
static uint64_t state = 88172645463325252ull;

static uint64_t rnd(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void shuffle(void **blocks, uint64_t count)
{
	for (uint64_t i = count - 1; i > 0; i--) {
		uint64_t other = rnd(i + 1);
		void *kept = blocks[i];

		blocks[i] = blocks[other];
		blocks[other] = kept;
	}
}

int main(int argc, char **argv)
{
	uint64_t count = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
	int random = argc == 3 && strcmp(argv[2], "random") == 0;
	void **blocks = malloc(count * sizeof *blocks);

	if (!blocks || count < 1000)
		return 2;
	for (uint64_t i = 0; i < count; i++)
		if (!(blocks[i] = calloc(1, BYTES)))
			return 1;
	if (random)
		shuffle(blocks, count);
	for (uint64_t i = 0; i < count; i++) {
		void **words = blocks[i];
		uint64_t near = i < 128 ? 0 : i > count - 128 ? count - 256 : i - 128;

		words[0] = blocks[(i + 1) % count];
		for (int k = 1; k < POINTERS; k++)
			words[k] = random ? blocks[rnd(count)] : blocks[near + rnd(256)];
	}
	first = blocks[0];
	memset(blocks, 0, count * sizeof *blocks);
	free(blocks);
	puts("ready");
	fflush(stdout);
	pause();
	return first == NULL;
}
