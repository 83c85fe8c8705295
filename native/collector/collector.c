/* The session: its control memory, and what is freed at its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cleanup.h"
#include "collector.h"

/* Before any process can get the descriptor. */
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

_Static_assert(sizeof(pthread_mutex_t) <= TRACE_MUTEX_WORDS * sizeof(uint32_t), "life holds one");

/* The mutex that tells tracers, by the kernel's word, that this thread lives. Nobody waits for it. */
static int begin_life(struct trace_control *control)
{
	pthread_mutex_t *life = (pthread_mutex_t *)control->life;
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	int error = pthread_mutex_init(life, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return error ? -error : -pthread_mutex_lock(life);
}

/* False: another thread holds it and is linked to it, so it must stay mapped. */
static bool end_life(struct trace_control *control)
{
	return pthread_mutex_unlock((pthread_mutex_t *)control->life) == 0;
}

/* No process that gets the descriptor can write to the memory, or resize it. Before Linux 5.1 there is no
 * seal for the former, and a descriptor that is not open for writing has to do. Returns a descriptor. */
static int forbid_writing(int fd)
{
	char path[32];

	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	fchmod(fd, 0400);
	int reopened = open(path, O_RDONLY | O_CLOEXEC);
	int error = reopened < 0 ? -errno : 0;
	close(fd);
	return error ? error : reopened;
}

/* Maps memory of a page's size or more for both sides. Returns its descriptor. */
static int map_shared(const struct mematlas_collector *collector, void **ret)
{
	int fd = sealed_memory(&collector->broker, TRACE_HEADER_BYTES);

	if (fd < 0)
		return fd;
	void *map = mmap(NULL, TRACE_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int error = -errno;
		close(fd);
		return error;
	}
	*ret = map;
	return fd;
}

static int make_control(struct mematlas_collector *collector)
{
	void *control = NULL;
	int fd = map_shared(collector, &control);

	if (fd < 0)
		return fd;
	collector->control = control;
	fill_control(control, &collector->settings);
	int error = begin_life(control);
	if (error) {
		close(fd);
		return error;
	}
	return forbid_writing(fd);
}

/* What all have to write lies apart from what they may only read. */
static int make_common(struct mematlas_collector *collector)
{
	void *common = NULL;
	int fd = map_shared(collector, &common);

	collector->common = common;
	return fd;
}

/* Ring sizes are powers of two, because positions wrap by a mask. */
static bool settings_are_valid(const struct mematlas_trace_settings *settings)
{
	uint32_t bytes = settings->ring_bytes;

	return bytes >= TRACE_MIN_RING_DATA && (bytes & (bytes - 1)) == 0 &&
	       (settings->exact || settings->sample_bytes > 0) && settings->interval_s >= 0;
}

static void format_session(struct mematlas_collector *collector)
{
	const struct broker *broker = &collector->broker;

	snprintf(collector->session, sizeof collector->session, "%s:%016llx%016llx", broker->name,
		 (unsigned long long)broker->token[0], (unsigned long long)broker->token[1]);
}

/* On an error mematlas_collector_destroy() undoes what was done. */
static int open_session(struct mematlas_collector *collector, const char *library)
{
	struct broker *broker = &collector->broker;

	collector->started = clock_monotonic_s();
	int error = broker_open(broker, collector->settings.ring_bytes, library);
	if (error)
		return error;
	broker->control = make_control(collector);
	if (broker->control < 0)
		return broker->control;
	broker->common = make_common(collector);
	if (broker->common < 0)
		return broker->common;
	error = bell_start(&collector->bell, &collector->common->bell, broker->arrival);
	if (error)
		return error;
	format_session(collector);
	return broker_start(broker);
}

int mematlas_collector_create(const struct mematlas_trace_settings *settings, const char *library,
			      struct mematlas_collector **ret)
{
	struct mematlas_collector *collector = calloc(1, sizeof *collector);

	*ret = NULL;
	if (!collector)
		return -ENOMEM;
	collector->watched = collector->wake = -1;
	collector->settings = *settings;
	int error = settings_are_valid(settings) ? open_session(collector, library) : -EINVAL;
	if (error) {
		mematlas_collector_destroy(collector);
		return error;
	}
	*ret = collector;
	return 0;
}

const char *mematlas_collector_session(const struct mematlas_collector *collector)
{
	return collector->session;
}

int mematlas_collector_adopt(struct mematlas_collector *collector, int fd)
{
	return broker_adopt(&collector->broker, fd);
}

int64_t mematlas_collector_refusals(struct mematlas_collector *collector, uint64_t from,
				    struct mematlas_refusal *rows, uint64_t capacity)
{
	struct broker *broker = &collector->broker;
	uint64_t count = 0;

	pthread_mutex_lock(&broker->lock);
	for (; count < capacity && from + count < broker->refusal_count; count++) {
		const struct refusal *refusal = &broker->refusals[from + count];
		rows[count].pid = refusal->pid;
		memcpy(rows[count].reason, refusal->reason, sizeof rows[count].reason);
	}
	pthread_mutex_unlock(&broker->lock);
	return (int64_t)count;
}

double mematlas_collector_now(const struct mematlas_collector *collector)
{
	return clock_monotonic_s() - collector->started;
}

void mematlas_collector_wake_by(struct mematlas_collector *collector, int fd)
{
	collector->wake = fd;
}

/* The traced processes read `off` and record nothing more; what is in their rings can still be read. */
int mematlas_collector_stop(struct mematlas_collector *collector)
{
	__atomic_store_n(&collector->control->off, 1, __ATOMIC_SEQ_CST);
	return 0;
}

/* A descriptor of the process, not its PID, which may be reused. It replaces the one watched
 * before. */
int mematlas_collector_watch(struct mematlas_collector *collector, int pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	if (collector->watched >= 0)
		close(collector->watched);
	collector->watched = fd;
	collector->emitted_watched = false;
	pthread_mutex_lock(&collector->broker.lock);
	collector->broker.root = pid;
	pthread_mutex_unlock(&collector->broker.lock);
	return 0;
}

void mematlas_collector_admit(struct mematlas_collector *collector, int pid)
{
	pthread_mutex_lock(&collector->broker.lock);
	collector->broker.entered = pid;
	pthread_mutex_unlock(&collector->broker.lock);
}

/* The broker first: its thread may be adding a process. */
void mematlas_collector_destroy(struct mematlas_collector *collector)
{
	if (!collector)
		return;
	bell_stop(&collector->bell); /* before the broker closes what it writes to */
	broker_close(&collector->broker);
	for (uint32_t i = 0; i < collector->pending_count; i++)
		process_free(collector->pending[i]);
	for (uint32_t i = 0; i < collector->count; i++)
		process_free(collector->processes[i]);
	for (uint32_t i = 0; i < collector->clone_count; i++)
		state_free(&collector->clones[i].state);
	if (collector->control && end_life(collector->control))
		munmap(collector->control, TRACE_HEADER_BYTES);
	if (collector->common)
		munmap(collector->common, TRACE_HEADER_BYTES);
	if (collector->watched >= 0)
		close(collector->watched);
	free(collector->processes);
	free(collector->pending);
	free(collector->rows);
	free(collector->age_cells);
	free(collector->parts);
	free(collector->touched.items);
	free(collector->touched.table);
	free(collector);
}
