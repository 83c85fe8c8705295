/* Kernels chosen by trial: see choice.h. */
#define _GNU_SOURCE
#include "choice.h"

#include <string.h>
#include <sys/resource.h>

#include "clock.h"

#define KEYS 4u /* being chosen at once: settled ones are in the table of the process */
#define STEP_MOST 17u /* beyond, rows share all sets that they can share */
#define CLOSE 1.1f /* two trials of one kernel, one over the other */
#define DISTURBED                                                                                  \
	6u /* trials of each kernel, on average, before a choice settles with what there is */
#define ROUNDS 4u /* of trials, until a choice that is not sure is kept for the process */

/* One thread at a time times its own work, so that choices need no lock. */
static __thread struct choice choices[KEYS];
static __thread unsigned newest;
static __thread uint32_t generation;

uint8_t choice_bits(uint64_t count)
{
	return (uint8_t)(count ? 64 - __builtin_clzl(count) : 0);
}

uint8_t choice_step(uint64_t step)
{
	uint64_t low = step ? (uint64_t)__builtin_ctzl(step) : STEP_MOST;

	return (uint8_t)(low < STEP_MOST ? low : STEP_MOST);
}

static uint64_t disturbances(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage)
		       ? 0
		       : (uint64_t)(usage.ru_minflt + usage.ru_majflt + usage.ru_nivcsw);
}

static void begin_round(struct choice *choice, const struct choice_key *key, uint8_t round)
{
	memset(choice, 0, sizeof(*choice));
	choice->key = *key;
	choice->best = (uint8_t)__builtin_ctz(key->allowed);
	choice->rounds = round;
}

/* An unsure choice is made anew, a few times. */
static struct choice *known(const struct choice_key *key)
{
	for (unsigned i = 0; i < KEYS; i++) {
		struct choice *choice = &choices[i];
		if (!choice->key.allowed || memcmp(&choice->key, key, sizeof(*key)) != 0)
			continue;
		if (choice->settled && !choice->sure && choice->rounds < ROUNDS)
			begin_round(choice, key, (uint8_t)(choice->rounds + 1));
		return choice;
	}
	return NULL;
}

struct choice *choice_for(const struct choice_key *key)
{
	if (generation != choice_generation()) {
		memset(choices, 0, sizeof(choices));
		generation = choice_generation();
	}
	struct choice *choice = known(key);
	if (!choice) {
		newest = (newest + 1) % KEYS;
		choice = &choices[newest];
		begin_round(choice, key, 0);
	}
	if (!choice->sure)
		choice_find(key, choice);
	return choice;
}

static bool allows(const struct choice *choice, uint32_t kernel)
{
	return choice->key.allowed >> kernel & 1;
}

/* The allowed kernel with the fewest trials; the first of equals. */
static uint32_t least_tried(const struct choice *choice)
{
	uint32_t least = (uint32_t)__builtin_ctz(choice->key.allowed);

	for (uint32_t i = 0; i < CHOICE_MOST; i++)
		if (allows(choice, i) && choice->trials[i] < choice->trials[least])
			least = i;
	return least;
}

struct choice_trial choice_begin(const struct choice *choice)
{
	return (struct choice_trial){
		.kernel = least_tried(choice), .disturbances = disturbances(), .began = now_ns()};
}

static void note_cost(struct choice *choice, uint32_t kernel, float cost)
{
	float least = choice->cost[kernel], second = choice->again[kernel];

	if (!choice->trials[kernel]++ || cost < least) {
		choice->again[kernel] = least;
		choice->cost[kernel] = cost;
	} else if (choice->trials[kernel] == 2 || cost < second) {
		choice->again[kernel] = cost;
	}
}

static void settle(struct choice *choice)
{
	bool whole = choice->trials[least_tried(choice)] >= CHOICE_TRIALS;
	uint32_t best = choice->best;

	for (uint32_t i = 0; i < CHOICE_MOST; i++)
		if (choice->trials[i] &&
		    (!choice->trials[best] || choice->cost[i] < choice->cost[best]))
			best = i;
	choice->best = (uint8_t)best;
	choice->settled = true;
	choice->sure = whole && choice->again[best] <= CLOSE * choice->cost[best];
	if (choice->sure)
		choice_publish(choice);
}

void choice_end(struct choice *choice, const struct choice_trial *trial, uint64_t elements)
{
	double cost = (double)(now_ns() - trial->began) / (double)(elements + !elements);
	unsigned most = DISTURBED * (unsigned)__builtin_popcount(choice->key.allowed);

	if (disturbances() == trial->disturbances)
		note_cost(choice, trial->kernel, cost > 0 ? (float)cost : 1e-9f);
	else
		choice->disturbed++;
	if (choice->trials[least_tried(choice)] >= CHOICE_TRIALS || choice->disturbed >= most)
		settle(choice);
}
