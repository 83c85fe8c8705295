/* Stops all threads of a process, and lets them go on. */
#define _GNU_SOURCE
#include "stop.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../array.h"
#include "../cleanup.h"
#include "../monotonic.h"

#define FIRST_NAP_NS 5000L
#define LAST_NAP_NS 300000L
#define MAX_PASSES 1000
#define SLEEP_S 0.02 /* a thread in uninterruptible sleep is not waited for longer */

/* The state letter of a thread: R, S, D, Z, ...; 0: it is gone. */
static char state_of(int pid, int tid)
{
	char path[64], line[512];

	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	char *end = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	return end && end[1] == ' ' ? end[2] : 0;
}

static bool is_dead(char state)
{
	return !state || state == 'Z' || state == 'X';
}

static bool is_known(const struct stop *stop, int tid)
{
	for (uint32_t i = 0; i < stop->count; i++)
		if (stop->threads[i].tid == tid)
			return true;
	return false;
}

static int add_thread(struct stop *stop, int tid)
{
	if (!ARRAY_RESERVE(stop->threads, stop->count, stop->capacity, 64))
		return -ENOMEM;
	stop->threads[stop->count++] =
		(struct mematlas_image_thread){.tid = tid, .system_call = -1};
	return 0;
}

/* Seizes one thread, which does not stop it. A thread that has ended is no failure. */
static int seize(struct stop *stop, int tid)
{
	if (is_known(stop, tid))
		return 0;
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0) {
		int error = errno;
		return is_dead(state_of(stop->pid, tid)) ? 0 : -error;
	}
	int error = add_thread(stop, tid);
	return error ? error : 1;
}

/* Seizes the threads that are not yet. Returns their number. */
static int seize_new(struct stop *stop)
{
	char path[32];
	struct dirent *entry;
	int found = 0;

	snprintf(path, sizeof path, "/proc/%d/task", stop->pid);
	CLEANUP_DIRECTORY DIR *directory = opendir(path);
	if (!directory)
		return errno == ENOENT ? -ESRCH : -errno;
	while ((entry = readdir(directory))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		int got = seize(stop, atoi(entry->d_name));
		if (got < 0)
			return got;
		found += got;
	}
	return found;
}

/* What a status of wait(2) means for a thread that is to stop. */
enum outcome { RUNS_ON, HAS_STOPPED, HAS_ENDED };

/* A signal that stopped the thread on its way is delivered, as without us. */
static enum outcome judge(struct mematlas_image_thread *thread, int status)
{
	if (!WIFSTOPPED(status))
		return HAS_ENDED;
	if (status >> 16) { /* PTRACE_EVENT_STOP */
		thread->stopped = true;
		thread->group_stopped = WSTOPSIG(status) != SIGTRAP;
		return HAS_STOPPED;
	}
	ptrace(PTRACE_CONT, thread->tid, NULL, (void *)(long)WSTOPSIG(status));
	return RUNS_ON;
}

static bool sleeps_on(const struct stop *stop, int tid, double since_s)
{
	return clock_monotonic_s() - since_s > SLEEP_S && state_of(stop->pid, tid) == 'D';
}

/* A thread in uninterruptible sleep counts as stopped: the kernel stops it before it runs code of the
 * program. */
static enum outcome look(const struct stop *stop, struct mematlas_image_thread *thread,
			 double since_s)
{
	int status;
	pid_t got = waitpid(thread->tid, &status, __WALL | WNOHANG);

	if (got > 0)
		return judge(thread, status);
	if (got < 0 && errno != EINTR)
		return HAS_ENDED;
	return sleeps_on(stop, thread->tid, since_s) ? HAS_STOPPED : RUNS_ON;
}

/* -ESRCH: the thread has ended. -ETIME */
static int wait_for(const struct stop *stop, struct mematlas_image_thread *thread, double end_s)
{
	struct timespec nap = {.tv_nsec = FIRST_NAP_NS};
	double since_s = clock_monotonic_s();

	for (;;) {
		enum outcome outcome = look(stop, thread, since_s);
		if (outcome != RUNS_ON)
			return outcome == HAS_STOPPED ? 0 : -ESRCH;
		if (clock_monotonic_s() > end_s)
			return -ETIME;
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < LAST_NAP_NS)
			nap.tv_nsec += nap.tv_nsec / 4;
	}
}

/* Waits for threads[first ..), and drops those that have ended. */
static int wait_for_all(struct stop *stop, uint32_t first, double end_s)
{
	uint32_t kept = first;

	for (uint32_t i = first; i < stop->count; i++) {
		int error = wait_for(stop, &stop->threads[i], end_s);
		if (error == -ETIME)
			return error;
		if (!error)
			stop->threads[kept++] = stop->threads[i];
	}
	stop->count = kept;
	return 0;
}

uint64_t stop_count_threads(int pid)
{
	struct stat status;
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	return stat(path, &status) < 0 ? 0 : (uint64_t)status.st_nlink - 2;
}

/* A listing may miss a thread while others end. The main thread stays, dead, while others live. */
static bool has_all(const struct stop *stop)
{
	uint64_t threads = stop_count_threads(stop->pid);

	return threads == stop->count ||
	       (threads == stop->count + 1 && is_dead(state_of(stop->pid, stop->pid)));
}

/* A thread that was started before its parent stopped is in a later listing. */
static int stop_new(struct stop *stop, double end_s, int *ret)
{
	uint32_t first = stop->count;

	*ret = seize_new(stop);
	if (*ret < 0)
		return *ret;
	if (!stop->began_s)
		stop->began_s = clock_monotonic_s();
	for (uint32_t i = first; i < stop->count; i++)
		ptrace(PTRACE_INTERRUPT, stop->threads[i].tid, NULL, NULL);
	return wait_for_all(stop, first, end_s);
}

static int stop_each(struct stop *stop, double end_s)
{
	int found, error;

	for (int pass = 0; pass < MAX_PASSES; pass++) {
		error = stop_new(stop, end_s, &found);
		if (error < 0)
			return error;
		if (!found && has_all(stop))
			return stop->count ? 0 : -ESRCH;
		if (clock_monotonic_s() > end_s)
			return -ETIME;
	}
	return -ETIME;
}

int stop_all(struct stop *stop, int pid, double timeout_s)
{
	*stop = (struct stop){.pid = pid};
	int error = stop_each(stop, clock_monotonic_s() + timeout_s);

	for (uint32_t i = 0; !error && i < stop->count; i++)
		error = stop_read_registers(&stop->threads[i]);
	if (error)
		stop_release(stop);
	return error;
}

/* A thread that was not seen to stop may have by now: a signal that stopped it on its way is delivered. One that
 * runs cannot be detached: the kernel does it at the end of the calling thread, and keeps the signal. */
static void release(const struct mematlas_image_thread *thread)
{
	long deliver = 0;
	int status;

	if (!thread->stopped) {
		if (waitpid(thread->tid, &status, __WALL | WNOHANG) <= 0 || !WIFSTOPPED(status))
			return;
		deliver = status >> 16 ? 0 : WSTOPSIG(status);
	}
	ptrace(PTRACE_DETACH, thread->tid, NULL, (void *)deliver);
}

double stop_release(struct stop *stop)
{
	double began_s = stop->began_s;

	for (uint32_t i = 0; i < stop->count; i++)
		release(&stop->threads[i]);
	free(stop->threads);
	*stop = (struct stop){.pid = stop->pid};
	return began_s ? clock_monotonic_s() - began_s : 0;
}
