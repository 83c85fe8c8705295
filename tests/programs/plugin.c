/* A library that dlopen_lib loads. */
#include <stdlib.h>
#include <string.h>

void *plugin_allocates(size_t size);

__attribute__((noinline, noclone)) void *plugin_allocates(size_t size)
{
	void *room = malloc(size);
	if (room)
		memset(room, 1, size);
	return room;
}
