/* The end of a process: its exit status, and what is freed when. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector.h"

/* struct pidfd_info; Linux 6.15 added the exit status, which any holder of a pidfd may read. */
struct exit_info {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t exit_code;
};
#define INFO_EXIT (1ull << 3)
#define GET_INFO _IOWR(0xFF, 11, struct exit_info)

void process_read_status(struct process *process)
{
	struct exit_info info = {.mask = INFO_EXIT};

	if (process->ending == MEMATLAS_GONE && process->status < 0 && process->pidfd >= 0 &&
	    ioctl(process->pidfd, GET_INFO, &info) == 0 && info.mask & INFO_EXIT)
		process->status = info.exit_code;
}

void process_end(struct mematlas_collector *collector, struct process *process, int ending)
{
	if (process->ending != MEMATLAS_RUNNING)
		return;
	process->ending = ending;
	process->end_s = clock_monotonic_s() - collector->started;
	process->rss = 0;
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void free_rings(struct process *process)
{
	for (uint32_t i = 0; i < process->ring_count; i++) {
		free(process->rings[i].stacks);
		free(process->rings[i].codes);
		free(process->rings[i].natives);
		free(process->rings[i].pythons);
		free(process->rings[i].path);
		free(process->rings[i].loaded.items);
	}
	free(process->rings);
	process->rings = NULL;
	process->ring_count = 0;
}

static void unmap(struct process *process)
{
	if (process->mapped)
		munmap(process->shared, process->mapped);
	else
		free(process->shared);
	process->shared = NULL;
}

static void free_rest(struct process *process)
{
	close_if_open(&process->dir);
	close_if_open(&process->statm);
	close_if_open(&process->stat);
	free_rings(process);
	fault_sites_free(process);
	marks_free(process);
	bad_frees_free(process);
	free(process->timeline);
	free(process->seen_vmas);
	process->timeline = NULL;
	process->seen_vmas = NULL;
	process->timeline_count = process->timeline_capacity = 0;
	process->seen_count = process->seen_capacity = 0;
	state_free(&process->state);
}

/* A build starts thousands of processes, so only the description of an ended one is kept. */
int mematlas_collector_forget(struct mematlas_collector *collector, int index)
{
	struct process *process = process_at(collector, index);
	if (!process)
		return -ESRCH;
	struct trace_process *kept = malloc(sizeof *kept);
	if (!process->emitted_ended || !process->mapped || !kept) {
		free(kept);
		return -EBUSY;
	}
	*kept = *process->shared;
	kept->rings = 0;
	unmap(process);
	process->shared = kept;
	process->mapped = 0;
	free_rest(process);
	return 0;
}

/* The kernel reports an exit status only after the parent has reaped the process. */
void collector_read_statuses(struct mematlas_collector *collector)
{
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->mapped || process->pidfd < 0)
			continue;
		process_read_status(process);
		if (process->status >= 0 || process->ending == MEMATLAS_EXECED)
			close_if_open(&process->pidfd);
	}
}

void process_free(struct process *process)
{
	close_if_open(&process->pidfd);
	free_rest(process);
	if (process->shared)
		unmap(process);
	free(process);
}

int mematlas_collector_remove(struct mematlas_collector *collector, int index)
{
	struct process *process = process_at(collector, index);

	if (!process)
		return -ESRCH;
	if (!process->emitted_ended || process->mapped)
		return -EBUSY;
	processes_remove(collector, process);
	if (collector->looked_at == process)
		collector->looked_at = NULL;
	broker_forget(&collector->broker, process->image);
	process_free(process);
	return 0;
}
