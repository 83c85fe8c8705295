// 40 blocks of 1 MiB, written and kept: 40 MiB live and resident at the end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *kept[40];

static void keep(int i)
{
	kept[i] = malloc(1 << 20);
	memset(kept[i], 1, 1 << 20);
}

int main(void)
{
	for (int i = 0; i < 40; i++)
		keep(i);
	puts("done");
	return 0;
}
