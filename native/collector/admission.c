/* Lets a process image into the session: checks who it is, and makes its memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "collector.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif

#define MAX_ANCESTORS 64
#define MAX_IMAGES (1u << 20)
#define MAX_FOREIGN_IMAGES (1u << 16) /* of one user other than the collector's */

/* Reads a line of /proc/PID/status into `value`. */
static bool read_status_line(int proc, const char *name, char *value, size_t size)
{
	char text[4096], sought[32];
	CLEANUP_CLOSE int fd = openat(proc, "status", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (length <= 0)
		return false;
	text[length] = 0;
	snprintf(sought, sizeof sought, "\n%s:", name);
	const char *line = strstr(text, sought);
	if (!line)
		return false;
	line += strlen(sought);
	snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
	return true;
}

static int open_proc(pid_t pid)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d", pid);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static pid_t parent_of(int proc)
{
	char value[64];

	return read_status_line(proc, "PPid", value, sizeof value) ? (pid_t)atoi(value) : 0;
}

/* The PID in the innermost namespace of the process, which is the last of the line. */
static pid_t inner_pid_of(int proc, pid_t pid)
{
	char value[256];

	if (!read_status_line(proc, "NSpid", value, sizeof value))
		return pid;
	const char *last = strrchr(value, '\t');
	return last ? (pid_t)atoi(last + 1) : pid;
}

static bool is_traced_pid(const struct broker *broker, pid_t pid)
{
	for (uint32_t i = broker->image_count; i-- > 0;)
		if (broker->images[i].pid == pid)
			return true;
	return false;
}

static bool is_traced_user(const struct broker *broker, uid_t uid)
{
	for (uint32_t i = 0; i < broker->image_count; i++)
		if (broker->images[i].uid == uid)
			return true;
	return false;
}

static bool descends(const struct broker *broker, pid_t pid)
{
	for (int i = 0; i < MAX_ANCESTORS && pid > 0; i++) {
		if (pid == broker->root || pid == broker->entered || pid == getpid() ||
		    is_traced_pid(broker, pid))
			return true;
		CLEANUP_CLOSE int proc = open_proc(pid);
		pid = proc < 0 ? 0 : parent_of(proc);
	}
	return false;
}

static uint32_t count_images(const struct broker *broker, uid_t uid)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < broker->image_count; i++)
		count += broker->images[i].uid == uid;
	return count;
}

/* The token may leak, in a log of the environment for example, so it alone does not let a stranger in. A
 * daemon has no traced ancestor left, but a user that the session knows. */
static int check_sender(const struct broker *broker, const struct sender *sender)
{
	if (broker->image_count >= MAX_IMAGES)
		return -ENOSPC;
	if (sender->uid != geteuid() && count_images(broker, sender->uid) >= MAX_FOREIGN_IMAGES)
		return -ENOSPC;
	if (sender->uid == geteuid() || is_traced_user(broker, sender->uid) ||
	    descends(broker, sender->pid))
		return 0;
	return -EACCES;
}

/* A child may claim the memory that its parent had at the fork, and nobody else's. */
static bool is_fork_of(const struct broker *broker, const struct process *process, uint64_t image)
{
	const struct image *parent = broker_image(broker, image);

	return parent && (parent->pid == process->parent_pid || parent->uid == process->uid);
}

static size_t memory_size(uint32_t rings, uint32_t ring_bytes)
{
	return TRACE_DATA_OFFSET + (size_t)rings * ring_bytes;
}

/* RLIMIT_FSIZE holds for memfds as well. */
static uint32_t choose_rings(uint32_t wanted, uint32_t ring_bytes)
{
	struct rlimit limit;
	uint64_t most = wanted < TRACE_MAX_RINGS ? wanted : TRACE_MAX_RINGS;

	if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return (uint32_t)most;
	if (limit.rlim_cur <= memory_size(1, ring_bytes))
		return 0;
	uint64_t fit = (limit.rlim_cur - TRACE_DATA_OFFSET) / ring_bytes;
	return (uint32_t)(fit < most ? fit : most);
}

int sealed_memory(const struct broker *broker, size_t size)
{
	int fd = memfd_create(broker->name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(broker->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static int map_memory(const struct broker *broker, struct process *process, uint32_t rings)
{
	size_t size = memory_size(rings, broker->ring_bytes);
	int fd = sealed_memory(broker, size);
	struct stat stat;

	if (fd < 0)
		return fd;
	void *map = MAP_FAILED;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0 && fstat(fd, &stat) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		int error = -errno;
		close(fd);
		return error;
	}
	process->inode = stat.st_ino;
	process->shared = map;
	process->mapped = size;
	process->most_rings = rings;
	return fd;
}

/* The pidfd tells whether the directory is still that process's. */
static int open_process(struct process *process, const struct sender *sender)
{
	process->pid = sender->pid;
	process->uid = sender->uid;
	process->pidfd = fcntl(sender->pidfd, F_DUPFD_CLOEXEC, 0);
	if (process->pidfd < 0)
		return -errno;
	process->dir = open_proc(sender->pid);
	struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
	if (poll(&end, 1, 0) != 0)
		return -ESRCH;
	process->inner_pid = process->pid;
	if (process->dir < 0)
		return 0;
	process->parent_pid = parent_of(process->dir);
	process->inner_pid = inner_pid_of(process->dir, process->pid);
	process->statm = openat(process->dir, "statm", O_RDONLY | O_CLOEXEC);
	process->stat = openat(process->dir, "stat", O_RDONLY | O_CLOEXEC);
	return 0;
}

static struct process *make_process(void)
{
	struct process *process = calloc(1, sizeof *process);

	if (!process)
		return NULL;
	process->pidfd = process->dir = process->statm = process->stat = process->parent = -1;
	process->status = -1;
	for (int i = 0; i < FAULT_EVENTS; i++)
		process->fault_events[i] = -1;
	return process;
}

/* Under the lock. The collector's thread may free the process once that is released. */
static int enrol(struct broker *broker, struct process *process,
		 const struct trace_request *request, struct trace_answer *ret)
{
	int error = check_sender(broker, &(struct sender){process->pid, process->uid, -1});

	if (error)
		return error;
	if (!ARRAY_RESERVE(broker->images, broker->image_count, broker->image_capacity, 64u) ||
	    !ARRAY_RESERVE(broker->arrived, broker->arrived_count, broker->arrived_capacity, 16u))
		return -ENOMEM;
	if (is_fork_of(broker, process, request->image)) {
		process->fork_image = request->image;
		process->fork_serial = request->fork_serial;
	}
	process->image = ++broker->newest_image;
	broker->images[broker->image_count++] =
		(struct image){process->image, process->pid, process->uid};
	broker->arrived[broker->arrived_count++] = process;
	ret->image = process->image;
	ret->rings = process->most_rings;
	return 0;
}

static int set_up(struct broker *broker, struct process *process, const struct sender *sender,
		  const struct trace_request *request, struct trace_answer *ret)
{
	uint32_t rings = choose_rings(request->rings, broker->ring_bytes);

	if (rings == 0)
		return -EFBIG;
	int error = open_process(process, sender);
	if (error)
		return error;
	int memory = map_memory(broker, process, rings);
	if (memory < 0)
		return memory;
	pthread_mutex_lock(&broker->lock);
	error = enrol(broker, process, request, ret);
	pthread_mutex_unlock(&broker->lock);
	if (!error)
		return memory;
	close(memory);
	return error;
}

int broker_admit(struct broker *broker, const struct sender *sender,
		 const struct trace_request *request, struct trace_answer *ret)
{
	struct process *process = make_process();

	if (!process)
		return -ENOMEM;
	int memory = set_up(broker, process, sender, request, ret);
	if (memory < 0)
		process_free(process);
	else
		eventfd_write(broker->arrival, 1);
	return memory;
}
