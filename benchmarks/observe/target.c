/* A process to observe: "vmas N" maps N mappings, "pages BYTES" writes pages in random order,
 * "sparse" writes 16 pages of 1 TiB. Prints "START LENGTH", then waits for its input to end. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL

static char *map(size_t length)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		abort();
	madvise(at, length, MADV_NOHUGEPAGE);
	return at;
}

static void touch_shuffled(char *at, size_t pages)
{
	size_t step = 2654435761UL % pages | 1;

	while (pages % step == 0 && step > 1)
		step += 2;
	for (size_t done = 0, page = 0; done < pages; done++, page = (page + step) % pages)
		at[page * PAGE] = 1;
}

int main(int argc, char **argv)
{
	size_t amount = argc > 2 ? strtoull(argv[2], NULL, 10) : 0, length = amount;
	char *at;

	if (strcmp(argv[1], "vmas") == 0) {
		length = amount * PAGE;
		at = map(length);
		memset(at, 1, length);
		for (size_t page = 0; page < amount; page += 2)
			if (mprotect(at + page * PAGE, PAGE, PROT_READ))
				abort();
	} else if (strcmp(argv[1], "pages") == 0) {
		at = map(length);
		touch_shuffled(at, length / PAGE);
	} else {
		length = 1UL << 40;
		at = map(length);
		for (size_t piece = 0; piece < 16; piece++)
			at[piece * (length / 16)] = 1;
	}
	printf("%lu %lu\n", (unsigned long)at, (unsigned long)length);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
