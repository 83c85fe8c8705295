/* The tables of stacks and statistics while their memory is refused, and after that. */
#include <stddef.h>

#include "check_state.h"

#define STACKS 5000u

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool refusing;

void *__wrap_calloc(size_t count, size_t size)
{
	return refusing ? NULL : __real_calloc(count, size);
}

/* Adds stacks below the root until one is refused; returns how many there are. */
static uint32_t add_until_refused(struct state *state)
{
	uint32_t added = 0;

	refusing = true;
	state->out_of_memory = false;
	while (added < STACKS && !state->out_of_memory) {
		uint32_t number = stack_trie_add(state, 0, added + 1);
		if (number)
			CHECK(number == ++added);
	}
	refusing = false;
	return added;
}

static void test_stacks(struct state *state)
{
	uint32_t added = add_until_refused(state);

	CHECK(added > 0 && added < STACKS);
	refusing = true; /* as often as it takes to fill an array whose table did not grow */
	for (uint32_t i = 0; i < STACKS; i++)
		CHECK(stack_trie_add(state, 0, STACKS + i + 1) == 0);
	refusing = false;
	for (uint32_t i = 0; i < STACKS; i++)
		CHECK(stack_trie_add(state, 0, i + 1) == i + 1);
	for (uint32_t i = 0; i < STACKS; i++)
		CHECK(stack_trie_add(state, 0, i + 1) == i + 1);
}

static void test_statistics(struct state *state)
{
	refusing = true;
	state->out_of_memory = false;
	for (uint32_t i = 0; i < STACKS; i++) {
		uint32_t index = stack_stats_find(state, i + 1, 1);
		CHECK(state->out_of_memory ? index == 0 : state->stats.items[index].node == i + 1);
	}
	CHECK(state->out_of_memory && state->stats.count < STACKS);
	refusing = false;
	for (uint32_t i = 0; i < STACKS; i++) {
		uint32_t index = stack_stats_find(state, i + 1, 1);
		CHECK(state->stats.items[index].node == i + 1);
		CHECK(stack_stats_find(state, i + 1, 1) == index);
	}
}

int main(void)
{
	static struct state state;

	CHECK(state_init(&state, 1.0));
	test_stacks(&state);
	test_statistics(&state);
	CHECK_STATE(&state);
	state_free(&state);
	puts("ok");
	return 0;
}
