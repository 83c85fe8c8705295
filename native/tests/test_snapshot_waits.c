/* Every system call that a copy of the process interrupts ends as it would have without. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>

#include "../monotonic.h"
#include "snapshot_child.h"

#if !defined(__x86_64__)
int main(void)
{
	SKIP("processes are copied on x86-64 only");
}
#else
#define WAIT_MS 200

static int pipe_ends[2];

static int wait_in_poll(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};

	return poll(&poll_fd, 1, timeout);
}

static int wait_in_epoll(int timeout)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	epoll_ctl(fd, EPOLL_CTL_ADD, pipe_ends[0], &event);
	return epoll_wait(fd, &event, 1, timeout);
}

static int wait_in_ppoll(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};
	struct timespec limit = {.tv_nsec = timeout * 1000000l};

	return ppoll(&poll_fd, 1, timeout < 0 ? NULL : &limit, NULL);
}

static int wait_in_select(int timeout)
{
	fd_set set;
	struct timeval limit = {.tv_usec = timeout * 1000l};

	FD_ZERO(&set);
	FD_SET(pipe_ends[0], &set);
	return select(pipe_ends[0] + 1, &set, NULL, NULL, timeout < 0 ? NULL : &limit);
}

static int wait_in_read(int timeout)
{
	struct pollfd poll_fd = {.fd = pipe_ends[0], .events = POLLIN};
	char byte;

	(void)timeout;
	return read(pipe_ends[0], &byte, 1) == 1 ? poll(&poll_fd, 1, 0) + 1 : -1;
}

static int wait_in_futex(int timeout)
{
	struct timespec limit = {.tv_nsec = timeout * 1000000l};
	long result = syscall(SYS_futex, &shared->futex, FUTEX_WAIT, 0, timeout < 0 ? NULL : &limit,
			      NULL, 0);

	return result < 0 && errno == ETIMEDOUT ? 0 : result == 0 ? 1 : -1;
}

static int wait_in_nanosleep(int timeout)
{
	struct timespec limit = {.tv_nsec = (timeout < 0 ? WAIT_MS : timeout) * 1000000l};

	return nanosleep(&limit, NULL) == 0 ? timeout < 0 : -1;
}

static int wait_for_signal(int timeout)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	(void)timeout;
	return sigtimedwait(&set, NULL, NULL) == SIGUSR1 ? 1 : -1;
}

static int wait_in_semop(int timeout)
{
	int set = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf take = {.sem_op = -1};

	(void)timeout;
	shared->futex = set << 1; /* of even value: nothing waits for it then */
	int result = semop(set, &take, 1);
	semctl(set, 0, IPC_RMID);
	return result == 0 ? 1 : -1;
}

/* The first ones have a timeout too. */
static int (*const waits[])(int) = {wait_in_poll,  wait_in_ppoll,     wait_in_select,
				    wait_in_futex, wait_in_nanosleep, wait_in_epoll,
				    wait_in_read,  wait_for_signal,   wait_in_semop};
#define TIMED 5
#define WAITS (sizeof waits / sizeof *waits)
static unsigned chosen;
static int chosen_timeout;

static void waits_once(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	shared->ready = 1;
	double began_s = clock_monotonic_s();
	errno = 0;
	int result = waits[chosen](chosen_timeout);
	shared->errors[0] = errno;
	shared->seconds[0] = clock_monotonic_s() - began_s;
	shared->results[0] = result;
	shared->ready = 2;
	for (;;)
		pause();
}

static void wake(int pid)
{
	if (waits[chosen] == wait_in_futex)
		syscall(SYS_futex, &shared->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	if (waits[chosen] == wait_in_semop)
		semctl(shared->futex >> 1, 0, SETVAL, 1);
	CHECK(write(pipe_ends[1], "x", 1) == 1);
	CHECK(kill(pid, SIGUSR1) == 0);
}

static void capture_in_wait(int pid, int way)
{
	struct mematlas_image *image;
	int error = mematlas_image_capture(pid, way, TIMEOUT_S, 0, &estimate_s, &image);

	if (error) {
		fprintf(stderr, "wait %u with timeout %d: capture %d way %d\n", chosen,
			chosen_timeout, error, way);
		exit(1);
	}
	mematlas_image_destroy(image);
	usleep(10000);
}

static void check_result(void)
{
	for (int wait = 0; wait < 20000 && shared->ready != 2; wait++)
		usleep(1000);
	CHECK(shared->ready == 2);
	if (shared->results[0] != (chosen_timeout < 0)) {
		fprintf(stderr, "wait %u with timeout %d: result %d, errno %d\n", chosen,
			chosen_timeout, shared->results[0], shared->errors[0]);
		exit(1);
	}
	CHECK(chosen_timeout < 0 || shared->seconds[0] >= WAIT_MS / 1e3 * 0.98);
}

/* Each call ends as it would have without the captures: by its timeout, not before, or by what it waits for. */
static void test_waits(int way)
{
	for (unsigned i = 0; i < WAITS + TIMED; i++) {
		chosen = i % WAITS;
		chosen_timeout = i < WAITS ? -1 : WAIT_MS;
		CHECK(pipe(pipe_ends) == 0);
		int pid = start(waits_once);
		while (state_of(pid) == 'R')
			usleep(1000);
		for (int round = 0; round < 3; round++)
			capture_in_wait(pid, way);
		if (chosen_timeout < 0)
			wake(pid);
		check_result();
		end(pid);
		close(pipe_ends[0]);
		close(pipe_ends[1]);
	}
}

int main(void)
{
	map_shared();
	find_abilities();
	test_waits(MEMATLAS_IMAGE_STOP);
	if (can_copy_first)
		test_waits(MEMATLAS_IMAGE_COPY_FIRST);
	puts("fine");
	return 0;
}
#endif
