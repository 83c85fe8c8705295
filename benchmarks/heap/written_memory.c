/* Holds memory, writes random pages of it at a rate, and measures its own pauses:
 *   written_memory MIB 4k|thp WRITES_A_SECOND SECONDS
 * A line each for SIGUSR1, and at the end: the longest time between two looks at the clock since the last line. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define HUGE_PAGE (2ul << 20)
#define PAGE 4096ul

static volatile sig_atomic_t asked;

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void on_signal(int signal)
{
	(void)signal;
	asked = 1;
}

static char *map(size_t size, int huge)
{
	char *memory = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		exit(1);
	memory = (char *)(((uintptr_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += PAGE)
		*(uint64_t *)(memory + at) = at + 1;
	return memory;
}

int main(int count, char **words)
{
	if (count != 5)
		return 2;
	size_t size = strtoul(words[1], NULL, 10) << 20;
	char *memory = map(size, strcmp(words[2], "thp") == 0);
	double rate = atof(words[3]), start = now_s(), end = start + atof(words[4]);
	double last = start, gap = 0, write = 0;
	uint64_t state = 88172645463325252ull, done = 0;

	signal(SIGUSR1, on_signal);
	puts("ready");
	fflush(stdout);
	while (last < end) {
		double now = now_s();
		gap = now - last > gap ? now - last : gap;
		if ((double)done < (now - start) * rate) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			*(volatile uint64_t *)(memory + state % (size / PAGE) * PAGE) = state;
			done++;
			double took = now_s() - now;
			write = took > write ? took : write;
		}
		if (asked) {
			asked = 0;
			printf("gap %.3f ms, write %.3f ms\n", gap * 1e3, write * 1e3);
			fflush(stdout);
			gap = write = 0;
			now = now_s();
		}
		last = now;
	}
	return 0;
}
