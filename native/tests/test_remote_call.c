/* Calls in a stopped child that cannot be interrupted for longer than the timeout. */
#define _GNU_SOURCE
#include <errno.h>
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
#include "syscall_insn.h"

#define TIMEOUT_S 20.0
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

static void end(int pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static struct mematlas_remote *stop(int pid)
{
	struct mematlas_remote *remote;
	int error = mematlas_remote_attach(pid, pid, TIMEOUT_S, &remote);

	if (error == -EPERM)
		SKIP("ptrace is refused");
	CHECK(error == 0);
	return remote;
}

/* The parent is in state D until the child ends: only SIGKILL interrupts its wait. */
static long wait_in_state_d(void)
{
	long child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

	if (child == 0) {
		usleep(500000);
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
	int error = mematlas_remote_call(remote, find_syscall_insn(), (uintptr_t)wait_in_state_d, 0,
					 0, &result);
	remote->timeout_s = TIMEOUT_S;
	CHECK(error == 0 && result == DONE);
	CHECK(mematlas_remote_detach(remote) == 0);
	CHECK(state_of(pid) != 'Z');
	end(pid);
}

int main(void)
{
	test_call_in_state_d();
	puts("fine");
	return 0;
}
