/* Allocates 20 MiB, waits a second for a snapshot, and kills itself. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline, noclone)) static char *before_the_end(void)
{
	size_t size = (size_t)20 << 20;
	char *room = malloc(size);
	if (!room)
		abort();
	return memset(room, 1, size);
}

int main(void)
{
	char *room = before_the_end();

	printf("%d\n", room[1000]);
	fflush(stdout);
	sleep(1);
	raise(SIGKILL);
	return 0;
}
