/* Memory that an allocator keeps after free(), in the way that the first argument names. "trim" as the second
 * calls malloc_trim() then. Prints "ready" and waits for a line or the end of standard input. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define BLOCK 1000
#define BLOCKS 150000
#define THREADS 16

static void *blocks[BLOCKS];

static void fill(int count)
{
	for (int i = 0; i < count; i++) {
		blocks[i] = malloc(BLOCK);
		memset(blocks[i], 1, BLOCK);
	}
}

/* Free all but every `spacing`th block. */
static void drop(int count, int spacing)
{
	for (int i = 0; i < count; i++)
		if (!spacing || i % spacing)
			free(blocks[i]);
}

/* glibc's trim threshold becomes 64 MiB when a block of 32 MiB is freed. */
static void keep_top(void)
{
	char *volatile large = malloc(31 * MIB);

	large[0] = 1;
	free(large);
	fill(50000);
	drop(50000, 0);
}

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t done;

/* One thread after another fills and frees an arena of its own; the last block keeps its pages. */
static void *work(void *unused)
{
	pthread_mutex_lock(&turn);
	fill(15000);
	drop(14999, 0);
	pthread_mutex_unlock(&turn);
	pthread_barrier_wait(&done);
	for (;;)
		pause();
	return unused;
}

static void keep_arenas(void)
{
	pthread_t thread;

	pthread_barrier_init(&done, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, work, NULL))
			exit(2);
	pthread_barrier_wait(&done);
}

int main(int count, char **words)
{
	const char *way = count > 1 ? words[1] : "";

	if (!strcmp(way, "top")) {
		keep_top();
	} else if (!strcmp(way, "arenas")) {
		keep_arenas();
	} else {
		fill(BLOCKS);
		drop(BLOCKS, !strcmp(way, "holes") ? 50 : 20000);
	}
	if (count > 2 && !strcmp(words[2], "trim"))
		malloc_trim(0);
	puts("ready");
	fflush(stdout);
	getchar();
	_Exit(0);
}
