/* stack_churn RATE SECONDS SIZE [HELD]: so many distinct stacks a second. Each allocates a block, which is freed after
 * HELD more (1024). Prints how many there were. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DEPTH 26

static void **held;
static unsigned next, most = 1024;
static size_t size;

int left(uint32_t way, int depth);
int right(uint32_t way, int depth);

__attribute__((noinline)) static int leaf(void)
{
	void *block = malloc(size);

	*(volatile char *)block = 1;
	free(held[next % most]);
	held[next++ % most] = block;
	return next & 1;
}

/* Both are functions of their own at each level, so each way down is a stack of its own. */
#define WALK(number)                                                                               \
	{                                                                                          \
		if (!depth)                                                                        \
			return leaf() + (number);                                                  \
		int found = way & 1 ? right(way >> 1, depth - 1) : left(way >> 1, depth - 1);      \
		__asm__ volatile("" ::"r"(found));                                                 \
		return found + (number);                                                           \
	}
__attribute__((noinline)) int left(uint32_t way, int depth) WALK(1)
	__attribute__((noinline)) int right(uint32_t way, int depth) WALK(2)

		static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **words)
{
	if (count < 4)
		return 2;
	if (count > 4)
		most = (unsigned)atoi(words[4]);
	held = calloc(most, sizeof *held);
	double rate = atof(words[1]), seconds = atof(words[2]), start = now();
	uint64_t done = 0;

	size = strtoul(words[3], NULL, 10);
	while (now() - start < seconds) {
		uint64_t due = (uint64_t)((now() - start) * rate);
		for (; done < due; done++)
			left((uint32_t)(done * 2654435761u) & ((1u << DEPTH) - 1), DEPTH);
		usleep(2000);
	}
	printf("%lu\n", (unsigned long)done);
	return 0;
}
