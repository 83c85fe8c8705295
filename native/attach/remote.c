/* Stops a thread of another process by ptrace(2), and lets it go on as if nothing had been. */
#define _GNU_SOURCE
#include "remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../monotonic.h"
#include "../proc/status.h"
#include "place.h"

#define FIRST_NAP_NS 10000L
#define LAST_NAP_NS 500000L

int remote_wait(int tid, double timeout_s)
{
	double end = clock_monotonic_s() + timeout_s;
	struct timespec nap = {.tv_nsec = FIRST_NAP_NS};
	int status;

	for (;;) {
		pid_t got = waitpid(tid, &status, __WALL | WNOHANG);
		if (got < 0 && errno != EINTR)
			return -ESRCH;
		if (got > 0)
			return WIFSTOPPED(status) ? status : -ESRCH;
		if (clock_monotonic_s() > end)
			return -ETIME;
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < LAST_NAP_NS)
			nap.tv_nsec += nap.tv_nsec / 4;
	}
}

int remote_stop(struct mematlas_remote *remote)
{
	remote->wait = registers_read_wait(remote->pid, remote->tid);
	if (ptrace(PTRACE_INTERRUPT, remote->tid, NULL, NULL) < 0)
		return -errno;
	for (;;) {
		int status = remote_wait(remote->tid, remote->timeout_s);
		if (status < 0)
			return status;
		if (remote_is_event(status)) {
			remote->group_stopped = WSTOPSIG(status) != SIGTRAP;
			return 0;
		}
		if (ptrace(PTRACE_CONT, remote->tid, NULL, (void *)(long)WSTOPSIG(status)) < 0)
			return -errno;
	}
}

int remote_save(struct mematlas_remote *remote)
{
	int error = registers_read(remote->tid, &remote->before);

	if (!error)
		error = registers_read_vector(remote->tid, &remote->vector);
	if (!error &&
	    ptrace(PTRACE_GETSIGMASK, remote->tid, sizeof remote->signals, &remote->signals) < 0)
		error = -errno;
	return error;
}

int remote_restore(struct mematlas_remote *remote)
{
	registers_resume_wait(&remote->before, &remote->wait);
	int error = registers_write_vector(remote->tid, &remote->vector);
	if (!error)
		error = registers_write(remote->tid, &remote->before);
	if (!error &&
	    ptrace(PTRACE_SETSIGMASK, remote->tid, sizeof remote->signals, &remote->signals) < 0)
		error = -errno;
	return error;
}

/* The calling thread has seized that thread earlier, and it did not stop in time. */
static bool is_seized(int pid, int tid)
{
	char tracer[32];

	status_read(pid, tid, "TracerPid:", tracer, sizeof tracer);
	return strtol(tracer, NULL, 10) == (pid_t)syscall(SYS_gettid);
}

static int seize(int pid, int tid)
{
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) == 0)
		return 0;
	int error = -errno;
	return error == -EPERM && is_seized(pid, tid) ? 0 : error;
}

/* A thread that does not stop in time stays seized, since PTRACE_DETACH needs it to be stopped. The kernel
 * lets it go when the calling thread ends. */
int mematlas_remote_attach(int pid, int tid, double timeout_s, struct mematlas_remote **ret)
{
	struct mematlas_remote *remote = calloc(1, sizeof *remote);

	*ret = NULL;
	if (!remote)
		return -ENOMEM;
	remote->pid = pid;
	remote->tid = tid;
	remote->timeout_s = timeout_s;
	int error = seize(pid, tid);
	if (!error)
		error = remote_stop(remote);
	if (!error)
		error = remote_save(remote);
	if (error) {
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		free(remote);
		return error;
	}
	*ret = remote;
	return 0;
}

void mematlas_remote_read_registers(const struct mematlas_remote *remote,
				    struct mematlas_remote_registers *ret)
{
	*ret = (struct mematlas_remote_registers){
		.pc = registers_pc(&remote->before),
		.stack = registers_stack(&remote->before),
		.system_call = registers_system_call(remote->pid, &remote->before),
	};
}

int mematlas_remote_is_group_stopped(const struct mematlas_remote *remote)
{
	return remote->group_stopped;
}

void remote_place(const struct user_regs_struct *registers, struct mematlas_target *target,
		  struct mematlas_place *ret)
{
	struct frame leaf = registers_frame(registers);

	place_find(target, &leaf, registers_system_call(target->pid, registers), ret);
}

int mematlas_remote_find_place(const struct mematlas_remote *remote, struct mematlas_target *target,
			       struct mematlas_place *ret)
{
	remote_place(&remote->before, target, ret);
	return 0;
}
