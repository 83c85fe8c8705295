/* Holds the given number of touched bytes and prints a line; "loop" keeps touching them, "all" takes all memory.
 * With a path, joins that cgroup first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void join(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file))
		exit(2);
}

static void touch(volatile char *block, size_t size)
{
	for (size_t at = 0; at < size; at += 4096)
		block[at]++;
}

int main(int count, char **words)
{
	size_t size = strtoul(words[1], NULL, 10);
	char *block;

	if (count > 3)
		join(words[3]);
	block = malloc(size);
	memset(block, 1, size);
	puts("ready");
	fflush(stdout);
	if (count > 2 && !strcmp(words[2], "loop"))
		for (;;)
			touch(block, size);
	while (count > 2 && !strcmp(words[2], "all"))
		memset(malloc(8 << 20), 1, 8 << 20);
	pause();
	return 0;
}
