/* Fills pages with small blocks, frees all but one in 64 and stops, for a snapshot. Then calls malloc_trim()
 * and prints its RSS in bytes before and after. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define BLOCKS 64000
#define SIZE 240 /* 256 with malloc's own: 16 to a page */
#define RISE (4 << 20) /* makes the peak come after the blocks are freed */

static char *blocks[BLOCKS], *more;

NOINLINE static void fill(void)
{
	for (int i = 0; i < BLOCKS; i++)
		memset(blocks[i] = malloc(SIZE), 1, SIZE);
}

NOINLINE static void free_most(void)
{
	for (int i = 0; i < BLOCKS; i++)
		if (i % 64)
			free(blocks[i]);
}

static long rss(void)
{
	long size, resident;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
		abort();
	fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	fill();
	free_most();
	more = memset(malloc(RISE), 1, RISE); /* mapped, not in the heap */
	raise(SIGSTOP);
	long before = rss();
	malloc_trim(0);
	printf("%ld %ld\n", before, rss());
	return 0;
}
