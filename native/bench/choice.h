/* A choice between kernels that give the same result, made by timing each on parts of the real work. No
 * constant of one CPU decides, and no time is spent on anything but the work. Work of one class has one
 * choice in the process: the first settled one, or one that an earlier process on this machine made. */
#ifndef MEMATLAS_BENCH_CHOICE_H
#define MEMATLAS_BENCH_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#define CHOICE_MOST 16u /* kernels to choose from */
#define CHOICE_TRIALS 3u /* of each, of which the least counts: a machine has other work */

/* What the best kernel depends on: a class of work, not one matrix. No padding. */
struct choice_key {
	uint16_t work; /* enum mematlas_kernel_work */
	uint16_t allowed; /* bit i: kernel i may run here */
	uint8_t rows, columns; /* bits of the number */
	uint8_t from_step, to_step; /* choice_step() of the bytes between rows */
	uint8_t from_pages, to_pages; /* enum page_kind */
};
_Static_assert(sizeof(struct choice_key) == 10, "keys are compared as bytes");

/* settled <=> each allowed kernel has CHOICE_TRIALS trials, or there were too many disturbed ones;
 * best is the allowed kernel of the least cost once settled;
 * sure => settled, and the two least costs of the best kernel are close;
 * cost[i] <= again[i], and both are 0 as long as they were not measured */
struct choice {
	struct choice_key key;
	float cost[CHOICE_MOST]; /* ns of an element, the least of the trials */
	float again[CHOICE_MOST]; /* the second least */
	uint8_t trials[CHOICE_MOST];
	uint8_t best, disturbed, rounds;
	bool settled, sure;
};

struct choice_trial {
	uint64_t began;
	uint64_t disturbances;
	uint32_t kernel;
};

/* Bits of a number of rows or columns. */
uint8_t choice_bits(uint64_t count);
/* Trailing zero bits of a step, 17 at most: rows that share cache sets. */
uint8_t choice_step(uint64_t step);
/* The calling thread's choice for a key; new, or as earlier calls left the choice. allowed != 0. */
struct choice *choice_for(const struct choice_key *key);
/* The kernel that has the fewest trials. */
struct choice_trial choice_begin(const struct choice *choice);
/* A part with page faults, or whose thread lost the CPU, tells nothing of its kernel, and is not counted. */
void choice_end(struct choice *choice, const struct choice_trial *trial, uint64_t elements);

/* choice_table.c: the choices of the process. */
bool choice_find(const struct choice_key *key, struct choice *ret);
/* choice->sure. */
void choice_publish(const struct choice *choice);
/* An entry takes the place of the one of its class. */
struct mematlas_kernel_choice;
void choice_put(const struct mematlas_kernel_choice *entry);
/* Changes when the table is cleared. */
uint32_t choice_generation(void);

#endif
