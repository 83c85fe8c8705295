/* One function allocates, another makes the memory resident. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))
#define SIZE ((size_t)64 << 20)

NOINLINE static char *allocate_here(void)
{
	char *room = malloc(SIZE);
	if (!room)
		abort();
	return room;
}

NOINLINE static char *leave_untouched(void)
{
	char *room = malloc(SIZE);
	if (!room)
		abort();
	return room;
}

NOINLINE static void touch_there(char *room)
{
	memset(room, 1, SIZE);
	__asm__ volatile("" : : "r"(room) : "memory"); /* no tail call: stay on the stack */
}

int main(void)
{
	char *used = allocate_here(), *unused = leave_untouched();

	touch_there(used);
	printf("%d %d\n", used[SIZE / 2], unused != NULL);
	return 0;
}
