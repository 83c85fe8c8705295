/* Latency between two CPUs: one cache line moves back and forth. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "affinity.h"
#include "clock.h"
#include "mematlas.h"
#include "start_barrier.h"

/* turn counts from 0 to 2 * rounds. Thread i increments the values that are i modulo 2. */
struct pingpong {
	_Alignas(BENCH_LINE) _Atomic uint64_t turn;
	struct start_barrier barrier;
	uint64_t rounds, ns;
	int cpus[2], errors[2];
};

static void play(struct pingpong *pingpong, uint64_t thread)
{
	for (uint64_t turn = thread; turn < 2 * pingpong->rounds; turn += 2) {
		unsigned tries = 0;

		while (atomic_load_explicit(&pingpong->turn, memory_order_acquire) != turn)
			if (++tries % 4096 == 0)
				sched_yield(); /* both threads may be on one CPU */
		atomic_store_explicit(&pingpong->turn, turn + 1, memory_order_release);
	}
}

static void *run_second(void *argument)
{
	struct pingpong *pingpong = argument;

	pingpong->errors[1] = affinity_set_cpu(pingpong->cpus[1]);
	start_barrier_wait(&pingpong->barrier);
	play(pingpong, 1);
	return NULL;
}

static void *run_first(void *argument)
{
	struct pingpong *pingpong = argument;

	pingpong->errors[0] = affinity_set_cpu(pingpong->cpus[0]);
	start_barrier_wait(&pingpong->barrier);
	uint64_t began = now_ns();
	play(pingpong, 0);
	while (atomic_load_explicit(&pingpong->turn, memory_order_acquire) < 2 * pingpong->rounds)
		sched_yield();
	pingpong->ns = now_ns() - began;
	return NULL;
}

int mematlas_pingpong_run(int32_t first, int32_t second, uint64_t rounds, uint64_t *ret_ns)
{
	struct pingpong pingpong = {
		.barrier.threads = 2, .rounds = rounds, .cpus = {first, second}};
	pthread_t threads[2];

	if (first < 0 || second < 0 || !rounds)
		return -EINVAL;
	int error = -pthread_create(&threads[0], NULL, run_first, &pingpong);
	if (error)
		return error;
	error = -pthread_create(&threads[1], NULL, run_second, &pingpong);
	if (error) {
		/* The first thread waits for its turn without end, so play the second part here. */
		start_barrier_wait(&pingpong.barrier);
		play(&pingpong, 1);
	} else {
		pthread_join(threads[1], NULL);
	}
	pthread_join(threads[0], NULL);
	*ret_ns = pingpong.ns;
	return error ? error : pingpong.errors[0] ? pingpong.errors[0] : pingpong.errors[1];
}
