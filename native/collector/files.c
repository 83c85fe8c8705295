/* Finds process files in the session directory and maps them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../cleanup.h"
#include "collector.h"

/* PID.N */
static bool is_process_name(const char *name)
{
	size_t pid = strspn(name, "0123456789");

	if (pid == 0 || pid > 10 || name[pid] != '.')
		return false;
	size_t image = strspn(name + pid + 1, "0123456789");
	return image > 0 && image < 10 && name[pid + 1 + image] == 0;
}

static bool is_seen(const struct mematlas_collector *collector, const char *name)
{
	for (uint32_t i = collector->count; i-- > 0;)
		if (strcmp(collector->processes[i]->name, name) == 0)
			return true;
	return false;
}

static size_t file_size(const struct mematlas_collector *collector, uint32_t rings)
{
	return TRACE_DATA_OFFSET + (size_t)rings * collector->settings.ring_bytes;
}

/* Sets `refused`, so that the process does not wait for the collector, and leaves the reason for
 * the user. */
static void refuse(const struct mematlas_collector *collector, const char *name,
		   struct trace_process *shared)
{
	char why[NAME_MAX + 8];

	__atomic_store_n(&shared->refused, 1, __ATOMIC_RELEASE);
	snprintf(why, sizeof why, "%s.why", name);
	symlinkat("the collector's address space limit (RLIMIT_AS) left no space for its records",
		  collector->dirfd, why);
}

/* Maps as many rings as the process has; its header has that number. */
static int map_rings(const struct mematlas_collector *collector, const char *name, int fd,
		     struct process *process)
{
	struct trace_process *first =
		mmap(NULL, TRACE_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (first == MAP_FAILED)
		return -errno;
	bool ready = __atomic_load_n(&first->state, __ATOMIC_ACQUIRE) != TRACE_STARTING;
	uint32_t rings = first->most_rings < TRACE_MAX_RINGS ? first->most_rings : TRACE_MAX_RINGS;
	void *map = MAP_FAILED;
	if (ready)
		map = mmap(NULL, file_size(collector, rings), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_NORESERVE, fd, 0);
	int error = !ready ? -EAGAIN : map == MAP_FAILED ? -errno : 0;
	if (ready && error)
		refuse(collector, name, first);
	munmap(first, TRACE_HEADER_BYTES);
	process->shared = error ? NULL : map;
	process->mapped = error ? 0 : file_size(collector, rings);
	process->most_rings = rings;
	return error;
}

static int map_file(struct mematlas_collector *collector, const char *name, struct process *process)
{
	size_t size = file_size(collector, TRACE_MAX_RINGS);
	struct stat stat;
	CLEANUP_CLOSE int fd = openat(collector->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode) || (size_t)stat.st_size < size)
		return -EAGAIN; /* the process is still creating it */
	return map_rings(collector, name, fd, process);
}

/* For a process whose RLIMIT_FSIZE forbids it to create a file of its own. */
static void preallocate_file(struct mematlas_collector *collector)
{
	if (faccessat(collector->dirfd, TRACE_PREALLOCATED_FILE, F_OK, 0) == 0)
		return;
	int fd = openat(collector->dirfd, TRACE_PREALLOCATED_FILE ".new",
			O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (ftruncate(fd, (off_t)file_size(collector, TRACE_MAX_RINGS)) == 0)
		renameat(collector->dirfd, TRACE_PREALLOCATED_FILE ".new", collector->dirfd,
			 TRACE_PREALLOCATED_FILE);
	close(fd);
}

static bool is_ready(const struct process *process)
{
	const struct trace_process *shared = process->shared;

	return __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) != TRACE_STARTING &&
	       shared->magic == TRACE_MAGIC && shared->version == TRACE_VERSION && shared->pid > 0;
}

static void open_proc(struct process *process)
{
	char path[32];

	process->pidfd = (int)syscall(SYS_pidfd_open, process->shared->pid, 0);
	if (process->pidfd < 0)
		return;
	snprintf(path, sizeof path, "/proc/%d", process->shared->pid);
	process->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (process->dir < 0)
		return;
	process->statm = openat(process->dir, "statm", O_RDONLY | O_CLOEXEC);
	process->stat = openat(process->dir, "stat", O_RDONLY | O_CLOEXEC);
}

static int add_file(struct mematlas_collector *collector, const char *name)
{
	struct process *process = calloc(1, sizeof *process);

	if (!process)
		return -ENOMEM;
	process->pidfd = process->dir = process->statm = process->stat = process->parent = -1;
	process->status = -1;
	process->fault_events[0] = process->fault_events[1] = -1;
	strcpy(process->name, name);
	int error = map_file(collector, name, process);
	if (!error && !is_ready(process))
		error = -EAGAIN;
	if (!error) {
		open_proc(process);
		if (processes_add(collector, process))
			return 0;
		error = -ENOMEM;
	}
	process_free(process);
	return error;
}

static void discard_events(int inotify)
{
	char events[4096];

	while (inotify >= 0 && read(inotify, events, sizeof events) > 0)
		;
}

int collector_scan(struct mematlas_collector *collector)
{
	int fd = openat(collector->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (!directory) {
		int error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	discard_events(collector->inotify);
	collector->scan_now = false;
	preallocate_file(collector);
	uint32_t first = collector->count;
	for (struct dirent *entry; (entry = readdir(directory));) {
		if (!is_process_name(entry->d_name) || is_seen(collector, entry->d_name))
			continue;
		if (add_file(collector, entry->d_name) == -EAGAIN)
			collector->scan_now = true;
	}
	closedir(directory);
	processes_sort(collector, first);
	return 0;
}
