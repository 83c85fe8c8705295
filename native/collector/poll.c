/* The loop: heartbeat, new files, drain, watch, sleep; back to the caller only with something to tell. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector.h"

#define SCAN_EVERY_S 0.02 /* where inotify is not to be had */
#define BUSY_NS 500000L
#define CALM_NS 10000000L
#define IDLE_NS 20000000L

/* Ends and exits noticed here are told only after the drain that follows: by then all the process
 * wrote before has been read. */
static void note_states(struct mematlas_collector *collector)
{
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->told_ended)
			continue;
		struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
		if (process->pidfd < 0 || poll(&end, 1, 0) > 0)
			process->dead = true;
		uint32_t state = __atomic_load_n(&process->shared->state, __ATOMIC_ACQUIRE);
		if (state == TRACE_EXITING)
			process->exiting = true;
		else if (state == TRACE_RUNNING) /* an exec that failed */
			process->exiting = process->told_exiting = false;
	}
}

static void observe_all(struct mematlas_collector *collector, double now)
{
	for (uint32_t i = 0; i < collector->count; i++)
		if (collector->processes[i]->active && !collector->processes[i]->told_ended)
			process_observe(collector, collector->processes[i], now);
	struct pollfd end = {.fd = collector->watched, .events = POLLIN};
	if (collector->watched >= 0 && !collector->told_watched && poll(&end, 1, 0) > 0)
		collector->told_watched = event_push(collector, MEMATLAS_EVENT_WATCHED, -1);
}

/* Has the session directory changed? Asked here too: a busy collector never naps. */
static bool has_news(const struct mematlas_collector *collector)
{
	struct pollfd news = {.fd = collector->inotify, .events = POLLIN};

	return collector->scan_now || poll(&news, 1, 0) > 0;
}

/* One round; returns how long to sleep after it. */
static long run_round(struct mematlas_collector *collector)
{
	collector->round++;
	collector_heartbeat(collector);
	note_states(collector);
	double now = clock_monotonic_s();
	if (has_news(collector) || now >= collector->next_scan) {
		collector_ask_statuses(collector);
		int error = collector_scan(collector);
		if (error)
			collector->error = error;
		collector->next_scan = now + (collector->inotify < 0 ? SCAN_EVERY_S : 1.0);
	}
	double fullest = collector_drain(collector, false);
	bool fresh = collector->new_process;
	collector_activate(collector);
	clones_expire(collector, now);
	observe_all(collector, now);
	if (fullest > 0.25 || fresh)
		return 0;
	if (collector->scan_now || fullest > 0.02)
		return BUSY_NS;
	return fullest > 0 ? CALM_NS : IDLE_NS;
}

/* Sleeps until the time is over, a file appears, or somebody ends; false: a signal came. */
static bool nap(struct mematlas_collector *collector, long ns)
{
	struct pollfd *ends = malloc((collector->count + 2) * sizeof *ends);
	struct timespec time = {.tv_nsec = ns};
	nfds_t count = 0;

	if (!ends)
		return true;
	ends[count++] = (struct pollfd){.fd = collector->inotify, .events = POLLIN};
	if (!collector->told_watched)
		ends[count++] = (struct pollfd){.fd = collector->watched, .events = POLLIN};
	for (uint32_t i = 0; i < collector->count; i++)
		if (!collector->processes[i]->dead && !collector->processes[i]->told_ended &&
		    collector->processes[i]->pidfd >= 0)
			ends[count++] = (struct pollfd){collector->processes[i]->pidfd, POLLIN, 0};
	int ready = ppoll(ends, count, &time, NULL);
	if (ready > 0 && ends[0].revents)
		collector->scan_now = true;
	free(ends);
	return ready >= 0 || errno != EINTR;
}

int mematlas_collector_poll(struct mematlas_collector *collector, int timeout_ms,
			    struct mematlas_event *event)
{
	double end = clock_monotonic_s() + timeout_ms * 1e-3;

	*event = (struct mematlas_event){MEMATLAS_EVENT_NONE, -1};
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
		if (sleep > 0 && !nap(collector, sleep))
			return 0;
	}
}
