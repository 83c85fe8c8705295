/* How far two CPUs are from each other: one word, handed back and forth. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "clock.h"
#include "mematlas.h"
#include "affinity.h"

struct table {
	_Alignas(128) _Atomic uint64_t ball;
	_Alignas(128) _Atomic uint32_t ready;
	_Atomic uint32_t abandoned;
	uint64_t rounds, ns;
	int cpus[2], errors[2];
};

static void play(struct table *table, uint64_t side)
{
	for (uint64_t turn = side; turn < 2 * table->rounds; turn += 2) {
		unsigned tries = 0;

		while (atomic_load_explicit(&table->ball, memory_order_acquire) != turn)
			if (++tries % 4096 == 0)
				sched_yield(); /* both may be on one CPU */
		atomic_store_explicit(&table->ball, turn + 1, memory_order_release);
	}
}

static void *play_second(void *argument)
{
	struct table *table = argument;

	table->errors[1] = pin_thread(table->cpus[1]);
	await_all(&table->ready, 2, &table->abandoned);
	play(table, 1);
	return NULL;
}

static void *play_first(void *argument)
{
	struct table *table = argument;

	table->errors[0] = pin_thread(table->cpus[0]);
	await_all(&table->ready, 2, &table->abandoned);
	uint64_t began = now_ns();
	play(table, 0);
	while (atomic_load_explicit(&table->ball, memory_order_acquire) < 2 * table->rounds)
		sched_yield();
	table->ns = now_ns() - began;
	return NULL;
}

int mematlas_pingpong_run(int32_t first, int32_t second, uint64_t rounds, uint64_t *ret_ns)
{
	struct table table = {.rounds = rounds, .cpus = {first, second}};
	pthread_t threads[2];

	if (first < 0 || second < 0 || !rounds)
		return -EINVAL;
	int error = -pthread_create(&threads[0], NULL, play_first, &table);
	if (error)
		return error;
	error = -pthread_create(&threads[1], NULL, play_second, &table);
	if (error) {
		/* The first would wait for its ball forever: play the second's part here. */
		await_all(&table.ready, 2, &table.abandoned);
		play(&table, 1);
	} else {
		pthread_join(threads[1], NULL);
	}
	pthread_join(threads[0], NULL);
	*ret_ns = table.ns;
	return error ? error : table.errors[0] ? table.errors[0] : table.errors[1];
}
