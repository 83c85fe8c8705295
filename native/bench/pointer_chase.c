/* Memory visited in a given order: dependent loads measure latency, independent loads
 * throughput. */
#include "clock.h"
#include "mematlas.h"

static uint64_t *word(uint64_t address)
{
	return (uint64_t *)(uintptr_t)address;
}

void mematlas_pointer_chase_link(const uint64_t *addresses, uint64_t count)
{
	for (uint64_t index = 0; index < count; index++)
		*word(addresses[index]) = addresses[index + 1 == count ? 0 : index + 1];
}

uint64_t mematlas_pointer_chase_run(uint64_t start, uint64_t steps, uint64_t *ret_ns)
{
	uint64_t at = start, rest = steps % 8, began = now_ns();

	for (uint64_t step = 0; step < rest; step++)
		at = *word(at);
	/* Unrolled, so that the loop's own instructions hide behind the loads. */
	for (uint64_t step = 0; step < steps / 8; step++) {
		at = *word(*word(*word(*word(at))));
		at = *word(*word(*word(*word(at))));
	}
	*ret_ns = now_ns() - began;
	return at;
}

uint64_t mematlas_gather_sum(const uint64_t *addresses, uint64_t count, uint64_t *ret_ns)
{
	uint64_t sum[4] = {0, 0, 0, 0}, index = 0, began = now_ns();

	/* Four sums, because one would make each addition wait for the one before. */
	for (; index + 4 <= count; index += 4)
		for (unsigned lane = 0; lane < 4; lane++)
			sum[lane] += *word(addresses[index + lane]);
	for (; index < count; index++)
		sum[0] += *word(addresses[index]);
	sum[0] += sum[1] + sum[2] + sum[3];
	*ret_ns = now_ns() - began;
	return sum[0];
}
