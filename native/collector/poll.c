/* The loop of the collector: heartbeat, arrivals, drain, observation, sleep. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../cleanup.h"
#include "collector.h"

#define STATUSES_EVERY_S 1.0
#define BUSY_NS 500000L
#define CALM_NS 10000000L
#define IDLE_NS 20000000L
#define GROWING_NS 2000000L /* a program that touches memory calls no hook, and may be killed */

bool process_is_gone(const struct process *process)
{
	struct pollfd end = {.fd = process->pidfd, .events = POLLIN};

	return process->pidfd < 0 || poll(&end, 1, 0) > 0;
}

/* Does a process that was let go wait again? An exec failed and another followed between two rounds. */
static bool waits_again(struct process *process)
{
	if (!process->let_go || __atomic_load_n(&process->shared->released, __ATOMIC_ACQUIRE))
		return false;
	process->let_go = false;
	return true;
}

/* To be called before a drain, which then reads all that an ended process has written. Its end is
 * reported after that drain. */
static void update_states(struct mematlas_collector *collector)
{
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->emitted_ended)
			continue;
		if (process_is_gone(process))
			process->dead = true;
		uint32_t state = __atomic_load_n(&process->shared->state, __ATOMIC_ACQUIRE);
		if (waits_again(process) || state == TRACE_RUNNING) /* an exec that failed */
			process->exiting = process->emitted_exiting = false;
		if (state == TRACE_EXITING)
			process->exiting = true;
	}
}

static void observe_all(struct mematlas_collector *collector, double now)
{
	for (uint32_t i = 0; i < collector->count; i++)
		if (collector->processes[i]->active && !collector->processes[i]->emitted_ended)
			process_observe(collector, collector->processes[i], now);
	looks_of_all(collector, now);
	struct pollfd end = {.fd = collector->watched, .events = POLLIN};
	if (collector->watched >= 0 && !collector->emitted_watched && poll(&end, 1, 0) > 0)
		collector->emitted_watched = event_push(collector, MEMATLAS_EVENT_WATCHED, -1);
}

/* Returns how many nanoseconds to sleep afterwards. */
static long run_round(struct mematlas_collector *collector)
{
	collector->round++;
	collector->growing = false;
	collector_heartbeat(collector);
	update_states(collector);
	double now = clock_monotonic_s();
	int error = collector_admit(collector);
	if (error)
		collector->error = error;
	if (collector->new_process || now >= collector->next_statuses) {
		collector_read_statuses(collector);
		collector->next_statuses = now + STATUSES_EVERY_S;
	}
	double fullest = collector_drain(collector);
	bool fresh = collector->new_process;
	collector_activate(collector);
	clones_expire(collector, now);
	observe_all(collector, now);
	if (fullest > 0.25 || fresh)
		return 0;
	if (collector->scan_now || fullest > 0.02)
		return BUSY_NS;
	if (collector->growing)
		return GROWING_NS;
	return fullest > 0 ? CALM_NS : IDLE_NS;
}

static nfds_t add_ends(const struct mematlas_collector *collector, struct pollfd *ends)
{
	nfds_t count = 0;

	for (uint32_t i = 0; i < collector->count; i++) {
		const struct process *process = collector->processes[i];
		if (!process->dead && !process->emitted_ended && process->pidfd >= 0)
			ends[count++] = (struct pollfd){.fd = process->pidfd, .events = POLLIN};
	}
	return count;
}

/* Sleeps until `ns` have passed, a process joins or ends; false: interrupted by a signal, or there is
 * something to read for the caller. */
static bool wait_ns(struct mematlas_collector *collector, long ns)
{
	CLEANUP_FREE struct pollfd *ends = malloc((collector->count + 3) * sizeof *ends);
	struct timespec time = {.tv_nsec = ns};
	int watched = collector->emitted_watched ? -1 : collector->watched; /* -1: not waited for */

	if (!ends)
		return true;
	ends[0] = (struct pollfd){.fd = collector->broker.arrival, .events = POLLIN};
	ends[1] = (struct pollfd){.fd = collector->wake, .events = POLLIN};
	ends[2] = (struct pollfd){.fd = watched, .events = POLLIN};
	int ready = ppoll(ends, 3 + add_ends(collector, ends + 3), &time, NULL);
	if (ready > 0 && ends[0].revents)
		collector->scan_now = true;
	if (ready > 0 && ends[1].revents)
		return false;
	return ready >= 0 || errno != EINTR;
}

int mematlas_collector_read_rings(struct mematlas_collector *collector)
{
	collector_heartbeat(collector);
	collector_drain(collector);
	return collector->error;
}

int mematlas_collector_poll(struct mematlas_collector *collector, int timeout_ms,
			    struct mematlas_event *event)
{
	double end = clock_monotonic_s() + timeout_ms * 1e-3;

	*event = (struct mematlas_event){MEMATLAS_EVENT_NONE, -1};
	look_ends(collector, clock_monotonic_s());
	if (event_pop(collector, event))
		return 1;
	for (;;) {
		long sleep = run_round(collector);
		if (collector->error)
			return collector->error;
		if (event_pop(collector, event))
			return 1;
		double left = end - clock_monotonic_s();
		if (left <= 0)
			return 0;
		if ((double)sleep > left * 1e9)
			sleep = (long)(left * 1e9);
		if (sleep > 0 && !wait_ns(collector, sleep))
			return 0;
	}
}
