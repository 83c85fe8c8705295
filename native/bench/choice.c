/* Kernels chosen by trial: see choice.h. */
#define _GNU_SOURCE
#include "choice.h"

#include <string.h>
#include <sys/resource.h>

#include "clock.h"

#define KEYS 8u

/* One thread at a time times its own work, so that choices need no lock. */
static __thread struct choice choices[KEYS];
static __thread unsigned newest;

static uint64_t faults_of_thread(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? 0 : (uint64_t)usage.ru_minflt;
}

struct choice *choice_for(const struct choice_key *key)
{
	for (unsigned i = 0; i < KEYS; i++)
		if (memcmp(&choices[i].key, key, sizeof(*key)) == 0)
			return &choices[i];
	newest = (newest + 1) % KEYS;
	struct choice *fresh = &choices[newest];
	memset(fresh, 0, sizeof(*fresh));
	fresh->key = *key;
	fresh->best = (uint8_t)__builtin_ctz(key->allowed);
	return fresh;
}

/* The allowed kernel with the fewest trials; the first of equals. */
static uint32_t least_tried(const struct choice *choice)
{
	uint32_t least = choice->best;

	for (uint32_t i = 0; i < CHOICE_MOST; i++)
		if (choice->key.allowed >> i & 1 && choice->trials[i] < choice->trials[least])
			least = i;
	return least;
}

struct choice_trial choice_begin(const struct choice *choice)
{
	return (struct choice_trial){
		.kernel = least_tried(choice), .faults = faults_of_thread(), .began = now_ns()};
}

void choice_end(struct choice *choice, const struct choice_trial *trial, uint64_t elements)
{
	double cost = (double)(now_ns() - trial->began) / (double)(elements + !elements);
	uint32_t at = trial->kernel;

	if (faults_of_thread() != trial->faults)
		return;
	if (!choice->trials[at] || cost < choice->cost[at])
		choice->cost[at] = cost;
	choice->trials[at]++;
	choice->settled = choice->trials[least_tried(choice)] >= CHOICE_TRIALS;
	for (uint32_t i = 0; choice->settled && i < CHOICE_MOST; i++)
		if (choice->key.allowed >> i & 1 && choice->cost[i] < choice->cost[choice->best])
			choice->best = (uint8_t)i;
}
