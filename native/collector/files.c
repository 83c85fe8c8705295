/* Process files: finding them, mapping them, and knowing when their process is gone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector.h"

/* PID.N and nothing else. */
static bool is_process_name(const char *name)
{
	size_t pid = strspn(name, "0123456789");

	if (pid == 0 || pid > 10 || name[pid] != '.')
		return false;
	size_t image = strspn(name + pid + 1, "0123456789");
	return image > 0 && image < 10 && name[pid + 1 + image] == 0;
}

static bool is_known(const struct mematlas_collector *collector, const char *name)
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

/* The whole of what the process has mapped; its first page tells how much that is. A process whose
 * file finds no room here is told, lest it wait for us, and so is the user. */
static int map_rings(const struct mematlas_collector *collector, const char *name, int fd,
		     struct process *process)
{
	char why[NAME_MAX + 8];
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
	if (ready && error) {
		__atomic_store_n(&first->refused, 1, __ATOMIC_RELEASE);
		snprintf(why, sizeof why, "%s.why", name);
		symlinkat("a limit on our own address space left no room for its records",
			  collector->dirfd, why);
	}
	munmap(first, TRACE_HEADER_BYTES);
	process->shared = error ? NULL : map;
	process->mapped = error ? 0 : file_size(collector, rings);
	process->most_rings = rings;
	return error;
}

static int map_file(struct mematlas_collector *collector, const char *name, struct process *process)
{
	size_t size = file_size(collector, TRACE_MAX_RINGS);
	struct stat facts;
	int fd = openat(collector->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	int error = fstat(fd, &facts) < 0 ? -errno : 0;
	if (!error && (!S_ISREG(facts.st_mode) || (size_t)facts.st_size < size))
		error = -EAGAIN; /* still being made */
	if (!error)
		error = map_rings(collector, name, fd, process);
	close(fd);
	return error;
}

/* Kept ready for processes under a limit on file sizes. */
void collector_make_spare(struct mematlas_collector *collector)
{
	if (faccessat(collector->dirfd, TRACE_PREALLOCATED_FILE, F_OK, 0) == 0)
		return;
	int fd = openat(collector->dirfd, TRACE_PREALLOCATED_FILE ".new",
			O_RDWR | O_CREAT | O_CLOEXEC, 0600);
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

static bool add_process(struct mematlas_collector *collector, struct process *process)
{
	if (collector->count == collector->room) {
		uint32_t room = collector->room ? collector->room * 2 : 16;
		struct process **larger = realloc(collector->processes, room * sizeof *larger);
		if (!larger)
			return false;
		collector->processes = larger;
		collector->room = room;
	}
	process->index = (int)collector->count;
	collector->processes[collector->count++] = process;
	collector->new_process = true;
	return true;
}

static int find_file(struct mematlas_collector *collector, const char *name)
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
		if (add_process(collector, process))
			return 0;
		error = -ENOMEM;
	}
	process_free(process);
	return error;
}

static int by_start(const void *a, const void *b)
{
	uint64_t one = (*(struct process *const *)a)->shared->start;
	uint64_t other = (*(struct process *const *)b)->shared->start;

	return (one > other) - (one < other);
}

/* Directories have no order; processes appear in that of their start. */
static void number(struct mematlas_collector *collector, uint32_t first)
{
	if (collector->count == first)
		return;
	qsort(collector->processes + first, collector->count - first, sizeof(struct process *),
	      by_start);
	for (uint32_t i = first; i < collector->count; i++)
		collector->processes[i]->index = (int)i;
}

/* Looks through the directory when told that it changed, and now and then anyway. */
int collector_scan(struct mematlas_collector *collector)
{
	char events[4096];
	int fd = openat(collector->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (!directory) {
		int error = -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	if (collector->inotify >= 0)
		while (read(collector->inotify, events, sizeof events) > 0)
			;
	collector->scan_now = false;
	collector_make_spare(collector);
	uint32_t first = collector->count;
	for (struct dirent *entry; (entry = readdir(directory));) {
		if (!is_process_name(entry->d_name) || is_known(collector, entry->d_name))
			continue;
		if (find_file(collector, entry->d_name) == -EAGAIN)
			collector->scan_now = true;
	}
	closedir(directory);
	number(collector, first);
	return 0;
}

static int find_traced(const struct mematlas_collector *collector, int pid,
		       const struct process *except)
{
	for (uint32_t i = collector->count; i-- > 0;) {
		const struct process *process = collector->processes[i];
		if (process != except && process->shared->pid == pid)
			return (int)i;
	}
	return -1;
}

/* An image that came by exec takes the place of the one before it. */
static void replace_image(struct mematlas_collector *collector, const struct process *process)
{
	for (uint32_t i = 0; i < (uint32_t)process->index; i++) {
		struct process *other = collector->processes[i];
		if (other->active && other->ending == MEMATLAS_RUNNING && !other->dead &&
		    other->shared->pid == process->shared->pid)
			process_end(collector, other, MEMATLAS_EXECED);
	}
}

/* A child may be found together with its parent, whose record of the fork is not read yet. */
static bool must_wait(const struct mematlas_collector *collector, const struct process *process)
{
	int parent = -1;

	if (process->shared->fork_serial)
		parent = find_traced(collector, process->shared->fork_parent, process);
	if (parent < 0)
		return false;
	const struct process *other = collector->processes[parent];
	return !other->active || other->activated_in == collector->round;
}

static bool set_up(struct mematlas_collector *collector, struct process *process)
{
	const struct trace_process *shared = process->shared;
	double mean = collector->settings.exact ? 0 : (double)collector->settings.sample_bytes;

	process->start_s = collector_when(collector, shared->start);
	process->parent = find_traced(collector, shared->parent_pid, process);
	if (process->parent < 0) { /* an exec: the parent is that of the image before */
		process->parent = find_traced(collector, shared->pid, process);
		if (process->parent > process->index)
			process->parent = -1; /* that is the image after */
	}
	process->inherited =
		clone_claim(collector, shared->fork_parent, shared->fork_serial, &process->state);
	if (!process->inherited && !state_init(&process->state, mean))
		return false;
	process->state.finds_owners = collector->settings.fault_period != 0;
	return true;
}

void collector_activate(struct mematlas_collector *collector)
{
	if (!collector->new_process)
		return;
	collector->new_process = false;
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->active)
			continue;
		if (must_wait(collector, process)) {
			collector->new_process = true;
			continue;
		}
		if (!collector_tell(collector, MEMATLAS_EVENT_PROCESS, (int)i)) {
			collector->new_process = true;
			return;
		}
		if (!set_up(collector, process)) {
			collector->error = -ENOMEM;
			return;
		}
		replace_image(collector, process);
		process->active = true;
		process->activated_in = collector->round;
	}
}

/* pidfd_info as of Linux 6.15, which tells the exit status to whoever holds a pidfd. */
struct exit_info {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t exit_code;
};
#define INFO_EXIT (1ull << 3)
#define GET_INFO _IOWR(0xFF, 11, struct exit_info)

void process_ask_status(struct process *process)
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
	process->end_s = collector_seconds() - collector->started;
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
	touches_free(process);
	free(process->timeline);
	free(process->seen_vmas);
	process->timeline = NULL;
	process->seen_vmas = NULL;
	process->timeline_count = process->timeline_room = 0;
	process->seen_count = process->seen_room = 0;
	state_free(&process->state);
}

/* Keeps what is said of an ended process, and nothing of what it held: builds start thousands. Its
 * file goes, and with it its name, which a later image of the same PID may take. */
int mematlas_collector_forget(struct mematlas_collector *collector, int index)
{
	struct process *process = collector_process(collector, index);
	if (!process)
		return -ESRCH;
	struct trace_process *kept = malloc(sizeof *kept);
	if (!process->told_ended || !process->mapped || !kept) {
		free(kept);
		return -EBUSY;
	}
	*kept = *process->shared;
	kept->rings = 0;
	unmap(process);
	process->shared = kept;
	process->mapped = 0;
	unlinkat(collector->dirfd, process->name, 0);
	process->name[0] = 0;
	free_rest(process);
	return 0;
}

/* The kernel tells how a process ended only once its parent has asked. */
void collector_ask_statuses(struct mematlas_collector *collector)
{
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->mapped || process->pidfd < 0)
			continue;
		process_ask_status(process);
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
