/* An array read in different orders, and software prefetch. */
#include "clock.h"
#include "mematlas.h"

uint64_t mematlas_pattern_sum(uint64_t base, uint64_t outer, uint64_t outer_step, uint64_t inner,
			      uint64_t inner_step, uint64_t *ret_ns)
{
	const char *start = (const char *)(uintptr_t)base;
	uint64_t sum[4] = {0, 0, 0, 0}, began = now_ns();

	for (uint64_t i = 0; i < outer; i++) {
		const char *at = start + i * outer_step;
		uint64_t j = 0;
		for (; j + 4 <= inner; j += 4, at += 4 * inner_step)
			for (unsigned lane = 0; lane < 4; lane++)
				sum[lane] += *(const uint64_t *)(at + lane * inner_step);
		for (; j < inner; j++, at += inner_step)
			sum[0] += *(const uint64_t *)at;
	}
	sum[0] += sum[1] + sum[2] + sum[3];
	*ret_ns = now_ns() - began;
	return sum[0];
}

/* Enough work on each value that out-of-order execution does not reach many look-ups ahead. */
static inline uint64_t digest(uint64_t value, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++) {
		value ^= value >> 33;
		value *= 0xff51afd7ed558ccdull;
	}
	return value;
}

uint64_t mematlas_prefetch_sum(const uint64_t *values, const uint64_t *index, uint64_t count,
			       uint64_t distance, uint32_t rounds, uint64_t *ret_ns)
{
	uint64_t sum = 0, i = 0, began = now_ns();
	uint64_t ahead = distance && distance < count ? count - distance : 0;

	for (; i < ahead; i++) {
		__builtin_prefetch(&values[index[i + distance]]);
		sum += digest(values[index[i]], rounds);
	}
	for (; i < count; i++)
		sum += digest(values[index[i]], rounds);
	*ret_ns = now_ns() - began;
	return sum;
}

/* Words of a cache line, which one prefetch fetches. */
#define LINE_WORDS 8u

static inline uint64_t sum_line(const uint64_t *values)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < LINE_WORDS; i++)
		sum += 2 * values[i] + 1;
	return sum;
}

uint64_t mematlas_sequential_sum(const uint64_t *values, uint64_t count, uint64_t distance,
				 uint64_t *ret_ns)
{
	uint64_t sum = 0, i = 0, began = now_ns();
	uint64_t ahead = distance && distance < count ? count - distance : 0;

	for (; i + LINE_WORDS <= ahead; i += LINE_WORDS) {
		__builtin_prefetch(&values[i + distance]);
		sum += sum_line(&values[i]);
	}
	for (; i + LINE_WORDS <= count; i += LINE_WORDS)
		sum += sum_line(&values[i]);
	for (; i < count; i++)
		sum += 2 * values[i] + 1;
	*ret_ns = now_ns() - began;
	return sum;
}
