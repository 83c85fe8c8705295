/* Lifetimes and ages against a plain list of all lives, over runs that make cells grow. */
#include <string.h>

#include "../collector/collector.h"
#include "check.h"

#define LIVES 20000u
#define SUMS 5u

struct life {
	uint64_t born, died; /* died 0: still lives */
	uint64_t size;
	uint32_t sum;
};

static struct life lives[LIVES];
static uint64_t seed = 42;

static uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Born at growing times; each lives for a time of any order of magnitude. */
static uint64_t make_lives(uint64_t step)
{
	uint64_t time = 0;

	for (unsigned i = 0; i < LIVES; i++) {
		uint64_t length = draw() % (1ull << (draw() % 40));
		time += draw() % step;
		lives[i] = (struct life){time & ~63ull, 0, 1 + draw() % 5000, draw() % SUMS};
		lives[i].died = draw() % 10 ? (lives[i].born + length) & ~63ull : 0;
	}
	for (unsigned i = 0; i < LIVES; i++)
		if (lives[i].died > time)
			lives[i].died = 0;
	return time;
}

/* In the order things happened, as rings are merged. */
static void play(struct state *state, uint64_t end)
{
	struct block out;
	unsigned next = 0;

	for (uint64_t now = 0, last = 0; now <= end; last = now + 1) {
		uint64_t soonest = UINT64_MAX;
		if (next < LIVES)
			soonest = lives[next].born;
		for (unsigned i = 0; i < next; i++)
			if (lives[i].died >= last && lives[i].died && lives[i].died < soonest)
				soonest = lives[i].died;
		if (soonest == UINT64_MAX)
			return;
		now = soonest;
		for (unsigned i = 0; i < next; i++)
			if (lives[i].died == now)
				CHECK(state_release(state, now,
						    BLOCK_KEY(i * 16 + 16, TRACE_MALLOC), &out));
		for (; next < LIVES && lives[next].born == now; next++) {
			struct block block =
				block_make(BLOCK_KEY(next * 16 + 16, TRACE_MALLOC),
					   lives[next].size, lives[next].sum, false, now);
			CHECK(block_born(&block.is) == now);
			state_allocate(state, now, &block);
			if (lives[next].died == now)
				CHECK(state_release(state, now,
						    BLOCK_KEY(next * 16 + 16, TRACE_MALLOC), &out));
		}
	}
}

static void check_lifetimes(const struct state *state)
{
	double counts[SUMS][MEMATLAS_LIFETIMES] = {0}, brief[SUMS] = {0};

	for (unsigned i = 0; i < LIVES; i++) {
		const struct life *life = &lives[i];
		double lived = (double)(life->died - life->born) * state->tick_s, limit = 1e-4;
		int class = 0;
		if (!life->died)
			continue;
		for (; class < MEMATLAS_LIFETIMES - 1 && lived >= limit * (1 - 1e-12); class++)
			limit *= 10;
		counts[life->sum][class]++;
		if (lived < 1e-3)
			brief[life->sum] += (double)life->size;
	}
	for (unsigned sum = 0; sum < SUMS; sum++) {
		CHECK(memcmp(counts[sum], state->sums.items[sum].lives, sizeof counts[sum]) == 0);
		CHECK(brief[sum] == state->sums.items[sum].brief);
	}
}

/* Bytes of a sum born in [from, to) and alive at `to`, in cells: by the table and by the list. */
static void check_windows(const struct state *state, uint64_t end)
{
	const struct ages *ages = &state->ages;
	uint32_t cells = (uint32_t)(end >> ages->shift);

	CHECK(cells >= 128 && cells < 512);
	for (unsigned round = 0; round < 200; round++) {
		uint32_t to = 1 + (uint32_t)draw() % cells, from = (uint32_t)draw() % to;
		double expected = 0, found = 0, count = 0;
		uint32_t sum = (uint32_t)draw() % SUMS;
		for (unsigned i = 0; i < LIVES; i++) {
			uint64_t born = lives[i].born >> ages->shift;
			if (lives[i].sum == sum && born >= from && born < to && lives[i].died &&
			    lives[i].died >> ages->shift >= to) {
				expected += (double)lives[i].size;
				count++;
			}
		}
		for (uint64_t i = 0; i <= ages->mask; i++) {
			const struct age_sum *age = &ages->slots[i];
			if (age->sum == sum + 1 && age->born >= from && age->born < to &&
			    age->died >= to) {
				found += age->bytes;
				count -= age->count;
			}
		}
		CHECK(expected == found && count == 0);
	}
}

static void test_lives(uint64_t step)
{
	struct state state, copy;

	CHECK(state_init(&state, 0));
	state.tick_s = 1.0 / 3e9;
	for (unsigned sum = 0; sum < SUMS; sum++)
		CHECK(sum_find(&state, sum, TRACE_MALLOC) == sum);
	uint64_t end = make_lives(step);
	play(&state, end);
	check_lifetimes(&state);
	check_windows(&state, end);
	CHECK(state_copy(&copy, &state, end) == 0); /* a child has seen nothing die */
	CHECK(copy.ages.count == 0 && copy.sums.items[0].lives[0] == 0);
	state_free(&copy);
	state_free(&state);
}

static void test_a_failed_realloc_is_no_death(void)
{
	struct state state;
	struct block block = block_make(BLOCK_KEY(64, TRACE_MALLOC), 100, 0, false, 640), out;

	CHECK(state_init(&state, 0));
	state.tick_s = 1e-9;
	sum_find(&state, 0, TRACE_MALLOC);
	state_allocate(&state, 640, &block);
	CHECK(state_release(&state, 1ull << 40, block.key, &out));
	CHECK(state.ages.count == 1);
	state_restore(&state, (1ull << 40) + 5, 1ull << 40, &out);
	for (int class = 0; class < MEMATLAS_LIFETIMES; class++)
		CHECK(state.sums.items[0].lives[class] == 0);
	for (uint64_t i = 0; i <= state.ages.mask; i++)
		CHECK(state.ages.slots[i].bytes == 0 && state.ages.slots[i].count == 0);
	CHECK(state_release(&state, 1ull << 41, block.key, &out) && block_born(&out.is) == 640);
	state_free(&state);
}

static void test_a_clock_that_tells_no_time(void)
{
	struct state state;
	struct block block = block_make(BLOCK_KEY(64, TRACE_MALLOC), 1ull << 60, 0, false, 1), out;

	CHECK(state_init(&state, 0));
	sum_find(&state, 0, TRACE_MALLOC);
	CHECK(block.is.size == (1ull << 48) - 1);
	state_allocate(&state, 1, &block);
	CHECK(state_release(&state, 1ull << 50, block.key, &out));
	CHECK(!state.ages.slots && state.sums.items[0].lives[6] == 0);
	state_free(&state);
}

int main(void)
{
	test_lives(1ull << 18);
	test_lives(1ull << 24);
	test_lives(1ull << 33);
	test_a_failed_realloc_is_no_death();
	test_a_clock_that_tells_no_time();
	return 0;
}
