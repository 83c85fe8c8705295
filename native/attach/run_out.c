/* Runs a thread out of the C library: no instruction of the program is changed. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "remote.h"

#if defined(__x86_64__)

static int set_debug_register(const struct mematlas_remote *remote, unsigned number, uint64_t value)
{
	size_t offset = offsetof(struct user, u_debugreg) + number * sizeof(unsigned long);

	return ptrace(PTRACE_POKEUSER, remote->tid, offset, value) < 0 ? -errno : 0;
}

static bool has_arrived(const struct mematlas_remote *remote, int status, uint64_t pc,
			uint64_t stack)
{
	struct user_regs_struct registers;

	return WSTOPSIG(status) == SIGTRAP && !remote_is_event(status) &&
	       ptrace(PTRACE_GETREGS, remote->tid, NULL, &registers) == 0 && registers.rip == pc &&
	       registers.rsp >= stack;
}

/* The breakpoint also stops deeper calls of the same function: those go on. A trap of the program's own is
 * delivered. */
static int signal_to_deliver(const struct mematlas_remote *remote, int status, uint64_t pc)
{
	struct user_regs_struct registers;

	if (remote_is_event(status))
		return 0;
	if (WSTOPSIG(status) == SIGTRAP &&
	    ptrace(PTRACE_GETREGS, remote->tid, NULL, &registers) == 0 && registers.rip == pc)
		return 0;
	return WSTOPSIG(status);
}

/* Returns 0: the thread is there, stopped. Otherwise it is running, and -ETIME or -errno, or stopped by
 * job control, and -EBUSY. */
static int run_to(struct mematlas_remote *remote, uint64_t pc, uint64_t stack, double end)
{
	int deliver = 0;

	for (;;) {
		double left = end - remote_now_s();
		if (ptrace(PTRACE_CONT, remote->tid, NULL, (void *)(long)deliver) < 0)
			return -errno;
		int status = remote_wait(remote, left > 0 ? left : 0);
		if (status < 0)
			return status;
		if (has_arrived(remote, status, pc, stack))
			return 0;
		if (remote_is_event(status) && WSTOPSIG(status) != SIGTRAP)
			return -EBUSY;
		deliver = signal_to_deliver(remote, status, pc);
	}
}

int mematlas_remote_run_out(struct mematlas_remote *remote, uint64_t pc, uint64_t stack,
			    double limit_s)
{
	if (remote->group_stopped)
		return -EBUSY;
	int error = set_debug_register(remote, 0, pc);
	if (!error)
		error = set_debug_register(remote, 7, 1); /* register 0: stop where it executes */
	if (error)
		return error;
	error = run_to(remote, pc, stack, remote_now_s() + limit_s);
	if (error == -EBUSY)
		remote->group_stopped = true;
	/* A breakpoint that stayed would end the program: however long the thread takes to stop. */
	int stopped = error;
	while (stopped == -ETIME)
		stopped = remote_stop(remote);
	if (stopped == 0 || stopped == -EBUSY) {
		set_debug_register(remote, 7, 0);
		set_debug_register(remote, 0, 0);
		stopped = remote_save(remote);
	}
	return error ? error : stopped;
}

#else

int mematlas_remote_run_out(struct mematlas_remote *remote, uint64_t pc, uint64_t stack,
			    double limit_s)
{
	(void)remote;
	(void)pc;
	(void)stack;
	(void)limit_s;
	return -ENOSYS;
}

#endif
