/* holds MIB MS [COMMAND ...]: touches MIB of memory, keeps it for MS milliseconds, then becomes COMMAND or
 * exits with 17. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static char *hold(size_t size)
{
	char *memory = malloc(size);

	if (memory)
		memset(memory, 1, size);
	return memory;
}

int main(int count, char **words)
{
	static char *volatile kept;

	if (count < 3)
		return 2;
	kept = hold((size_t)atol(words[1]) << 20);
	puts(kept ? "held" : "no memory");
	fflush(stdout);
	usleep((useconds_t)atol(words[2]) * 1000);
	if (count == 3)
		return 17;
	execvp(words[3], words + 3);
	return 127;
}
