/* Opens userfaultfd(2) in another process. The descriptor acts on the memory of the process that made the
 * call, in every process that holds it. Everything ends when the last copy of the descriptor is closed, that is,
 * at the end of this process. */
#define _GNU_SOURCE
#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../attach/remote.h"
#include "../cleanup.h"
#include "../proc/status.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define FEATURE_WP_ASYNC (1ull << 15) /* Linux 6.7 */
#define MOST_TRIES 8
#define STACK (512u << 10)
#define PIECE (8ull << 20)
#define SECCOMP_ALLOW 0x7fff0000
#define SECCOMP_LOG 0x7ffc0000

/* `ret` needs an entry in the shadow stack, which a tracer cannot make. */
static bool has_shadow_stack(int pid, int tid)
{
	char features[128];

	status_read(pid, tid, "x86_Thread_features:", features, sizeof features);
	return strstr(features, "shstk");
}

static bool is_allowed(int tid, int64_t number, const uint64_t *arguments)
{
	int64_t action = remote_filter_system_call(tid, number, arguments);

	return action >= 0 &&
	       ((action & 0xffff0000) == SECCOMP_ALLOW || (action & 0xffff0000) == SECCOMP_LOG);
}

static const uint64_t open_arguments[6] = {O_CLOEXEC | UFFD_USER_MODE_ONLY};

/* A filter may end the process for a call that it does not expect. */
static bool passes_seccomp(int pid, int tid)
{
	const uint64_t close_arguments[6] = {3}, none[6] = {0};
	char text[16];

	status_read(pid, tid, "Seccomp:", text, sizeof text);
	int mode = *text ? atoi(text) : -1;
	if (mode == 0)
		return true;
	return mode == 2 && is_allowed(tid, SYS_userfaultfd, open_arguments) &&
	       is_allowed(tid, SYS_close, close_arguments) &&
	       is_allowed(tid, SYS_rt_sigreturn, none);
}

/* Another thread may have put any file under the number, such as one whose ioctl() never returns. */
static bool is_userfault(int fd)
{
	static const char wanted[] = "anon_inode:[userfaultfd]";
	char path[32], name[sizeof wanted];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return readlink(path, name, sizeof name) == sizeof wanted - 1 &&
	       memcmp(name, wanted, sizeof wanted - 1) == 0;
}

static int take(int pid, int number)
{
	CLEANUP_CLOSE int process = (int)syscall(SYS_pidfd_open, pid, 0);
	int taken = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, number, 0);

	if (taken < 0)
		return -errno;
	if (is_userfault(taken))
		return taken;
	close(taken);
	return -EPERM;
}

static int open_there(int pid, struct detour *detour)
{
	int64_t number = detour_call(detour, SYS_userfaultfd, open_arguments);
	if (number < 0)
		return (int)number;
	const uint64_t arguments[6] = {(uint64_t)number};
	int taken = take(pid, (int)number);
	int64_t closed = detour_call(detour, SYS_close, arguments);
	if (closed < 0 && taken >= 0) {
		close(taken);
		return (int)closed;
	}
	return taken;
}

static int enable(int fd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC};

	if (ioctl(fd, UFFDIO_API, &api) == 0)
		return 0;
	return errno == EINVAL ? -ENOSYS : -errno; /* EINVAL: the kernel lacks the feature */
}

static int open_in_thread(const struct ground *ground, int tid, double timeout_s)
{
	struct detour *detour;

	if (has_shadow_stack(ground->pid, tid))
		return -EPERM;
	int error = detour_begin(ground, tid, timeout_s, &detour);
	if (error)
		return error;
	int fd = passes_seccomp(ground->pid, tid) ? open_there(ground->pid, detour) : -EPERM;
	detour_end(detour);
	return fd;
}

/* The first of a few threads that can be used. */
static int open_in_any(const struct ground *ground, double timeout_s)
{
	struct dirent *entry;
	char path[32];
	int fd = -ESRCH, tried = 0;

	snprintf(path, sizeof path, "/proc/%d/task", ground->pid);
	CLEANUP_DIRECTORY DIR *directory = opendir(path);
	while (directory && fd < 0 && tried < MOST_TRIES && (entry = readdir(directory))) {
		int tid = atoi(entry->d_name);
		if (tid <= 0)
			continue;
		tried++;
		fd = open_in_thread(ground, tid, timeout_s);
		/* A thread that did not stop in time may do so now, and is let go when this ends. */
		if (fd == -EPERM || fd == -EBUSY || fd == -ETIME)
			break;
	}
	return fd;
}

struct opening {
	const struct ground *ground;
	double timeout_s;
	int result;
};

static int open_apart(void *argument)
{
	struct opening *opening = argument;

	opening->result = open_in_any(opening->ground, opening->timeout_s);
	return 0;
}

/* A process with this memory and these descriptors, which does not end with this one: a thread that makes a
 * call for us goes on exactly where it was even if this process is killed at that moment. The caller waits, so
 * that the two can share the storage of the thread. */
static int run_apart(struct opening *opening)
{
	sigset_t all, before;
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int pid = clone(open_apart, stack + STACK, CLONE_VM | CLONE_FILES, opening);
	int error = pid < 0 ? -errno : 0;
	while (!error && waitpid(pid, NULL, __WALL) < 0)
		if (errno != EINTR)
			error = -errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	munmap(stack, STACK);
	return error;
}

/* Asked of a descriptor of our own first: the process is not stopped for a feature that the kernel lacks (before Linux
 * 6.7). Where we may not open one, the process may. */
static bool lacks_feature(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	bool lacks = fd >= 0 && enable(fd) == -ENOSYS;

	if (fd >= 0)
		close(fd);
	return lacks;
}

int userfault_open(int pid, double timeout_s)
{
	if (lacks_feature())
		return -ENOSYS;
	CLEANUP(ground_free) struct ground ground;
	struct opening opening = {.ground = &ground, .timeout_s = timeout_s, .result = -ECHILD};
	int error = ground_read(&ground, pid);

	if (!error)
		error = run_apart(&opening);
	if (error)
		return error;
	if (opening.result < 0)
		return opening.result;
	error = enable(opening.result);
	if (error) {
		close(opening.result);
		return error;
	}
	return opening.result;
}

bool userfault_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register region = {.range = {start, end - start},
					 .mode = UFFDIO_REGISTER_MODE_WP};

	return ioctl(fd, UFFDIO_REGISTER, &region) == 0;
}

static bool unregister(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_range range = {start, end - start};

	return ioctl(fd, UFFDIO_UNREGISTER, &range) == 0;
}

/* A call takes 60 ns a page, in which the process cannot fault. A mapping is cut at multiples of a huge page and
 * put together again by the kernel. */
void userfault_release(int fd, uint64_t start, uint64_t end)
{
	bool done = true;

	for (uint64_t at = start; at < end;) {
		uint64_t next = (at / PIECE + 1) * PIECE;
		next = next < end ? next : end;
		done &= unregister(fd, at, next);
		at = next;
	}
	if (!done)
		unregister(fd, start, end);
}
