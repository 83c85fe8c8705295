/* Takes over what the broker's thread has queued: process images that joined, and their perf events. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../array.h"
#include "collector.h"

#define START_S 2.0 /* in which a process that joined has begun to record */

static struct process *find_image(const struct mematlas_collector *collector, uint64_t image)
{
	for (uint32_t i = collector->count; i-- > 0;)
		if (collector->processes[i]->image == image)
			return collector->processes[i];
	for (uint32_t i = 0; i < collector->pending_count; i++)
		if (collector->pending[i]->image == image)
			return collector->pending[i];
	return NULL;
}

static bool hold_event(struct process *process, int fd)
{
	for (int i = 0; i < FAULT_EVENTS; i++) {
		if (process->fault_events[i] >= 0)
			continue;
		process->fault_events[i] = fd;
		return true;
	}
	return false;
}

static void hold_events(const struct mematlas_collector *collector,
			const struct held_events *events)
{
	struct process *process = find_image(collector, events->image);
	bool lives = process && !process->emitted_ended;

	for (int i = 0; i < 2; i++)
		if (events->fds[i] >= 0 && !(lives && hold_event(process, events->fds[i])))
			close(events->fds[i]);
}

/* A process that joins anew has left its image before, started or not. */
static void drop_pending(struct mematlas_collector *collector, int pid)
{
	for (uint32_t i = 0; i < collector->pending_count; i++)
		if (collector->pending[i]->pid == pid)
			collector->pending[i]->dead = collector->pending[i]->replaced = true;
}

static bool take_arrivals(struct mematlas_collector *collector)
{
	struct broker *broker = &collector->broker;
	eventfd_t count;
	bool enough = true;

	eventfd_read(broker->arrival, &count);
	pthread_mutex_lock(&broker->lock);
	for (uint32_t i = 0; i < broker->arrived_count; i++) {
		struct process *process = broker->arrived[i];
		drop_pending(collector, process->pid);
		enough = ARRAY_RESERVE(collector->pending, collector->pending_count,
				       collector->pending_capacity, 16u);
		if (!enough) {
			process_free(process);
			continue;
		}
		process->joined = clock_monotonic_s();
		collector->pending[collector->pending_count++] = process;
	}
	broker->arrived_count = 0;
	for (uint32_t i = 0; i < broker->events_count; i++)
		hold_events(collector, &broker->events[i]);
	broker->events_count = 0;
	pthread_mutex_unlock(&broker->lock);
	return enough;
}

enum progress { WAITING, STARTED, FAILED };

static enum progress look_at(const struct process *process)
{
	const struct trace_process *shared = process->shared;
	struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
	bool gone = process->dead || poll(&end, 1, 0) > 0;
	uint32_t state = __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE);

	if (state == TRACE_STARTING)
		return gone ? FAILED : WAITING;
	return shared->magic == TRACE_MAGIC && shared->version == TRACE_VERSION ? STARTED : FAILED;
}

/* Sets `scan_now` while one is about to start. */
static bool sort_pending(struct mematlas_collector *collector)
{
	double now = clock_monotonic_s();
	uint32_t kept = 0;
	bool enough = true;

	for (uint32_t i = 0; i < collector->pending_count; i++) {
		struct process *process = collector->pending[i];
		enum progress progress = look_at(process);
		if (progress == WAITING) {
			collector->scan_now |= now < process->joined + START_S;
			collector->pending[kept++] = process;
		} else if (progress == FAILED || !processes_add(collector, process)) {
			enough = enough && progress == FAILED;
			replace_image(collector, process); /* it ended before it could start */
			broker_forget(&collector->broker, process->image);
			process_free(process);
		}
	}
	collector->pending_count = kept;
	return enough;
}

int collector_admit(struct mematlas_collector *collector)
{
	collector->scan_now = false;
	bool taken = take_arrivals(collector);

	return sort_pending(collector) && taken ? 0 : -ENOMEM;
}
