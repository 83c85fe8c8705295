/* churn THREADS PAIRS: malloc and free of mixed small sizes, each from 10 to 30 calls deep. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS 4096

static long pairs;

__attribute__((noinline)) static char *dig(unsigned depth, size_t size)
{
	volatile unsigned here = depth; /* keeps the frame, and the call from becoming a jump */
	char *room = depth ? dig(depth - 1, size) : malloc(size);
	return here == depth ? room : NULL;
}

static uint32_t next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static void *work(void *argument)
{
	uint64_t state = (uint64_t)(uintptr_t)argument + 1;
	char **slots = calloc(SLOTS, sizeof(*slots));

	for (long i = 0; i < pairs; i++) {
		uint32_t slot = next(&state) % SLOTS, dice = next(&state);
		free(slots[slot]);
		slots[slot] = dig(10 + dice % 21, 16 + (dice >> 8) % 512);
		slots[slot][0] = slots[slot][15] = 1;
	}
	for (int i = 0; i < SLOTS; i++)
		free(slots[i]);
	free(slots);
	return NULL;
}

int main(int argc, char **argv)
{
	long threads = argc > 1 ? atol(argv[1]) : 1;
	pthread_t ids[64];

	pairs = argc > 2 ? atol(argv[2]) : 5000000;
	for (long i = 0; i < threads && i < 64; i++)
		if (pthread_create(&ids[i], NULL, work, (void *)i))
			return 1;
	for (long i = 0; i < threads && i < 64; i++)
		pthread_join(ids[i], NULL);
	printf("%ld threads, %ld pairs each\n", threads, pairs);
	return 0;
}
