/* Lifetimes and the age matrix against a plain list of all lifetimes, over runs that make cells
 * grow. */
#include <stdlib.h>
#include <string.h>

#include "../collector/collector.h"
#include "check_state.h"
#include "random.h"

#define BLOCKS 20000u
#define STACKS 5u

struct lifetime {
	uint64_t born, died; /* died 0: live at the end */
	uint64_t size;
	uint32_t stats;
};

static struct lifetime blocks[BLOCKS];
static uint64_t seed = 42;

static uint64_t draw(void)
{
	return random_next(&seed);
}

/* Births ascend; lifetimes are of all orders of magnitude. */
static uint64_t make_lifetimes(uint64_t step)
{
	uint64_t time = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		uint64_t length = draw() % (1ull << (draw() % 40));
		time += draw() % step;
		blocks[i] = (struct lifetime){time & ~63ull, 0, 1 + draw() % 5000, draw() % STACKS};
		blocks[i].died = draw() % 10 ? (blocks[i].born + length) & ~63ull : 0;
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		if (blocks[i].died > time)
			blocks[i].died = 0;
	return time;
}

static struct lifetime *deaths[BLOCKS]; /* by time of death, those without one last */

static int by_death(const void *left, const void *right)
{
	uint64_t a = (*(struct lifetime *const *)left)->died - 1,
		 b = (*(struct lifetime *const *)right)->died - 1;

	return (a > b) - (a < b);
}

static void sort_deaths(void)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		deaths[i] = &blocks[i];
	qsort(deaths, BLOCKS, sizeof *deaths, by_death);
}

static void release(struct state *state, const struct lifetime *block)
{
	uint64_t address = (uint64_t)(block - blocks) * 16 + 16;
	struct block out;

	CHECK(state_release(state, block->died, BLOCK_KEY(address, TRACE_MALLOC), &out));
}

static void allocate(struct state *state, const struct lifetime *lifetime)
{
	uint64_t address = (uint64_t)(lifetime - blocks) * 16 + 16;
	struct block block = block_make(BLOCK_KEY(address, TRACE_MALLOC), lifetime->size,
					lifetime->stats, false, lifetime->born);

	CHECK(block_born(&block.info) == lifetime->born);
	state_allocate(state, lifetime->born, &block);
	if (lifetime->died == lifetime->born)
		release(state, lifetime);
}

/* Applies the events in order of time. A block that dies when it is born was released there. */
static void play(struct state *state)
{
	unsigned dead = 0;

	sort_deaths();
	for (unsigned born = 0; born <= BLOCKS; born++) {
		uint64_t now = born < BLOCKS ? blocks[born].born : UINT64_MAX;
		for (; dead < BLOCKS && deaths[dead]->died && deaths[dead]->died <= now; dead++)
			if (deaths[dead]->died > deaths[dead]->born)
				release(state, deaths[dead]);
		if (born < BLOCKS)
			allocate(state, &blocks[born]);
	}
}

static void check_lifetimes(const struct state *state)
{
	double counts[STACKS][MEMATLAS_LIFETIME_CLASSES] = {0}, temporary[STACKS] = {0};

	for (unsigned i = 0; i < BLOCKS; i++) {
		const struct lifetime *lifetime = &blocks[i];
		double lived = (double)(lifetime->died - lifetime->born) * state->tick_s,
		       limit = 1e-4;
		int class = 0;
		if (!lifetime->died)
			continue;
		for (; class < MEMATLAS_LIFETIME_CLASSES - 1 && lived >= limit * (1 - 1e-12);
		     class++)
			limit *= 10;
		counts[lifetime->stats][class]++;
		if (lived < 1e-3)
			temporary[lifetime->stats] += (double)lifetime->size;
	}
	for (unsigned stats = 0; stats < STACKS; stats++) {
		CHECK(memcmp(counts[stats], state->stats.items[stats].lifetimes,
			     sizeof counts[stats]) == 0);
		CHECK(temporary[stats] == state->stats.items[stats].temporary);
	}
}

/* The cells [from, to), of one stack. */
struct window {
	uint32_t stats, from, to;
};

/* Blocks born in the window and live at its end, by the list. */
static struct weight expected(const struct window *window, uint32_t shift)
{
	struct weight sum = {0};

	for (unsigned i = 0; i < BLOCKS; i++) {
		uint64_t born = blocks[i].born >> shift;
		if (blocks[i].stats == window->stats && born >= window->from && born < window->to &&
		    blocks[i].died && blocks[i].died >> shift >= window->to) {
			sum.bytes += (double)blocks[i].size;
			sum.count++;
		}
	}
	return sum;
}

/* The same by the matrix. */
static struct weight found(const struct window *window, const struct age_matrix *matrix)
{
	struct weight sum = {0};

	for (uint64_t i = 0; i <= matrix->mask; i++) {
		const struct age_cell *cell = &matrix->slots[i];
		if (cell->stats == window->stats + 1 && cell->born >= window->from &&
		    cell->born < window->to && cell->died >= window->to) {
			sum.bytes += cell->bytes;
			sum.count += cell->count;
		}
	}
	return sum;
}

static void check_windows(const struct state *state, uint64_t end)
{
	const struct age_matrix *matrix = &state->age_matrix;
	uint32_t cells = (uint32_t)(end >> matrix->shift);

	CHECK(cells >= 128 && cells < 512);
	for (unsigned round = 0; round < 200; round++) {
		struct window window = {.to = 1 + (uint32_t)draw() % cells};
		window.from = (uint32_t)draw() % window.to;
		window.stats = (uint32_t)draw() % STACKS;
		struct weight list = expected(&window, matrix->shift);
		struct weight sum = found(&window, matrix);
		CHECK(list.bytes == sum.bytes && list.count == sum.count);
	}
}

static void test_lifetimes(uint64_t step)
{
	struct state state, copy;

	CHECK(state_init(&state, 0));
	state.tick_s = 1.0 / 3e9;
	for (unsigned i = 0; i < STACKS; i++) {
		uint32_t node = i ? stack_trie_add(&state, 0, i) : 0;
		CHECK(stack_stats_find(&state, node, TRACE_MALLOC) == i);
	}
	uint64_t end = make_lifetimes(step);
	play(&state);
	check_lifetimes(&state);
	check_windows(&state, end);
	CHECK_STATE(&state);
	CHECK(state_copy(&copy, &state, end) == 0); /* no block died in the child */
	CHECK(copy.age_matrix.count == 0 && copy.stats.items[0].lifetimes[0] == 0);
	CHECK_STATE(&copy);
	state_free(&copy);
	state_free(&state);
}

static void test_a_failed_realloc_is_no_death(void)
{
	struct state state;
	struct block block = block_make(BLOCK_KEY(64, TRACE_MALLOC), 100, 0, false, 640), out;

	CHECK(state_init(&state, 0));
	state.tick_s = 1e-9;
	stack_stats_find(&state, 0, TRACE_MALLOC);
	state_allocate(&state, 640, &block);
	CHECK(state_release(&state, 1ull << 40, block.key, &out));
	CHECK(state.age_matrix.count == 1);
	state_restore(&state, (1ull << 40) + 5, 1ull << 40, &out);
	for (int class = 0; class < MEMATLAS_LIFETIME_CLASSES; class++)
		CHECK(state.stats.items[0].lifetimes[class] == 0);
	for (uint64_t i = 0; i <= state.age_matrix.mask; i++)
		CHECK(state.age_matrix.slots[i].bytes == 0 && state.age_matrix.slots[i].count == 0);
	CHECK(state_release(&state, 1ull << 41, block.key, &out) && block_born(&out.info) == 640);
	CHECK_STATE(&state);
	state_free(&state);
}

static void test_a_clock_without_a_rate(void)
{
	struct state state;
	struct block block = block_make(BLOCK_KEY(64, TRACE_MALLOC), 1ull << 60, 0, false, 1), out;

	CHECK(state_init(&state, 0));
	stack_stats_find(&state, 0, TRACE_MALLOC);
	CHECK(block.info.size == (1ull << 48) - 1);
	state_allocate(&state, 1, &block);
	CHECK(state_release(&state, 1ull << 50, block.key, &out));
	CHECK(!state.age_matrix.slots && state.stats.items[0].lifetimes[6] == 0);
	state_free(&state);
}

int main(void)
{
	test_lifetimes(1ull << 18);
	test_lifetimes(1ull << 24);
	test_lifetimes(1ull << 33);
	test_a_failed_realloc_is_no_death();
	test_a_clock_without_a_rate();
	return 0;
}
