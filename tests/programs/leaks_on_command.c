/* Holds 8 MiB from steady(), reads a number, and then allocates without end in the function of that number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAK(number)                                                                               \
	__attribute__((noinline)) void *leak_##number(void)                                        \
	{                                                                                          \
		void *block = malloc(40000 + number);                                              \
		return block ? memset(block, 1, 40000 + number) : 0;                               \
	}
LEAK(0)
LEAK(1)
LEAK(2)
LEAK(3)
LEAK(4)

__attribute__((noinline)) void *steady(void)
{
	void *block = malloc(8 << 20);
	return block ? memset(block, 1, 8 << 20) : 0;
}

static void *(*const leaks[])(void) = {leak_0, leak_1, leak_2, leak_3, leak_4};
void *volatile last;

int main(void)
{
	int number;
	puts("ready");
	fflush(stdout);
	if (scanf("%d", &number) != 1)
		return 1;
	void *held = steady();
	for (;;) {
		void *block = leaks[number]();
		if (block)
			*(void **)block = last;
		last = block;
	}
	return held == last;
}
