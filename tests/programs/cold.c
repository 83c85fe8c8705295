/* Allocates two large blocks and touches the first; then uses only the second until standard input ends.
 * With an argument both may be in one mapping; without it they are in two. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NOINLINE __attribute__((noinline, noclone))
#define COLD (24u << 20)
#define HOT (16u << 20)
#define PAGE 4096u

static char *map(size_t size, int apart)
{
	char *room = mmap(NULL, size + 2 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		abort();
	madvise(room, size + 2 * PAGE, MADV_NOHUGEPAGE);
	if (apart &&
	    (mprotect(room, PAGE, PROT_NONE) || mprotect(room + PAGE + size, PAGE, PROT_NONE)))
		abort();
	return room + PAGE;
}

NOINLINE static volatile char *map_cold(int apart)
{
	volatile char *room = map(COLD, apart);
	__asm__ volatile("" : : : "memory"); /* no tail call */
	return room;
}

NOINLINE static volatile char *map_hot(int apart)
{
	volatile char *room = map(HOT, apart);
	__asm__ volatile("" : : : "memory");
	return room;
}

int main(int argc, char **argv)
{
	(void)argv;
	int apart = argc < 2;
	volatile char *cold = map_cold(apart), *hot = map_hot(apart);
	struct pollfd input = {.fd = 0, .events = POLLIN};
	memset((void *)cold, 1, COLD);
	puts("ready");
	fflush(stdout);
	while (poll(&input, 1, 0) == 0)
		for (size_t i = 0; i < HOT; i += PAGE)
			hot[i]++;
	printf("%d\n", cold[COLD / 2]);
	return 0;
}
