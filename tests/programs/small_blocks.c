/* Keeps 20,000 blocks of 1,000 bytes. */
#include <stdlib.h>
#include <string.h>

#define BLOCKS 20000

static char *kept[BLOCKS];

__attribute__((noinline, noclone)) static void keep_small(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		kept[i] = malloc(1000);
		memset(kept[i], 1, 1000);
	}
}

int main(void)
{
	keep_small();
	return kept[BLOCKS - 1] == NULL;
}
