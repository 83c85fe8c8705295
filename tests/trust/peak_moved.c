/* Moves 256 MiB between two addresses, with mappings between them, for as long as it runs. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SIZE (256ul << 20)
#define SPLIT 2000
#define RUN_S 2

static void split(char *range)
{
	for (size_t i = 0; i < SPLIT; i++)
		mprotect(range + 2 * i * 4096, 4096, PROT_READ);
}

int main(void)
{
	char *range =
		mmap(NULL, 3 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = range;

	mprotect(range, SIZE, PROT_READ | PROT_WRITE);
	memset(range, 1, SIZE);
	split(range + SIZE);
	for (time_t end = time(NULL) + RUN_S; time(NULL) < end;)
		at = mremap(at, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			    at == range ? range + 2 * SIZE : range);
	return at == MAP_FAILED;
}
