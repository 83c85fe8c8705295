// Keeps 4 MiB, and as many MiB more as the argument says, with a mark after both.
#include <stdlib.h>
#include <string.h>

#include <mematlas_mark.h>

static void *kept[64];

static void grow(int count)
{
	for (int i = 0; i < count && i < 64; i++) {
		kept[i] = malloc(1 << 20);
		memset(kept[i], 1, 1 << 20);
	}
}

int main(int count, char **arguments)
{
	char *volatile base = malloc(4 << 20);

	memset(base, 1, 4 << 20);
	grow(count > 1 ? atoi(arguments[1]) : 0);
	mematlas_mark("grown");
	return base[0] != 1;
}
