/* A choice between kernels that give the same result, made by timing each on parts of the real work. No
 * constant of one CPU decides, and no time is spent on anything but the work. */
#ifndef MEMATLAS_BENCH_CHOICE_H
#define MEMATLAS_BENCH_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#define CHOICE_MOST 8u /* kernels to choose from */
#define CHOICE_TRIALS 3u /* of each, of which the least counts: a machine has other work */

/* What the best kernel depends on. */
struct choice_key {
	uint64_t rows, columns, from_row, to_row;
	uint32_t method, allowed; /* bit i: kernel i may run here */
};

/* settled <=> each allowed kernel has CHOICE_TRIALS trials;
 * best is the allowed kernel of the least cost once settled */
struct choice {
	struct choice_key key;
	double cost[CHOICE_MOST]; /* ns of an element, the least of the trials */
	uint8_t trials[CHOICE_MOST];
	uint8_t best;
	bool settled;
};

struct choice_trial {
	uint64_t began;
	uint64_t faults;
	uint32_t kernel;
};

/* The calling thread's choice for a key; new, or as earlier calls left the choice. allowed != 0. */
struct choice *choice_for(const struct choice_key *key);
/* The kernel that has the fewest trials. */
struct choice_trial choice_begin(const struct choice *choice);
/* A part with page faults tells nothing of its kernel, and is not counted. */
void choice_end(struct choice *choice, const struct choice_trial *trial, uint64_t elements);

#endif
