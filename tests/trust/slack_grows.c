/* Each round frees a larger burst of blocks than the one before, below a block that stays: the heap grows by a MiB a
 * round, and live memory does not. The last line says by how much RSS grew from the fourth round on. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 12
#define BLOCK 4000
#define PER_ROUND 256

static char *blocks[ROUNDS * PER_ROUND];

__attribute__((noinline)) static char *burst(int count)
{
	for (int i = 0; i < count; i++)
		memset(blocks[i] = malloc(BLOCK), 1, BLOCK);
	char *last = malloc(BLOCK);
	for (int i = 0; i < count; i++)
		free(blocks[i]);
	return last;
}

int main(void)
{
	char *stays = NULL;

	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	for (int round = 1; round <= ROUNDS; round++) {
		char *next = burst(round * PER_ROUND);
		free(stays);
		stays = next;
		usleep(300000);
	}
	printf("truth grown %d\n", (ROUNDS - ROUNDS / 3 - 1) * PER_ROUND * (BLOCK + 16));
	return stays == NULL;
}
