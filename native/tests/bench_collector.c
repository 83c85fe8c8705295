/* Events per second that the collector reads; filling the rings is not timed. */
#define _GNU_SOURCE
#include <time.h>

#include "producer.h"

#define LIVE (1u << 20)
#define ROUNDS 3000

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void measure(unsigned rings, uint32_t blocks)
{
	static uint8_t live[LIVE];
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), rings);
	uint64_t time = 1, seed = 1, events = 0;
	double spent = 0;

	memset(live, 0, sizeof live);
	announce(&p);
	for (unsigned ring = 0; ring < rings; ring++)
		for (uint64_t id = 1; id <= 100; id++)
			put_stack(&p, ring, id, id);
	poll_all(collector);
	for (int round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 2000 * rings; i++, events++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			uint32_t at = (seed >> 33) % blocks;
			uint64_t address = 0x10000 + (uint64_t)at * 64;
			if ((live[at] ^= 1))
				put_alloc(&p, i % rings, time++, TRACE_MALLOC, address, 48,
					  1 + at % 100, 0);
			else
				put_free(&p, i % rings, time++, TRACE_MALLOC, address);
		}
		struct mematlas_event event;
		double start = seconds();
		CHECK(mematlas_collector_poll(collector, 0, &event) >= 0);
		spent += seconds() - start;
	}
	printf("%u rings: %.1f million events/s (%.1f ns each, %u slots live or not)\n", rings,
	       (double)events / spent * 1e-6, spent / (double)events * 1e9, blocks);
	session_end(collector);
}

int main(void)
{
	measure(1, 1 << 12);
	measure(1, 1 << 16);
	measure(1, LIVE);
	measure(8, LIVE);
	return 0;
}
