/* threads N [STACK_KIB]: each thread allocates, passes its blocks to the next, frees the blocks
 * passed to it, and keeps 1000 bytes. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))
#define BLOCKS 50

static int threads;
static void *(*handed)[BLOCKS];
static pthread_barrier_t all_allocated;

NOINLINE static void *keep(void)
{
	return memset(malloc(1000), 1, 1000);
}

NOINLINE static void *hand_over(int i)
{
	return malloc(16 + (size_t)i);
}

static void *work(void *argument)
{
	int self = (int)(long)argument, other = (self + 1) % threads;

	for (int i = 0; i < BLOCKS; i++)
		handed[self][i] = hand_over(i);
	void *kept = keep();
	pthread_barrier_wait(&all_allocated);
	for (int i = 0; i < BLOCKS; i++)
		free(handed[other][i]);
	return kept;
}

int main(int argc, char **argv)
{
	threads = argc > 1 ? atoi(argv[1]) : 8;
	pthread_t *ids = calloc((size_t)threads, sizeof(*ids));
	void **kept = calloc((size_t)threads, sizeof(*kept));
	pthread_attr_t attributes;

	handed = calloc((size_t)threads, sizeof(*handed));
	pthread_barrier_init(&all_allocated, NULL, (unsigned)threads);
	pthread_attr_init(&attributes);
	if (argc > 2 && pthread_attr_setstacksize(&attributes, (size_t)atoi(argv[2]) << 10))
		return 2;
	for (long i = 0; i < threads; i++)
		if (pthread_create(&ids[i], &attributes, work, (void *)i))
			return 3;
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], &kept[i]);
	printf("%d threads, last byte %d\n", threads, ((char *)kept[threads - 1])[999]);
	return 0;
}
