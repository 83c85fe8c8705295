/* Inside mematlas_alloc_work. */
#ifndef MEMATLAS_KERNELS_ALLOC_WORK_H
#define MEMATLAS_KERNELS_ALLOC_WORK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "clock.h"
#include "mematlas.h"

struct work {
	size_t size; /* 0: mixed */
	size_t live; /* objects a thread holds */
	unsigned threads, milliseconds;
	void *(*take)(size_t size);
	void (*give)(void *object);
	void *(*pattern)(void *worker);
};

struct channel;

struct worker {
	_Alignas(128) const struct work *work;
	struct channel *channel; /* of hand_off */
	unsigned number;
	uint64_t seed, operations, ns; /* an operation is one take and one give */
	pthread_t thread;
};

uint64_t draw(uint64_t *seed);
size_t draw_size(const struct work *work, uint64_t *seed);
void *take_one(const struct work *work, uint64_t *seed);
void work_begins(void); /* waits for the other threads */
bool work_goes_on(void);

void *(*find_pattern(const char *name))(void *);
void *hand_off(void *worker);
void pair_up(struct worker *workers, const struct work *work);
int hold_memory(const struct work *work);

#endif
