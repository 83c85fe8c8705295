/* Obeys commands on standard input, a letter per line, and answers each with a line:
 * a: allocate 1,000 blocks of 100 bytes   f: free the oldest 500   t: the same as a, in 4 threads
 * p: the same as a, through pointers to malloc()   q: end */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))
#define MOST 100000

static char *kept[MOST];
static int count, freed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

typedef void *allocator(size_t size);
static allocator *volatile stored = malloc;

NOINLINE static void keep_one(allocator *by)
{
	char *block = by ? by(100) : malloc(100);

	memset(block, 1, 100);
	pthread_mutex_lock(&lock);
	kept[count++] = block;
	pthread_mutex_unlock(&lock);
}

NOINLINE static void allocate(void)
{
	for (int i = 0; i < 1000; i++)
		keep_one(NULL);
}

NOINLINE static void allocate_by_pointers(void)
{
	allocator *volatile taken = malloc;

	for (int i = 0; i < 1000; i++)
		keep_one(i % 2 ? stored : taken);
}

static void *in_thread(void *unused)
{
	allocate();
	return unused;
}

NOINLINE static void allocate_in_threads(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, in_thread, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

NOINLINE static void free_oldest(void)
{
	for (int i = 0; i < 500 && freed < count; i++)
		free(kept[freed++]);
}

int main(void)
{
	char line[16];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (line[0] == 'q')
			break;
		if (line[0] == 'a')
			allocate();
		if (line[0] == 'p')
			allocate_by_pointers();
		if (line[0] == 't')
			allocate_in_threads();
		if (line[0] == 'f')
			free_oldest();
		printf("done %c %d %d\n", line[0], count, freed);
		fflush(stdout);
	}
	return 7;
}
