/* block_around() against a search through all blocks. */
#include <stdlib.h>

#include "check_state.h"
#include "random.h"

#define BLOCKS 400u
#define ROUNDS 20000u
#define SPAN (1ull << 34)

static struct block live[BLOCKS];
static uint64_t seed = 88172645463325252ull;

static uint64_t draw(void)
{
	return random_next(&seed);
}

static bool is_free(uint64_t start, uint64_t size)
{
	for (unsigned i = 0; i < BLOCKS; i++) {
		uint64_t other = TRACE_ADDRESS(live[i].key);
		if (live[i].key && start < other + live[i].info.size && other < start + size)
			return false;
	}
	return true;
}

static const struct block *search(uint64_t address)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		if (live[i].key && address - TRACE_ADDRESS(live[i].key) < live[i].info.size)
			return &live[i];
	return NULL;
}

/* Sizes of all orders of magnitude, at any start that malloc may return. */
static void allocate(struct state *state, struct block *block)
{
	uint64_t size = 1 + (draw() & ((1ull << (draw() % 30)) - 1));
	uint64_t start = 4096 + (draw() % SPAN & ~(uint64_t)15);

	if (!is_free(start, size))
		return;
	bool object = size <= 512 && draw() & 1;
	*block = block_make(BLOCK_KEY(start, object ? TRACE_PYOBJECT : TRACE_MALLOC), size, 0, true,
			    0);
	state_allocate(state, 0, block);
}

static void check_around(const struct state *state, uint64_t address)
{
	const struct block *expected = search(address);
	struct block found;
	bool is_found = block_around(state, address, &found);

	CHECK(!expected == !is_found);
	CHECK(!is_found || (found.key == expected->key && found.info.size == expected->info.size));
}

int main(void)
{
	struct state state, copy;
	struct block out;

	CHECK(state_init(&state, 0));
	state.finds_owners = true;
	stack_stats_find(&state, 0, TRACE_MALLOC);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct block *block = &live[draw() % BLOCKS];
		if (block->key) {
			uint64_t start = TRACE_ADDRESS(block->key), end = start + block->info.size;
			check_around(&state, start);
			check_around(&state, end - 1);
			check_around(&state, end);
			check_around(&state, start - 1);
			check_around(&state, start + draw() % block->info.size);
			CHECK(state_release(&state, 0, block->key, &out));
			block->key = 0;
			check_around(&state, start);
		} else {
			allocate(&state, block);
		}
		check_around(&state, draw() % SPAN);
		if (round % 1000 == 0)
			CHECK_STATE(&state);
	}
	CHECK(state_copy(&copy, &state, 1) == 0);
	state_free(&state);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (live[i].key)
			check_around(&copy, TRACE_ADDRESS(live[i].key) + live[i].info.size / 2);
	CHECK_STATE(&copy);
	state_free(&copy);
	return 0;
}
