/* Bandwidth: threads start together, each on its part of the arrays, and the slowest stops the
 * clock. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "clock.h"
#include "mematlas.h"
#include "start_barrier.h"
#include "stream.h"

struct stream_team {
	struct start_barrier barrier;
	int operation, bypass;
	const struct stream_loops *loops;
	const struct stream_reader *reader; /* READ only */
};

struct stream_worker {
	_Alignas(BENCH_LINE) struct stream_team *team;
	double *a;
	const double *b, *c;
	uint64_t count;
	int cpu, error;
	uint64_t began, ended;
	double sum;
	pthread_t thread;
};

static double run_loop(const struct stream_team *team, double *a, const double *b, const double *c,
		       uint64_t count)
{
	if (team->operation == MEMATLAS_STREAM_READ)
		return team->reader->read(a, count);
	(team->bypass ? team->loops->bypass : team->loops->store)[team->operation](a, b, c, count);
	return 0;
}

static void *run_part(void *argument)
{
	struct stream_worker *self = argument;
	struct stream_team *team = self->team;

	self->error = affinity_set_cpu(self->cpu);
	start_barrier_wait(&team->barrier);
	self->began = now_ns();
	self->sum = run_loop(team, self->a, self->b, self->c, self->count);
	self->ended = now_ns();
	return NULL;
}

static int run_workers(struct stream_team *team, struct stream_worker *workers)
{
	uint32_t started = 0;
	int error = 0;

	for (; !error && started < team->barrier.threads; started += !error)
		error = -pthread_create(&workers[started].thread, NULL, run_part,
					&workers[started]);
	if (error)
		start_barrier_cancel(&team->barrier);
	for (uint32_t i = 0; i < started; i++) {
		pthread_join(workers[i].thread, NULL);
		error = error ? error : workers[i].error;
	}
	return error;
}

static void divide_arrays(struct stream_worker *workers, struct stream_team *team, double *a,
			  const double *b, const double *c, uint64_t count, const int32_t *cpus)
{
	for (uint32_t i = 0; i < team->barrier.threads; i++) {
		uint64_t from = count * i / team->barrier.threads,
			 to = count * (i + 1) / team->barrier.threads;

		workers[i] = (struct stream_worker){.team = team,
						    .cpu = cpus[i],
						    .a = a + from,
						    .b = b + from,
						    .c = c + from,
						    .count = to - from};
	}
}

static void add_results(const struct stream_worker *workers, uint32_t threads,
			struct mematlas_stream_result *ret)
{
	uint64_t began = UINT64_MAX, ended = 0;

	ret->sum = 0;
	for (uint32_t i = 0; i < threads; i++) {
		began = workers[i].began < began ? workers[i].began : began;
		ended = workers[i].ended > ended ? workers[i].ended : ended;
		ret->sum += workers[i].sum;
	}
	ret->ns = ended - began;
}

static const struct stream_reader *reader_of(const struct stream_team *team, const char *vectors,
					     const double *a, uint64_t count)
{
	if (team->operation != MEMATLAS_STREAM_READ)
		return NULL;
	return stream_reader_for(vectors ? team->loops : NULL, a, count);
}

int mematlas_stream_run(const char *vectors, int operation, int bypass, uint64_t a, uint64_t b,
			uint64_t c, uint64_t count, const int32_t *cpus, uint32_t threads,
			struct mematlas_stream_result *ret)
{
	struct stream_team team = {
		.barrier.threads = threads, .operation = operation, .bypass = bypass};

	team.loops = vectors ? stream_loops_named(vectors) : stream_loops_best();
	if (!team.loops)
		return -EOPNOTSUPP;
	if (operation < 0 || operation > MEMATLAS_STREAM_TRIAD || !threads || (a | b | c) % 8)
		return -EINVAL;
	team.reader = reader_of(&team, vectors, (const double *)(uintptr_t)a, count);
	struct stream_worker *workers = aligned_alloc(BENCH_LINE, threads * sizeof(*workers));
	if (!workers)
		return -ENOMEM;
	divide_arrays(workers, &team, (double *)(uintptr_t)a, (const double *)(uintptr_t)b,
		      (const double *)(uintptr_t)c, count, cpus);
	int error = run_workers(&team, workers);
	if (!error)
		add_results(workers, threads, ret);
	free(workers);
	return error;
}

const char *mematlas_stream_vectors(void)
{
	return stream_loops_best()->name;
}
