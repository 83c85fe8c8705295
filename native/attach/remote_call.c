/* Calls in a stopped thread, on a stack made for that. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../proc/status.h"
#include "process_memory.h"
#include "remote.h"

#define AREA (1u << 20) /* the stack; arguments are at its low end */
#define ARGUMENTS 8192u
#define STACK_TOP 256u /* words that stay 0 above the first frame */
#define PATIENCE 20 /* timeouts that a call may last which does not wait for a lock */
#define SIGNAL_BIT(signal) (1ull << ((signal) - 1))

/* Faults stay unblocked, because the kernel resets the handler of a fault that is blocked. */
static uint64_t faults(void)
{
	return SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGFPE) |
	       SIGNAL_BIT(SIGTRAP);
}

/* The program handles that signal: a garbage collector may protect pages of its heap. */
static bool is_caught(const struct mematlas_remote *remote, int signal)
{
	char caught[32];

	status_read(remote->pid, remote->pid, "SigCgt:", caught, sizeof caught);
	return strtoull(caught, NULL, 16) >> (signal - 1) & 1;
}

static bool was_sent(const struct mematlas_remote *remote)
{
	siginfo_t info;

	return ptrace(PTRACE_GETSIGINFO, remote->tid, NULL, &info) == 0 && info.si_code <= 0;
}

/* The function returned to address 0, where nothing is mapped. */
static bool has_returned(const struct mematlas_remote *remote)
{
	struct user_regs_struct registers;

	return registers_read(remote->tid, &registers) == 0 && registers_pc(&registers) == 0;
}

/* What to do with a signal that stopped the thread: 0 goes on without it, > 0 delivers, < 0 ends the call.
 * SIGSTOP cannot be blocked: its delivery stops the other threads, and this one when it is let go. */
static int decide(struct mematlas_remote *remote, int signal, bool step)
{
	if (signal == SIGTRAP && step)
		return -1;
	if (!(faults() & SIGNAL_BIT(signal)))
		return signal;
	if (was_sent(remote)) {
		remote->held |= SIGNAL_BIT(signal);
		return 0;
	}
	if (signal == SIGSEGV && has_returned(remote))
		return -1;
	return is_caught(remote, signal) ? signal : -1;
}

/* A call that waits for a lock is given up; one that works goes on, since it may hold a lock itself. A
 * thread that ran on without a tracer would return to address 0: however long it takes to stop, in state D.
 * Returns -errno, or the status of the stop. That may be a signal's, since the call may end as the timeout
 * passes: the interruption then stops the thread again when it goes on. */
static int extend(struct mematlas_remote *remote, unsigned *timeouts)
{
	struct user_regs_struct registers;

	if (ptrace(PTRACE_INTERRUPT, remote->tid, NULL, NULL) < 0)
		return -errno;
	int status;
	do
		status = remote_wait(remote->tid, remote->timeout_s);
	while (status == -ETIME);
	if (status < 0 || !remote_is_event(status))
		return status;
	remote->group_stopped = WSTOPSIG(status) != SIGTRAP;
	int error = registers_read(remote->tid, &registers);
	if (error)
		return error;
	if (registers_system_call(remote->pid, &registers) == SYS_futex || ++*timeouts == PATIENCE)
		return -ETIME;
	return status;
}

/* Lets the thread run to the end of the call. Returns the last status of wait(2), or -errno. */
static int resume(struct mematlas_remote *remote, bool step)
{
	unsigned timeouts = 0;
	int deliver = 0;

	for (;;) {
		if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, remote->tid, NULL,
			   (void *)(long)deliver) < 0)
			return -errno;
		int status = remote_wait(remote->tid, remote->timeout_s);
		deliver = 0;
		if (status == -ETIME)
			status = extend(remote, &timeouts);
		if (status >= 0 && !remote_is_event(status))
			deliver = decide(remote, WSTOPSIG(status), step);
		if (status < 0 || deliver < 0)
			return status;
	}
}

/* Runs from `registers` until the function returns to address 0, which faults; or, for a step, one
 * instruction. */
static int run(struct mematlas_remote *remote, struct user_regs_struct *registers, bool step)
{
	uint64_t mask = ~faults();

	int error = registers_write(remote->tid, registers);
	if (error)
		return error;
	if (ptrace(PTRACE_SETSIGMASK, remote->tid, sizeof mask, &mask) < 0)
		return -errno;
	int status = resume(remote, step);
	if (status < 0)
		return status;
	error = registers_read(remote->tid, registers);
	if (error)
		return error;
	if (step)
		return WSTOPSIG(status) == SIGTRAP ? 0 : -EFAULT;
	return WSTOPSIG(status) == SIGSEGV && registers_pc(registers) == 0 ? 0 : -EFAULT;
}

int mematlas_remote_system_call(struct mematlas_remote *remote, uint64_t syscall_insn,
				int64_t number, const uint64_t *arguments, int64_t *ret)
{
	struct user_regs_struct registers = remote->before;

	registers_enter_system_call(&registers, syscall_insn, number, arguments);
	int error = run(remote, &registers, true);
	*ret = (int64_t)registers_result(&registers);
	return error;
}

static int make_area(struct mematlas_remote *remote)
{
	/* readable and writable; private, anonymous; no descriptor */
	const uint64_t arguments[6] = {0, AREA, 3, 0x22, UINT64_MAX, 0};
	int64_t area;
	int error = mematlas_remote_system_call(remote, remote->syscall_insn, SYS_mmap, arguments,
						&area);

	if (!error && area < 0 && area > -4096)
		error = (int)area;
	if (!error)
		remote->area = (uint64_t)area;
	return error;
}

static int write_memory(const struct mematlas_remote *remote, uint64_t address, const void *bytes,
			size_t size)
{
	struct iovec ours = {(void *)(uintptr_t)bytes, size}, theirs = {(void *)address, size};
	ssize_t written = process_vm_writev(remote->pid, &ours, 1, &theirs, 1, 0);

	return written == (ssize_t)size ? 0 : -EFAULT;
}

int mematlas_remote_put(struct mematlas_remote *remote, uint64_t syscall_insn, const void *bytes,
			uint64_t size, uint64_t *ret)
{
	int error = 0;

	remote->syscall_insn = syscall_insn;
	if (!remote->area)
		error = make_area(remote);
	if (!error && (size > ARGUMENTS || remote->argument_bytes + size > ARGUMENTS))
		error = -E2BIG;
	if (error)
		return error;
	*ret = remote->area + remote->argument_bytes;
	remote->argument_bytes += (size + 15) & ~(uint64_t)15;
	return write_memory(remote, *ret, bytes, size);
}

int mematlas_remote_get(const struct mematlas_remote *remote, uint64_t address, void *ret,
			uint64_t size)
{
	return process_memory_copy(remote->pid, address, ret, size) ? 0 : -EFAULT;
}

int mematlas_remote_take_descriptor(const struct mematlas_remote *remote, int number)
{
	CLEANUP_CLOSE int process = (int)syscall(SYS_pidfd_open, remote->pid, 0);
	int taken = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, number, 0);

	return taken < 0 ? -errno : taken;
}

int mematlas_remote_call(struct mematlas_remote *remote, uint64_t syscall_insn, uint64_t function,
			 uint64_t first, uint64_t second, int64_t *ret)
{
	struct user_regs_struct registers = remote->before;
	uint64_t zero = 0;
	int error = 0;

	remote->syscall_insn = syscall_insn;
	if (!remote->area)
		error = make_area(remote);
	uint64_t stack = remote->area + AREA - STACK_TOP;
	if (!error) /* a return address of 0, where the processor keeps it on the stack */
		error = write_memory(remote, stack - sizeof zero, &zero, sizeof zero);
	if (error)
		return error;
	registers_enter_function(&registers, function, stack, first, second);
	error = run(remote, &registers, false);
	*ret = (int64_t)registers_result(&registers);
	return error;
}

static void send_held(const struct mematlas_remote *remote)
{
	for (int signal = 1; signal < 64; signal++)
		if (remote->held >> (signal - 1) & 1)
			syscall(SYS_tgkill, remote->pid, remote->tid, signal);
}

int mematlas_remote_detach(struct mematlas_remote *remote)
{
	const uint64_t unmap[6] = {remote->area, AREA};
	int64_t ignored;

	if (remote->area)
		mematlas_remote_system_call(remote, remote->syscall_insn, SYS_munmap, unmap,
					    &ignored);
	int error = remote_restore(remote);
	send_held(remote);
	if (ptrace(PTRACE_DETACH, remote->tid, NULL, NULL) < 0 && !error)
		error = -errno;
	free(remote);
	return error;
}
