/* Another library that plugins_in_turn loads: its code differs from that of plugin.c. */
#include <stdlib.h>
#include <string.h>

int other_pads(int x);
void *other_allocates(size_t size);

int other_pads(int x)
{
	return x * 3;
}

__attribute__((noinline, noclone)) void *other_allocates(size_t size)
{
	void *room = calloc(1, size);
	if (room)
		memset(room, 1, size);
	return room;
}
