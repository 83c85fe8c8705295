/* Calls in a stopped child that cannot be interrupted for longer than the timeout. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../attach/remote.h"
#include "check.h"
#include "child_state.h"
#include "mematlas.h"
#include "stopped_child.h"
#include "syscall_insn.h"

#define DONE 7

static int start(void)
{
	int pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

/* The parent is in state D until the child ends, by input or time: only SIGKILL interrupts its wait. */
static long wait_in_state_d(int fd, int timeout_ms)
{
	long child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

	if (child == 0) {
		struct pollfd input = {.fd = fd, .events = POLLIN};
		poll(&input, 1, timeout_ms);
		syscall(SYS_exit_group, 0);
	}
	return child > 0 ? DONE : -1;
}

/* A thread that is left while it runs the call would return to address 0. */
static void test_call_in_state_d(void)
{
	int pid = start();
	struct mematlas_remote *remote = stop(pid);
	int64_t result = -1;

	remote->timeout_s = 0.02;
	int error = mematlas_remote_call(remote, find_syscall_insn(), (uintptr_t)wait_in_state_d,
					 (uint64_t)-1, 500, &result);
	remote->timeout_s = TIMEOUT_S;
	CHECK(error == 0 && result == DONE);
	CHECK(mematlas_remote_detach(remote) == 0);
	CHECK(state_of(pid) != 'Z');
	end(pid);
}

/* A thread that did not stop in time is seized already when it is tried again. */
static void test_stop_again(void)
{
	struct mematlas_remote *remote;
	int fds[2];

	CHECK(pipe(fds) == 0);
	int pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[1]);
		wait_in_state_d(fds[0], -1);
		for (;;)
			pause();
	}
	WAIT_FOR(state_of(pid) == 'D');
	int error = mematlas_remote_attach(pid, pid, 0.02, &remote);
	if (error == -EPERM)
		SKIP("ptrace is refused");
	CHECK(error == -ETIME);
	CHECK(write(fds[1], "r", 1) == 1);
	CHECK(mematlas_remote_attach(pid, pid, TIMEOUT_S, &remote) == 0);
	CHECK(mematlas_remote_detach(remote) == 0);
	end(pid);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	test_call_in_state_d();
	test_stop_again();
	puts("fine");
	return 0;
}
