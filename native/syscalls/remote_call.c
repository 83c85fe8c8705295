/* Remote calls: a thread of another process is stopped by ptrace(2), calls functions on a stack
 * made for that, and continues with its registers, vector state and signal mask restored. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mematlas.h"

#define AREA (1u << 20) /* the stack; arguments are at its low end */
#define ARGUMENTS 8192u
#define MAX_XSTATE 65536u
#define NT_X86_XSTATE_ 0x202
#define NAP_NS 200000L

struct mematlas_remote {
	int pid, tid;
	double timeout_s;
	uint64_t area; /* in the process; 0: not mapped yet */
	uint64_t syscall_insn; /* address of a system call instruction in the process */
	uint64_t signals;
	size_t argument_bytes; /* used of ARGUMENTS */
#if defined(__x86_64__)
	struct user_regs_struct before;
#endif
	size_t vector_bytes;
	char vector[MAX_XSTATE];
};

#if defined(__x86_64__)

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A status from wait(), or -ESRCH: the thread is gone; -ETIME. */
static int wait_for_stop(const struct mematlas_remote *remote)
{
	double end = now_s() + remote->timeout_s;
	struct timespec nap = {.tv_nsec = NAP_NS};
	int status;

	for (;;) {
		pid_t got = waitpid(remote->tid, &status, __WALL | WNOHANG);
		if (got < 0)
			return errno == EINTR ? -EAGAIN : -ESRCH;
		if (got > 0)
			return WIFSTOPPED(status) ? status : -ESRCH;
		if (now_s() > end)
			return -ETIME;
		nanosleep(&nap, NULL);
	}
}

static int stop(struct mematlas_remote *remote)
{
	if (ptrace(PTRACE_INTERRUPT, remote->tid, NULL, NULL) < 0)
		return -errno;
	int status = wait_for_stop(remote);
	return status < 0 ? status : 0;
}

/* Faults stay unblocked, because the kernel resets the handler of a fault that is blocked. */
static uint64_t mask_for_call(void)
{
	static const int kept[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	uint64_t mask = ~0ull;

	for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
		mask &= ~(1ull << (kept[i] - 1));
	return mask;
}

static int save_state(struct mematlas_remote *remote)
{
	struct iovec vector = {remote->vector, sizeof remote->vector};

	if (ptrace(PTRACE_GETREGS, remote->tid, NULL, &remote->before) < 0 ||
	    ptrace(PTRACE_GETREGSET, remote->tid, NT_X86_XSTATE_, &vector) < 0 ||
	    ptrace(PTRACE_GETSIGMASK, remote->tid, sizeof remote->signals, &remote->signals) < 0)
		return -errno;
	remote->vector_bytes = vector.iov_len;
	return 0;
}

static int restore_state(struct mematlas_remote *remote)
{
	struct iovec vector = {remote->vector, remote->vector_bytes};

	if (ptrace(PTRACE_SETREGSET, remote->tid, NT_X86_XSTATE_, &vector) < 0 ||
	    ptrace(PTRACE_SETREGS, remote->tid, NULL, &remote->before) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, remote->tid, sizeof remote->signals, &remote->signals) < 0)
		return -errno;
	return 0;
}

static int64_t write_memory(const struct mematlas_remote *remote, uint64_t address,
			    const void *bytes, size_t size)
{
	struct iovec ours = {(void *)(uintptr_t)bytes, size}, theirs = {(void *)address, size};

	return process_vm_writev(remote->pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size ? 0
											: -EFAULT;
}

/* Lets the thread run to its next stop; returns the status from wait(), or -errno. */
static int resume(struct mematlas_remote *remote, bool step)
{
	int status;

	do {
		if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, remote->tid, NULL, NULL) < 0)
			return -errno;
		status = wait_for_stop(remote);
	} while (status >= 0 && status >> 16 == PTRACE_EVENT_STOP); /* a group stop */
	if (status == -ETIME) {
		int error = stop(remote);
		return error ? error : -ETIME;
	}
	return status;
}

/* Runs from `registers` until the function returns to address 0, which faults; or, for a step, one
 * instruction. */
static int run(struct mematlas_remote *remote, struct user_regs_struct *registers, bool step)
{
	uint64_t mask = mask_for_call();

	registers->orig_rax = (unsigned long long)-1; /* do not restart a system call */
	if (ptrace(PTRACE_SETREGS, remote->tid, NULL, registers) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, remote->tid, sizeof mask, &mask) < 0)
		return -errno;
	int status = resume(remote, step);
	if (status < 0)
		return status;
	if (ptrace(PTRACE_GETREGS, remote->tid, NULL, registers) < 0)
		return -errno;
	if (step)
		return WSTOPSIG(status) == SIGTRAP ? 0 : -EFAULT;
	return WSTOPSIG(status) == SIGSEGV && registers->rip == 0 ? 0 : -EFAULT;
}

static int64_t call_kernel(struct mematlas_remote *remote, long number, uint64_t a, uint64_t b,
			   uint64_t c, uint64_t d)
{
	struct user_regs_struct registers = remote->before;

	registers.rip = remote->syscall_insn;
	registers.rax = (unsigned long long)number;
	registers.rdi = a;
	registers.rsi = b;
	registers.rdx = c;
	registers.r10 = d;
	registers.r8 = (unsigned long long)-1;
	registers.r9 = 0;
	int error = run(remote, &registers, true);
	return error ? error : (int64_t)registers.rax;
}

static int make_area(struct mematlas_remote *remote)
{
	int64_t area = call_kernel(remote, SYS_mmap, 0, AREA, 3 /* read, write */,
				   0x22 /* private, anonymous */);

	if (area < 0)
		return (int)area;
	remote->area = (uint64_t)area;
	return 0;
}

int mematlas_remote_attach(int pid, int tid, double timeout_s, struct mematlas_remote **ret)
{
	struct mematlas_remote *remote = calloc(1, sizeof *remote);

	*ret = NULL;
	if (!remote)
		return -ENOMEM;
	remote->pid = pid;
	remote->tid = tid;
	remote->timeout_s = timeout_s;
	int error = ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 ? -errno : stop(remote);
	if (!error)
		error = save_state(remote);
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
		.pc = remote->before.rip,
		.stack = remote->before.rsp,
		.system_call = (int64_t)remote->before.orig_rax,
	};
}

int mematlas_remote_call(struct mematlas_remote *remote, uint64_t syscall_insn, uint64_t function,
			 const char *text, uint64_t second, int64_t *ret)
{
	struct user_regs_struct registers = remote->before;
	size_t length = strlen(text) + 1;
	uint64_t zero = 0;
	int error = 0;

	remote->syscall_insn = syscall_insn;
	if (!remote->area)
		error = make_area(remote);
	if (!error && remote->argument_bytes + length > ARGUMENTS)
		error = -E2BIG;
	uint64_t argument = remote->area + remote->argument_bytes;
	uint64_t stack = remote->area + AREA -
			 264; /* the ABI wants 8 past a multiple of 16 at a function's entry */
	if (!error)
		error = (int)write_memory(remote, argument, text, length);
	if (!error)
		error = (int)write_memory(remote, stack, &zero,
					  sizeof zero); /* the return address */
	if (error)
		return error;
	remote->argument_bytes += (length + 15) & ~(size_t)15;
	registers.rip = function;
	registers.rdi = argument;
	registers.rsi = second;
	registers.rax = 0;
	registers.rsp = stack;
	registers.rbp = 0;
	registers.eflags &= ~0x400ull; /* DF: the ABI wants it clear */
	error = run(remote, &registers, false);
	*ret = (int64_t)registers.rax;
	return error;
}

int mematlas_remote_detach(struct mematlas_remote *remote)
{
	int error = 0;

	if (remote->area)
		call_kernel(remote, SYS_munmap, remote->area, AREA, 0, 0);
	error = restore_state(remote);
	if (ptrace(PTRACE_DETACH, remote->tid, NULL, NULL) < 0 && !error)
		error = -errno;
	free(remote);
	return error;
}

#else

int mematlas_remote_attach(int pid, int tid, double timeout_s, struct mematlas_remote **ret)
{
	(void)pid;
	(void)tid;
	(void)timeout_s;
	*ret = NULL;
	return -ENOSYS;
}

void mematlas_remote_read_registers(const struct mematlas_remote *remote,
				    struct mematlas_remote_registers *ret)
{
	(void)remote;
	*ret = (struct mematlas_remote_registers){0};
}

int mematlas_remote_call(struct mematlas_remote *remote, uint64_t syscall_insn, uint64_t function,
			 const char *text, uint64_t second, int64_t *ret)
{
	(void)remote;
	(void)syscall_insn;
	(void)function;
	(void)text;
	(void)second;
	*ret = 0;
	return -ENOSYS;
}

int mematlas_remote_detach(struct mematlas_remote *remote)
{
	free(remote);
	return 0;
}

#endif
