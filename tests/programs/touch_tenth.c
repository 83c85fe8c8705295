/* Allocates 1 GiB and uses a tenth of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))
#define SIZE ((size_t)1 << 30)

NOINLINE static char *ask_for_much(void)
{
	char *room = malloc(SIZE);
	if (!room)
		abort();
	return room;
}

int main(void)
{
	char *room = ask_for_much();

	memset(room, 1, SIZE / 10);
	__asm__ volatile("" : : "r"(room) : "memory"); /* no dead store */
	printf("%d\n", room[SIZE / 20]);
	return 0;
}
