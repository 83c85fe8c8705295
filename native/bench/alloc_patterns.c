/* Allocation patterns of programs. Each runs until workload_is_running() is false. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_work.h"

#define CHECK_EVERY 64u /* operations between two checks of the stop flag */
#define CHANNEL 1024u   /* objects in flight between two threads */

/* Invariant: 0 <= allocated - freed <= CHANNEL. Each counter has one writer. */
struct channel {
	_Alignas(BENCH_LINE) _Atomic size_t allocated;
	_Alignas(BENCH_LINE) _Atomic size_t freed;
	_Alignas(BENCH_LINE) void *_Atomic objects[CHANNEL];
	atomic_bool closed;
};

_Static_assert((CHANNEL & (CHANNEL - 1)) == 0, "an index stays right when a counter wraps");

static void **create_table(const struct workload *workload)
{
	void **table = malloc(workload->live * sizeof(*table));

	if (!table) {
		fputs("no memory for the table of objects\n", stderr);
		exit(1);
	}
	return table;
}

/* Replaces one random object of a constant live set at a time. */
static void *churn(void *argument)
{
	struct worker *self = argument;
	const struct workload *workload = self->workload;
	void **table = create_table(workload);

	for (size_t i = 0; i < workload->live; i++)
		table[i] = workload_alloc(workload, &self->seed);
	workload_wait_for_start();
	uint64_t began = now_ns();
	while (workload_is_running()) {
		for (unsigned i = 0; i < CHECK_EVERY; i++) {
			void **slot = &table[(workload_random(&self->seed) >> 20) % workload->live];

			workload->free(*slot);
			*slot = workload_alloc(workload, &self->seed);
		}
		self->operations += CHECK_EVERY;
	}
	self->ns = now_ns() - began;
	for (size_t i = 0; i < workload->live; i++)
		workload->free(table[i]);
	free(table);
	return NULL;
}

/* Allocates all objects, then frees all of them, as a server does for a request. */
static void *batch(void *argument)
{
	struct worker *self = argument;
	const struct workload *workload = self->workload;
	void **table = create_table(workload);

	workload_wait_for_start();
	uint64_t began = now_ns();
	do {
		for (size_t i = 0; i < workload->live; i++)
			table[i] = workload_alloc(workload, &self->seed);
		for (size_t i = 0; i < workload->live; i++)
			workload->free(table[i]);
		self->operations += workload->live;
	} while (workload_is_running());
	self->ns = now_ns() - began;
	free(table);
	return NULL;
}

static void produce(struct worker *self)
{
	struct channel *channel = self->channel;

	for (size_t allocated = 0; workload_is_running();) {
		size_t freed = atomic_load_explicit(&channel->freed, memory_order_acquire);
		if (allocated - freed == CHANNEL) {
			sched_yield();
			continue;
		}
		void *object = workload_alloc(self->workload, &self->seed);
		atomic_store_explicit(&channel->objects[allocated % CHANNEL], object,
				      memory_order_relaxed);
		atomic_store_explicit(&channel->allocated, ++allocated, memory_order_release);
	}
	atomic_store(&channel->closed, true);
}

static uint64_t consume(struct worker *self)
{
	struct channel *channel = self->channel;
	size_t freed = 0;

	for (;;) {
		/* Read before `allocated`: the producer publishes its last object first. */
		bool closed = atomic_load(&channel->closed);

		if (freed == atomic_load_explicit(&channel->allocated, memory_order_acquire)) {
			if (closed)
				return freed;
			sched_yield();
			continue;
		}
		self->workload->free(atomic_load_explicit(&channel->objects[freed % CHANNEL],
							  memory_order_relaxed));
		atomic_store_explicit(&channel->freed, ++freed, memory_order_release);
	}
}

/* Even workers allocate, odd workers free, as in queues, pipelines and thread pools. */
void *pattern_handoff(void *argument)
{
	struct worker *self = argument;

	workload_wait_for_start();
	uint64_t began = now_ns();
	if (self->number % 2 == 0)
		produce(self);
	else
		self->operations = consume(self);
	self->ns = now_ns() - began;
	return NULL;
}

void pattern_connect(struct worker *workers, const struct workload *workload)
{
	if (workload->pattern != pattern_handoff)
		return;
	for (unsigned i = 0; i < workload->threads; i += 2) {
		struct channel *channel = aligned_alloc(BENCH_LINE, sizeof(*channel));

		if (!channel)
			exit(1);
		memset(channel, 0, sizeof(*channel));
		workers[i].channel = workers[i + 1].channel = channel;
	}
}

void *(*pattern_find(const char *name))(void *)
{
	return strcmp(name, "churn") == 0     ? churn
	       : strcmp(name, "batch") == 0   ? batch
	       : strcmp(name, "handoff") == 0 ? pattern_handoff
					      : NULL;
}
