/* The bandwidth loops compute the right values at any length, offset, width and number of
 * threads. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "mematlas.h"

#define MAX_COUNT 1100u
#define GUARD 7.5

static _Alignas(64) double a[MAX_COUNT + 32], b[MAX_COUNT + 32], c[MAX_COUNT + 32];

static double expected(int operation, double before, double of_b, double of_c)
{
	switch (operation) {
	case MEMATLAS_STREAM_WRITE:
		return 3;
	case MEMATLAS_STREAM_COPY:
		return of_b;
	case MEMATLAS_STREAM_SCALE:
		return 3 * of_b;
	case MEMATLAS_STREAM_ADD:
		return of_b + of_c;
	case MEMATLAS_STREAM_TRIAD:
		return of_b + 3 * of_c;
	default:
		return before;
	}
}

/* Integers, so that sums are exact in any order. */
static void fill(void)
{
	for (unsigned i = 0; i < MAX_COUNT + 32; i++) {
		a[i] = GUARD;
		b[i] = i % 97;
		c[i] = i % 89;
	}
}

static void check_one(const char *vectors, int operation, int bypass, unsigned count,
		      unsigned offset, uint32_t threads)
{
	const int32_t anywhere[4] = {-1, -1, -1, -1};
	struct mematlas_stream_result result;
	double sum = 0;

	fill();
	CHECK(mematlas_stream_run(vectors, operation, bypass, (uintptr_t)(a + offset),
				  (uintptr_t)(b + 2 * offset), (uintptr_t)(c + 1), count, anywhere,
				  threads, &result) == 0);
	for (unsigned i = 0; i < MAX_COUNT + 32; i++) {
		bool inside = i >= offset && i < offset + count;
		double value = inside ? expected(operation, GUARD, b[i + offset], c[i - offset + 1])
				      : GUARD;

		CHECK(a[i] == value);
		sum += inside ? GUARD : 0;
	}
	CHECK(operation != MEMATLAS_STREAM_READ || result.sum == sum);
}

static void check_width(const char *vectors)
{
	const unsigned counts[] = {0, 1, 2, 7, 8, 15, 16, 33, 64, 65, 255, 1000, 1061};

	for (int operation = 0; operation <= MEMATLAS_STREAM_TRIAD; operation++)
		for (int bypass = 0; bypass < 2; bypass++)
			for (unsigned i = 0; i < sizeof(counts) / sizeof(*counts); i++)
				for (unsigned offset = 0; offset < 9; offset++)
					check_one(vectors, operation, bypass, counts[i], offset, 1);
	check_one(vectors, MEMATLAS_STREAM_TRIAD, 1, 1001, 3, 4);
	check_one(vectors, MEMATLAS_STREAM_READ, 0, 3, 0, 4);
}

static void test_widths(void)
{
	const char *names[] = {"AVX-512", "AVX2", "SSE2", "NEON", "plain"};
	struct mematlas_stream_result result;
	const int32_t anywhere[1] = {-1};
	unsigned tested = 0;

	for (unsigned i = 0; i < 5; i++) {
		if (mematlas_stream_run(names[i], 0, 0, (uintptr_t)a, 0, 0, 1, anywhere, 1,
					&result) == -EOPNOTSUPP)
			continue;
		check_width(names[i]);
		tested++;
	}
	CHECK(tested > 0);
	check_width(NULL);
	CHECK(strlen(mematlas_stream_vectors()) > 0);
}

static void test_mistakes(void)
{
	struct mematlas_stream_result result;
	const int32_t nowhere[1] = {100000}, anywhere[1] = {-1};
	uint64_t at = (uintptr_t)a;

	CHECK(mematlas_stream_run(NULL, 0, 0, at + 4, 0, 0, 8, anywhere, 1, &result) == -EINVAL);
	CHECK(mematlas_stream_run(NULL, 6, 0, at, 0, 0, 8, anywhere, 1, &result) == -EINVAL);
	CHECK(mematlas_stream_run(NULL, 0, 0, at, 0, 0, 8, anywhere, 0, &result) == -EINVAL);
	CHECK(mematlas_stream_run(NULL, 0, 0, at, 0, 0, 8, nowhere, 1, &result) == -EINVAL);
	CHECK(mematlas_stream_run("MMX", 0, 0, at, 0, 0, 8, anywhere, 1, &result) == -EOPNOTSUPP);
}

static void test_pingpong(void)
{
	uint64_t ns = 0;

	CHECK(mematlas_pingpong_run(0, 0, 10, &ns) == 0 && ns > 0); /* one CPU for both */
	CHECK(mematlas_pingpong_run(0, -1, 10, &ns) == -EINVAL);
	CHECK(mematlas_pingpong_run(0, 0, 0, &ns) == -EINVAL);
	CHECK(mematlas_pingpong_run(0, 100000, 10, &ns) == -EINVAL);
}

int main(void)
{
	test_widths();
	test_mistakes();
	test_pingpong();
	return 0;
}
