/* The session: its directory, its control file, and what is freed at its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cleanup.h"
#include "collector.h"

static void fill_control(struct trace_control *control,
			 const struct mematlas_trace_settings *settings)
{
	*control = (struct trace_control){
		.magic = TRACE_MAGIC,
		.version = TRACE_VERSION,
		.mode = settings->exact ? TRACE_EXACT : TRACE_SAMPLED,
		.clock = clock_is_steady() ? TRACE_CLOCK_TSC : TRACE_CLOCK_COUNTER,
		.ring_bytes = settings->ring_bytes,
		.sample_bytes = settings->exact ? 0 : settings->sample_bytes,
		.seed = settings->seed,
		.fault_period = settings->fault_period,
	};
	if (control->clock == TRACE_CLOCK_TSC)
		control->clock_base = clock_cycles();
}

/* Renamed when complete, so that no tracer reads half of it. */
static int make_control(struct mematlas_collector *collector)
{
	CLEANUP_CLOSE int fd = openat(collector->dirfd, TRACE_CONTROL_FILE ".new",
				      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, TRACE_HEADER_BYTES) < 0)
		return -errno;
	void *control = mmap(NULL, TRACE_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (control == MAP_FAILED)
		return -errno;
	collector->control = control;
	fill_control(control, &collector->settings);
	if (renameat(collector->dirfd, TRACE_CONTROL_FILE ".new", collector->dirfd,
		     TRACE_CONTROL_FILE) < 0)
		return -errno;
	return 0;
}

static bool settings_are_valid(const struct mematlas_trace_settings *settings)
{
	uint32_t bytes = settings->ring_bytes;

	return bytes >= TRACE_MIN_RING_DATA && (bytes & (bytes - 1)) == 0 &&
	       (settings->exact || settings->sample_bytes > 0) && settings->interval_s >= 0;
}

static int open_session(struct mematlas_collector *collector)
{
	collector->dirfd = open(collector->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (collector->dirfd < 0)
		return -errno;
	collector->started = clock_monotonic_s();
	collector->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (collector->inotify >= 0)
		inotify_add_watch(collector->inotify, collector->directory,
				  IN_CREATE | IN_ATTRIB | IN_MOVED_TO);
	return make_control(collector);
}

int mematlas_collector_create(const char *directory, const struct mematlas_trace_settings *settings,
			      struct mematlas_collector **ret)
{
	struct mematlas_collector *collector = calloc(1, sizeof *collector);

	*ret = NULL;
	if (!collector)
		return -ENOMEM;
	collector->dirfd = collector->inotify = collector->watched = -1;
	collector->settings = *settings;
	collector->scan_now = true;
	int error = -EINVAL;
	if (settings_are_valid(settings) && strlen(directory) < sizeof collector->directory) {
		strcpy(collector->directory, directory);
		error = open_session(collector);
	}
	if (error) {
		mematlas_collector_destroy(collector);
		return error;
	}
	*ret = collector;
	return 0;
}

double mematlas_collector_now(const struct mematlas_collector *collector)
{
	return clock_monotonic_s() - collector->started;
}

int mematlas_collector_stop(struct mematlas_collector *collector)
{
	__atomic_store_n(&collector->control->off, 1, __ATOMIC_SEQ_CST);
	return 0;
}

int mematlas_collector_watch(struct mematlas_collector *collector, int pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	if (collector->watched >= 0)
		close(collector->watched);
	collector->watched = fd;
	collector->emitted_watched = false;
	return 0;
}

void mematlas_collector_destroy(struct mematlas_collector *collector)
{
	if (!collector)
		return;
	for (uint32_t i = 0; i < collector->count; i++)
		process_free(collector->processes[i]);
	for (uint32_t i = 0; i < collector->clone_count; i++)
		state_free(&collector->clones[i].state);
	if (collector->control)
		munmap(collector->control, TRACE_HEADER_BYTES);
	if (collector->dirfd >= 0)
		close(collector->dirfd);
	if (collector->inotify >= 0)
		close(collector->inotify);
	if (collector->watched >= 0)
		close(collector->watched);
	free(collector->processes);
	free(collector->rows);
	free(collector->age_cells);
	free(collector->parts);
	free(collector->touched.items);
	free(collector->touched.table);
	free(collector);
}
