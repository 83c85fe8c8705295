/* Allocates without end, a mebibyte at a time; to be run under a limit. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline, noclone)) static char *take_more(void)
{
	char *room = malloc(1 << 20);
	if (room)
		memset(room, 1, 1 << 20);
	return room;
}

int main(void)
{
	while (take_more())
		usleep(5000);
	return 3;
}
