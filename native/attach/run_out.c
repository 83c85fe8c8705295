/* Runs a thread out of the C library: no instruction of the program is changed. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "../monotonic.h"
#include "remote.h"

static bool is_at(const struct mematlas_remote *remote, uint64_t pc)
{
	struct user_regs_struct registers;

	return registers_read(remote->tid, &registers) == 0 && registers_pc(&registers) == pc;
}

static bool has_arrived(const struct mematlas_remote *remote, int status, uint64_t pc,
			uint64_t stack)
{
	struct user_regs_struct registers;

	return WSTOPSIG(status) == SIGTRAP && !remote_is_event(status) &&
	       registers_read(remote->tid, &registers) == 0 && registers_pc(&registers) == pc &&
	       registers_stack(&registers) >= stack;
}

/* The breakpoint also stops deeper calls of the same function: those go on. A trap of the program's own is
 * delivered. */
static int signal_to_deliver(const struct mematlas_remote *remote, int status, uint64_t pc)
{
	struct user_regs_struct registers;

	if (remote_is_event(status))
		return 0;
	if (WSTOPSIG(status) == SIGTRAP && registers_read(remote->tid, &registers) == 0 &&
	    registers_pc(&registers) == pc)
		return 0;
	return WSTOPSIG(status);
}

/* Leaves a breakpoint that would stop the thread where it is. Returns the status of the next stop, or -errno;
 * 0: the thread has done one step. */
static int step_over(const struct mematlas_remote *remote, uint64_t pc, int deliver)
{
	int error = breakpoint_clear(remote->tid);

	if (error)
		return error;
	if (ptrace(PTRACE_SINGLESTEP, remote->tid, NULL, (void *)(long)deliver) < 0)
		return -errno;
	int status = remote_wait(remote->tid, remote->timeout_s);
	if (status < 0)
		return status;
	error = breakpoint_set(remote->tid, pc);
	if (error)
		return error;
	return remote_is_event(status) || WSTOPSIG(status) != SIGTRAP ? status : 0;
}

/* Lets the thread run on from where it stopped. Returns the status of the next stop, or -errno. */
static int go_on(const struct mematlas_remote *remote, uint64_t pc, int deliver, double limit_s)
{
	if (breakpoint_stays && is_at(remote, pc)) {
		int status = step_over(remote, pc, deliver);
		if (status)
			return status;
		deliver = 0;
	}
	if (ptrace(PTRACE_CONT, remote->tid, NULL, (void *)(long)deliver) < 0)
		return -errno;
	return remote_wait(remote->tid, limit_s);
}

/* Returns 0: the thread is there, stopped. Otherwise it is running, and -ETIME or -errno, or stopped by
 * job control, and -EBUSY. */
static int run_to(struct mematlas_remote *remote, uint64_t pc, uint64_t stack, double end)
{
	int deliver = 0;

	for (;;) {
		double left = end - clock_monotonic_s();
		int status = go_on(remote, pc, deliver, left > 0 ? left : 0);
		if (status < 0)
			return status;
		if (has_arrived(remote, status, pc, stack))
			return 0;
		if (remote_is_event(status) && WSTOPSIG(status) != SIGTRAP)
			return -EBUSY;
		deliver = signal_to_deliver(remote, status, pc);
	}
}

/* A breakpoint that stayed would end the program: however long the thread takes to stop. */
static int stop_at(struct mematlas_remote *remote, uint64_t pc)
{
	int deliver = 0, status;

	remote->wait = registers_read_wait(remote->pid, remote->tid);
	if (ptrace(PTRACE_INTERRUPT, remote->tid, NULL, NULL) < 0)
		return -errno;
	for (;;) {
		do
			status = remote_wait(remote->tid, remote->timeout_s);
		while (status == -ETIME);
		if (status < 0)
			return status;
		if (remote_is_event(status)) {
			remote->group_stopped = WSTOPSIG(status) != SIGTRAP;
			return 0;
		}
		deliver = signal_to_deliver(remote, status, pc);
		if (ptrace(PTRACE_CONT, remote->tid, NULL, (void *)(long)deliver) < 0)
			return -errno;
	}
}

static bool is_trap_pending(const struct mematlas_remote *remote)
{
	struct __ptrace_peeksiginfo_args range = {.nr = 1};
	siginfo_t info;

	for (; ptrace(PTRACE_PEEKSIGINFO, remote->tid, &range, &info) == 1; range.off++)
		if (info.si_signo == SIGTRAP && info.si_code == TRAP_HWBKPT)
			return true;
	return false;
}

/* The thread may have reached the breakpoint as another event stopped it. Its SIGTRAP would end the
 * program. The kernel delivers a fault before any other signal. */
static int swallow_trap(const struct mematlas_remote *remote)
{
	while (is_trap_pending(remote)) {
		int status;
		if (ptrace(PTRACE_CONT, remote->tid, NULL, NULL) < 0)
			return -errno;
		do
			status = remote_wait(remote->tid, remote->timeout_s);
		while (status == -ETIME);
		if (status < 0 || !remote_is_event(status))
			return status < 0 ? status : 0;
	}
	return 0;
}

static int clear_breakpoint(const struct mematlas_remote *remote)
{
	int error = breakpoint_clear(remote->tid);

	return error ? error : swallow_trap(remote);
}

int mematlas_remote_run_out(struct mematlas_remote *remote, uint64_t pc, uint64_t stack,
			    double limit_s)
{
	if (remote->group_stopped)
		return -EBUSY;
	int error = breakpoint_set(remote->tid, pc);
	if (error)
		return error;
	error = run_to(remote, pc, stack, clock_monotonic_s() + limit_s);
	if (error == -EBUSY)
		remote->group_stopped = true;
	int stopped = error == -ETIME ? stop_at(remote, pc) : error;
	if (stopped == 0 || stopped == -EBUSY) {
		stopped = clear_breakpoint(remote);
		if (!stopped)
			stopped = remote_save(remote);
	}
	return error ? error : stopped;
}
