/* How programs use an allocator, each pattern until the time is up. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_work.h"

#define BATCH 64u
#define CHANNEL 1024u /* pointers under way between two threads */

struct channel {
	_Alignas(128) _Atomic size_t put;
	_Alignas(128) _Atomic size_t got;
	_Alignas(128) void *_Atomic objects[CHANNEL];
	atomic_bool closed;
};

static void **table_of(const struct work *work)
{
	void **table = malloc(work->live * sizeof(*table));

	if (!table) {
		fputs("no memory for the table of objects\n", stderr);
		exit(1);
	}
	return table;
}

/* A steady set of live objects; one at random is replaced at a time. */
static void *churn(void *argument)
{
	struct worker *self = argument;
	const struct work *work = self->work;
	void **table = table_of(work);

	for (size_t i = 0; i < work->live; i++)
		table[i] = take_one(work, &self->seed);
	work_begins();
	uint64_t began = now_ns();
	while (work_goes_on()) {
		for (unsigned i = 0; i < BATCH; i++) {
			void **slot = &table[(draw(&self->seed) >> 20) % work->live];

			work->give(*slot);
			*slot = take_one(work, &self->seed);
		}
		self->operations += BATCH;
	}
	self->ns = now_ns() - began;
	for (size_t i = 0; i < work->live; i++)
		work->give(table[i]);
	free(table);
	return NULL;
}

/* A request's memory: taken piece by piece, then all given back. */
static void *batch(void *argument)
{
	struct worker *self = argument;
	const struct work *work = self->work;
	void **table = table_of(work);

	work_begins();
	uint64_t began = now_ns();
	do {
		for (size_t i = 0; i < work->live; i++)
			table[i] = take_one(work, &self->seed);
		for (size_t i = 0; i < work->live; i++)
			work->give(table[i]);
		self->operations += work->live;
	} while (work_goes_on());
	self->ns = now_ns() - began;
	free(table);
	return NULL;
}

static void produce(struct worker *self)
{
	struct channel *channel = self->channel;

	for (size_t put = 0; work_goes_on();) {
		if (put - atomic_load_explicit(&channel->got, memory_order_acquire) == CHANNEL) {
			sched_yield();
			continue;
		}
		void *object = take_one(self->work, &self->seed);
		atomic_store_explicit(&channel->objects[put % CHANNEL], object,
				      memory_order_relaxed);
		atomic_store_explicit(&channel->put, ++put, memory_order_release);
	}
	atomic_store(&channel->closed, true);
}

static uint64_t consume(struct worker *self)
{
	struct channel *channel = self->channel;
	size_t got = 0;

	for (;;) {
		bool closed = atomic_load(&channel->closed);

		if (got == atomic_load_explicit(&channel->put, memory_order_acquire)) {
			if (closed)
				return got;
			sched_yield();
			continue;
		}
		self->work->give(atomic_load_explicit(&channel->objects[got % CHANNEL],
						      memory_order_relaxed));
		atomic_store_explicit(&channel->got, ++got, memory_order_release);
	}
}

/* One thread takes, the other gives back: queues, pipelines, thread pools. */
void *hand_off(void *argument)
{
	struct worker *self = argument;

	work_begins();
	uint64_t began = now_ns();
	if (self->number % 2 == 0)
		produce(self);
	else
		self->operations = consume(self);
	self->ns = now_ns() - began;
	return NULL;
}

void pair_up(struct worker *workers, const struct work *work)
{
	if (work->pattern != hand_off)
		return;
	for (unsigned i = 0; i < work->threads; i += 2) {
		struct channel *channel = aligned_alloc(128, sizeof(*channel));

		if (!channel)
			exit(1);
		memset(channel, 0, sizeof(*channel));
		workers[i].channel = workers[i + 1].channel = channel;
	}
}

void *(*find_pattern(const char *name))(void *)
{
	return strcmp(name, "churn") == 0     ? churn
	       : strcmp(name, "batch") == 0   ? batch
	       : strcmp(name, "handoff") == 0 ? hand_off
					      : NULL;
}
