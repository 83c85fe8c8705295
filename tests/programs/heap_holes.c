/* Leaves holes in the main arena and in that of a thread, and prints mallinfo2() at the end:
 * bytes in use, free, and in separate mappings. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 100000

static void make_holes(void)
{
	char **blocks = malloc(BLOCKS * sizeof *blocks);

	for (int i = 0; i < BLOCKS; i++)
		memset(blocks[i] = malloc(200), 1, 200);
	for (int i = 0; i < BLOCKS; i++)
		if (i % 100)
			free(blocks[i]);
}

static void *in_thread(void *unused)
{
	make_holes();
	return unused;
}

int main(void)
{
	pthread_t thread;

	setvbuf(stdout, NULL, _IONBF, 0);
	make_holes();
	if (pthread_create(&thread, NULL, in_thread, NULL) || pthread_join(thread, NULL))
		abort();
	struct mallinfo2 info = mallinfo2();
	printf("%zu %zu\n", info.uordblks, info.fordblks);
	return 0;
}
