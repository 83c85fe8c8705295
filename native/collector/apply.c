/* What each event does to a process's state. Constant work per block event: the peak's shares are
 * saved lazily, by the first change of a sum after the peak. */
#include "state.h"

static void add_live(struct state *state, struct sum *sum, uint64_t time, struct weight weight)
{
	sum_touch(state, sum);
	sum->live += weight.bytes;
	sum->live_count += weight.count;
	sum->live_variance += weight.variance;
	state->live += weight.bytes;
	if (state->live > state->peak) {
		state->peak = state->live;
		state->peak_time = time;
		state->epoch++;
	}
}

static void take_live(struct state *state, struct sum *sum, struct weight weight)
{
	sum_touch(state, sum);
	sum->live -= weight.bytes;
	sum->live_count -= weight.count;
	sum->live_variance -= weight.variance;
	state->live -= weight.bytes;
}

/* Into the table of live blocks, and out of it. */
static bool put(struct state *state, const struct block *block, struct block *replaced)
{
	if (!blocks_add(&state->blocks, block, replaced)) {
		state->out_of_memory = true;
		return false;
	}
	if (state->finds_owners) {
		if (replaced->key)
			large_remove(&state->large, replaced->key, replaced->is.size);
		if (!large_add(&state->large, block->key, block->is.size))
			state->out_of_memory = true;
	}
	return true;
}

void state_allocate(struct state *state, uint64_t time, const struct block *block)
{
	struct block replaced;

	if (!put(state, block, &replaced))
		return;
	if (replaced.key) { /* its free was not seen */
		struct sum *sum = &state->sums.items[replaced.is.sum];
		struct weight weight = weigh(state->mean, replaced.is.size, replaced.is.always);
		sum->freed += weight.bytes;
		take_live(state, sum, weight);
		life_ended(state, replaced.is.sum, block_born(&replaced.is), time, weight);
	}
	struct sum *sum = &state->sums.items[block->is.sum];
	struct weight weight = weigh(state->mean, block->is.size, block->is.always);
	sum->allocated += weight.bytes;
	sum->allocations += weight.count;
	sum->allocated_variance += weight.variance;
	add_live(state, sum, time, weight);
}

bool state_release(struct state *state, uint64_t time, uint64_t key, struct block *out)
{
	if (!blocks_take(&state->blocks, key, out))
		return false;
	if (state->finds_owners)
		large_remove(&state->large, key, out->is.size);
	struct sum *sum = &state->sums.items[out->is.sum];
	struct weight weight = weigh(state->mean, out->is.size, out->is.always);
	sum->freed += weight.bytes;
	take_live(state, sum, weight);
	life_ended(state, out->is.sum, block_born(&out->is), time, weight);
	return true;
}

void state_restore(struct state *state, uint64_t time, uint64_t freed, const struct block *block)
{
	struct block replaced;

	if (!put(state, block, &replaced))
		return;
	struct sum *sum = &state->sums.items[block->is.sum];
	struct weight weight = weigh(state->mean, block->is.size, block->is.always);
	if (replaced.key)
		return;
	sum->freed -= weight.bytes;
	add_live(state, sum, time, weight);
	weight = (struct weight){-weight.count, -weight.bytes, -weight.variance};
	life_ended(state, block->is.sum, block_born(&block->is), freed, weight);
}

struct removal {
	struct state *state;
	uint64_t time;
	uint32_t kind;
};

static void note_removed(void *context, const struct range *range, uint64_t bytes, int pieces)
{
	struct removal *removal = context;
	struct sum *sum = &removal->state->sums.items[range->sum];
	double size = range->reserved ? 0 : (double)bytes;

	if (!removal->kind)
		removal->kind = range->kind;
	sum->freed += size;
	if (counts_as_live(range->kind)) {
		struct weight weight = {-pieces, size, 0};
		take_live(removal->state, sum, weight);
		life_ended(removal->state, range->sum, range->born, removal->time, weight);
	}
}

uint32_t state_unmap(struct state *state, uint64_t time, uint64_t start, uint64_t end)
{
	struct removal removal = {state, time, 0};

	end = page_ceil(end);
	if (end > start && !ranges_remove(&state->ranges, start, end, note_removed, &removal))
		state->out_of_memory = true;
	return removal.kind;
}

void state_map(struct state *state, uint64_t time, const struct range *range)
{
	struct sum *sum = &state->sums.items[range->sum];
	double size = range->reserved ? 0 : (double)(range->end - range->start);

	state_unmap(state, time, range->start, range->end); /* whatever was there went unseen */
	if (!ranges_insert(&state->ranges, range)) {
		state->out_of_memory = true;
		return;
	}
	sum->allocated += size;
	sum->allocations += 1;
	if (counts_as_live(range->kind))
		add_live(state, sum, time, (struct weight){1, size, 0});
}
