/* When memory was born and when it died: lifetimes of each sum, and what outlived the cell of time it
 * was born in. Most blocks die in that cell; they cost a comparison. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector.h"

#define FIRST_SHIFT 18u /* some 0.1 ms at 3 GHz; as the run goes on cells grow */
#define AGE_CELLS 512u
#define MOST_SUMS (1u << 20)
#define FEWEST_CELLS 32u /* where there are very many sums */
#define BRIEF_S 1e-3

static uint64_t slot_of(const struct ages *ages, const struct age_sum *age)
{
	uint64_t x = age->sum * 0x9e3779b97f4a7c15ull ^ ((uint64_t)age->born << 32 | age->died);

	x *= 0xff51afd7ed558ccdull;
	return (x ^ x >> 32) & ages->mask;
}

static void put(struct ages *ages, const struct age_sum *age)
{
	uint64_t at = slot_of(ages, age);

	for (; ages->slots[at].sum; at = (at + 1) & ages->mask) {
		struct age_sum *known = &ages->slots[at];
		if (known->sum != age->sum || known->born != age->born || known->died != age->died)
			continue;
		known->bytes += age->bytes;
		known->count += age->count;
		known->variance += age->variance;
		return;
	}
	ages->slots[at] = *age;
	ages->count++;
}

/* Into a table of `slots`, where cells are 2^more times as long. */
static bool rebuild(struct ages *ages, uint64_t slots, uint32_t more)
{
	struct ages made = {calloc(slots, sizeof *made.slots), slots - 1, 0, ages->shift + more};

	if (!made.slots)
		return false;
	for (uint64_t i = 0; ages->slots && i <= ages->mask; i++) {
		struct age_sum age = ages->slots[i];
		age.born >>= more;
		age.died >>= more;
		if (age.sum && age.born != age.died)
			put(&made, &age);
	}
	free(ages->slots);
	*ages = made;
	return true;
}

/* Cells long enough for this time, and room for one sum more. */
static bool make_room(struct ages *ages, uint64_t time)
{
	uint32_t more = 0;

	if (!ages->slots) {
		ages->shift = FIRST_SHIFT;
		if (!rebuild(ages, 1024, 0))
			return false;
	}
	while (time >> (ages->shift + more) >= AGE_CELLS)
		more++;
	if (ages->count >= MOST_SUMS && time >> (ages->shift + more) >= FEWEST_CELLS)
		more++;
	if (more && !rebuild(ages, ages->mask + 1, more))
		return false;
	return ages->count * 2 <= ages->mask || rebuild(ages, (ages->mask + 1) * 2, 0);
}

static void note_lifetime(struct sum *sum, double lived_s, struct weight weight)
{
	static const double limits[MEMATLAS_LIFETIMES - 1] = {1e-4, 1e-3, 1e-2, 1e-1, 1, 10};
	int class = 0;

	while (class < MEMATLAS_LIFETIMES - 1 && lived_s >= limits[class])
		class++;
	sum->lives[class] += weight.count;
	if (lived_s < BRIEF_S)
		sum->brief += weight.bytes;
}

void life_ended(struct state *state, uint32_t sum, uint64_t born, uint64_t died,
		struct weight weight)
{
	struct ages *ages = &state->ages;

	if (state->tick_s == 0 || died < born || born < state->since)
		return;
	if (weight.count != 0)
		note_lifetime(&state->sums.items[sum], (double)(died - born) * state->tick_s,
			      weight);
	if (ages->slots && born >> ages->shift == died >> ages->shift)
		return;
	if (!make_room(ages, died)) {
		state->out_of_memory = true;
		return;
	}
	struct age_sum age = {sum + 1,
			      (uint32_t)(born >> ages->shift),
			      (uint32_t)(died >> ages->shift),
			      weight.bytes,
			      weight.count,
			      weight.variance};
	if (age.born != age.died)
		put(ages, &age);
}

bool ages_copy(struct ages *to, const struct ages *from)
{
	*to = *from;
	if (!from->slots)
		return true;
	to->slots = malloc((from->mask + 1) * sizeof *to->slots);
	if (to->slots)
		memcpy(to->slots, from->slots, (from->mask + 1) * sizeof *to->slots);
	return to->slots != NULL;
}

void ages_forget(struct ages *ages)
{
	if (ages->slots)
		memset(ages->slots, 0, (ages->mask + 1) * sizeof *ages->slots);
	ages->count = 0;
}

/* ---- as rows ---- */

int64_t mematlas_collector_lives(struct mematlas_collector *collector, int index,
				 struct mematlas_life *rows, uint64_t room)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	const struct sums *sums = &process->state.sums;
	uint64_t count = 0;
	for (uint32_t i = 0; i < sums->count && count < room; i++) {
		const struct sum *sum = &sums->items[i];
		double all = 0;
		for (int class = 0; class < MEMATLAS_LIFETIMES; class++)
			all += sum->lives[class];
		if (all <= 0)
			continue;
		struct mematlas_life *row = &rows[count++];
		*row = (struct mematlas_life){
			.stack = sum->node, .kind = sum->kind, .brief_bytes = sum->brief};
		memcpy(row->lives, sum->lives, sizeof row->lives);
	}
	return (int64_t)count;
}

static bool add_living(struct ages *ages, uint32_t sum, uint64_t born, struct weight weight)
{
	struct age_sum age = {sum + 1,        (uint32_t)(born >> ages->shift),
			      MEMATLAS_ALIVE, weight.bytes,
			      weight.count,   weight.variance};

	put(ages, &age);
	return ages->count * 2 <= ages->mask || rebuild(ages, (ages->mask + 1) * 2, 0);
}

/* What has died, and what lives now. `died` of the living outlasts any cell: nothing is shifted here. */
static bool add_all_living(struct ages *ages, const struct state *state)
{
	const struct blocks *blocks = &state->blocks;

	for (uint64_t i = 0; blocks->mask && i <= blocks->mask; i++) {
		const struct block_facts *block = blocks_facts(blocks, i);
		struct weight weight = weigh(state->mean, block->size, block->always);
		if (*blocks_key(blocks, i) && block_born(block) >= state->since &&
		    !add_living(ages, block->sum, block_born(block), weight))
			return false;
	}
	for (size_t i = 0; i < state->ranges.count; i++) {
		const struct range *range = &state->ranges.items[i];
		double size = range->reserved ? 0 : (double)(range->end - range->start);
		struct weight weight = {1, size, 0};
		if (counts_as_live(range->kind) && range->born >= state->since &&
		    !add_living(ages, range->sum, range->born, weight))
			return false;
	}
	return true;
}

static int64_t give_rows(struct mematlas_collector *collector, const struct ages *ages,
			 const struct sums *sums)
{
	struct mematlas_age *rows = malloc((ages->count + 1) * sizeof *rows);
	uint64_t count = 0;

	if (!rows)
		return -ENOMEM;
	for (uint64_t i = 0; i <= ages->mask; i++) {
		const struct age_sum *age = &ages->slots[i];
		if (!age->sum || (fabs(age->bytes) < 1e-3 && fabs(age->count) < 1e-3))
			continue;
		const struct sum *sum = &sums->items[age->sum - 1];
		rows[count++] =
			(struct mematlas_age){sum->node,  sum->kind,  age->born,    age->died,
					      age->bytes, age->count, age->variance};
	}
	free(collector->ages);
	collector->ages = rows;
	return (int64_t)count;
}

int64_t mematlas_collector_ages(struct mematlas_collector *collector, int index, double *cell_s,
				const struct mematlas_age **rows)
{
	*cell_s = 0;
	*rows = NULL;
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	struct state *state = &process->state;
	struct ages all;
	if (state->tick_s == 0)
		return 0;
	if (!make_room(&state->ages, clock_read(collector)) || !ages_copy(&all, &state->ages))
		return -ENOMEM;
	int64_t count = -ENOMEM;
	if (add_all_living(&all, state))
		count = give_rows(collector, &all, &state->sums);
	free(all.slots);
	*cell_s = (double)(1ull << state->ages.shift) * state->tick_s;
	*rows = collector->ages;
	return count;
}
