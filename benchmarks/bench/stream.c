/* STREAM's four operations, from their published definition: arrays of doubles, each operation over all
 * of them, the best of the passes. Plain C: what a compiler makes of it is the point. On huge pages, so
 * that page size does not decide.      stream ELEMENTS PASSES
 *
 * J. D. McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers". */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double *array(size_t count, double value)
{
	size_t bytes = (count * sizeof(double) + (2u << 20)) & ~((size_t)(2u << 20) - 1);
	double *all = aligned_alloc(2u << 20, bytes);

	if (!all)
		exit(1);
	madvise(all, bytes, MADV_HUGEPAGE);
	for (size_t i = 0; i < count; i++)
		all[i] = value;
	return all;
}

/* Not inlined, so that no pass is merged with another or dropped. */
__attribute__((noinline)) static void pass(int which, double *restrict a, double *restrict b,
					   double *restrict c, size_t count)
{
	const double scalar = 3.0;

	switch (which) {
	case 0:
		for (size_t i = 0; i < count; i++)
			c[i] = a[i];
		break;
	case 1:
		for (size_t i = 0; i < count; i++)
			b[i] = scalar * c[i];
		break;
	case 2:
		for (size_t i = 0; i < count; i++)
			c[i] = a[i] + b[i];
		break;
	default:
		for (size_t i = 0; i < count; i++)
			a[i] = b[i] + scalar * c[i];
	}
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"copy", "scale", "add", "triad"};
	static const int words[] = {2, 2, 3, 3};
	size_t count = argc > 2 ? strtoull(argv[1], NULL, 10) : 0;
	int passes = argc > 2 ? atoi(argv[2]) : 0;
	double best[4] = {1e9, 1e9, 1e9, 1e9};

	if (!count || passes < 1)
		return 2;
	double *a = array(count, 1.0), *b = array(count, 2.0), *c = array(count, 0.0);
	for (int round = 0; round < passes; round++)
		for (int which = 0; which < 4; which++) {
			double began = seconds();
			pass(which, a, b, c, count);
			double spent = seconds() - began;
			best[which] = spent < best[which] ? spent : best[which];
		}
	for (int which = 0; which < 4; which++)
		printf("%s %.3f\n", names[which],
		       words[which] * 8e-9 * (double)count / best[which]);
	return 0;
}
