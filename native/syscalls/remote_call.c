/* A thread of another process, borrowed to call a function there, and given back as it was: registers,
 * vector state and signal mask. It runs on a stack of ours meanwhile. ptrace(2). */
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

#define AREA (1u << 20) /* the stack, with room for arguments at its low end */
#define ARGUMENTS 8192u
#define XSTATE_MOST 65536u
#define NT_X86_XSTATE_ 0x202
#define NAP_NS 200000L

struct mematlas_borrowed {
	int pid, tid;
	double patience_s;
	uint64_t area; /* in the other process; 0: none yet */
	uint64_t gadget; /* the address of a system call instruction there */
	uint64_t signals;
	size_t put;
#if defined(__x86_64__)
	struct user_regs_struct before;
#endif
	size_t vector_bytes;
	char vector[XSTATE_MOST];
};

#if defined(__x86_64__)

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A status from wait(), or -errno: gone, or no stop in time. */
static int wait_for_stop(const struct mematlas_borrowed *borrowed)
{
	double end = now_s() + borrowed->patience_s;
	struct timespec nap = {.tv_nsec = NAP_NS};
	int status;

	for (;;) {
		pid_t got = waitpid(borrowed->tid, &status, __WALL | WNOHANG);
		if (got < 0)
			return errno == EINTR ? -EAGAIN : -ESRCH;
		if (got > 0)
			return WIFSTOPPED(status) ? status : -ESRCH;
		if (now_s() > end)
			return -ETIME;
		nanosleep(&nap, NULL);
	}
}

static int stop(struct mematlas_borrowed *borrowed)
{
	if (ptrace(PTRACE_INTERRUPT, borrowed->tid, NULL, NULL) < 0)
		return -errno;
	int status = wait_for_stop(borrowed);
	return status < 0 ? status : 0;
}

/* Faults stay deliverable: were they blocked, the kernel would reset what the program does on them. */
static uint64_t mask_while_borrowed(void)
{
	static const int kept[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	uint64_t mask = ~0ull;

	for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
		mask &= ~(1ull << (kept[i] - 1));
	return mask;
}

static int keep_state(struct mematlas_borrowed *borrowed)
{
	struct iovec vector = {borrowed->vector, sizeof borrowed->vector};

	if (ptrace(PTRACE_GETREGS, borrowed->tid, NULL, &borrowed->before) < 0 ||
	    ptrace(PTRACE_GETREGSET, borrowed->tid, NT_X86_XSTATE_, &vector) < 0 ||
	    ptrace(PTRACE_GETSIGMASK, borrowed->tid, sizeof borrowed->signals, &borrowed->signals) <
		    0)
		return -errno;
	borrowed->vector_bytes = vector.iov_len;
	return 0;
}

static int restore_state(struct mematlas_borrowed *borrowed)
{
	struct iovec vector = {borrowed->vector, borrowed->vector_bytes};

	if (ptrace(PTRACE_SETREGSET, borrowed->tid, NT_X86_XSTATE_, &vector) < 0 ||
	    ptrace(PTRACE_SETREGS, borrowed->tid, NULL, &borrowed->before) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, borrowed->tid, sizeof borrowed->signals, &borrowed->signals) <
		    0)
		return -errno;
	return 0;
}

static int64_t write_there(const struct mematlas_borrowed *borrowed, uint64_t address,
			   const void *bytes, size_t size)
{
	struct iovec ours = {(void *)(uintptr_t)bytes, size}, theirs = {(void *)address, size};

	return process_vm_writev(borrowed->pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size ? 0
											  : -EFAULT;
}

/* Runs from `registers` until control comes to address 0, or, for a single step, one instruction. */
static int run(struct mematlas_borrowed *borrowed, struct user_regs_struct *registers, bool step)
{
	uint64_t mask = mask_while_borrowed();
	int status;

	registers->orig_rax = (unsigned long long)-1; /* no system call is to be restarted */
	if (ptrace(PTRACE_SETREGS, borrowed->tid, NULL, registers) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, borrowed->tid, sizeof mask, &mask) < 0)
		return -errno;
	do {
		if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, borrowed->tid, NULL, NULL) < 0)
			return -errno;
		status = wait_for_stop(borrowed);
	} while (status >= 0 && status >> 16 == PTRACE_EVENT_STOP); /* the process was stopped */
	if (status == -ETIME) {
		int error = stop(borrowed);
		return error ? error : -ETIME;
	}
	if (status < 0)
		return status;
	if (ptrace(PTRACE_GETREGS, borrowed->tid, NULL, registers) < 0)
		return -errno;
	if (step)
		return WSTOPSIG(status) == SIGTRAP ? 0 : -EFAULT;
	return WSTOPSIG(status) == SIGSEGV && registers->rip == 0 ? 0 : -EFAULT;
}

static int64_t call_kernel(struct mematlas_borrowed *borrowed, long number, uint64_t a, uint64_t b,
			   uint64_t c, uint64_t d)
{
	struct user_regs_struct registers = borrowed->before;

	registers.rip = borrowed->gadget;
	registers.rax = (unsigned long long)number;
	registers.rdi = a;
	registers.rsi = b;
	registers.rdx = c;
	registers.r10 = d;
	registers.r8 = (unsigned long long)-1;
	registers.r9 = 0;
	int error = run(borrowed, &registers, true);
	return error ? error : (int64_t)registers.rax;
}

static int make_area(struct mematlas_borrowed *borrowed)
{
	int64_t area = call_kernel(borrowed, SYS_mmap, 0, AREA, 3 /* read, write */,
				   0x22 /* private, anonymous */);

	if (area < 0)
		return (int)area;
	borrowed->area = (uint64_t)area;
	return 0;
}

int mematlas_borrow(int pid, int tid, double patience_s, struct mematlas_borrowed **ret)
{
	struct mematlas_borrowed *borrowed = calloc(1, sizeof *borrowed);

	*ret = NULL;
	if (!borrowed)
		return -ENOMEM;
	borrowed->pid = pid;
	borrowed->tid = tid;
	borrowed->patience_s = patience_s;
	int error = ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0 ? -errno : stop(borrowed);
	if (!error)
		error = keep_state(borrowed);
	if (error) {
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		free(borrowed);
		return error;
	}
	*ret = borrowed;
	return 0;
}

void mematlas_borrowed_at(const struct mematlas_borrowed *borrowed,
			  struct mematlas_borrowed_place *ret)
{
	*ret = (struct mematlas_borrowed_place){
		.pc = borrowed->before.rip,
		.stack = borrowed->before.rsp,
		.system_call = (int64_t)borrowed->before.orig_rax,
	};
}

int mematlas_borrowed_call(struct mematlas_borrowed *borrowed, uint64_t gadget, uint64_t function,
			   const char *text, uint64_t second, int64_t *ret)
{
	struct user_regs_struct registers = borrowed->before;
	size_t length = strlen(text) + 1;
	uint64_t zero = 0;
	int error = 0;

	borrowed->gadget = gadget;
	if (!borrowed->area)
		error = make_area(borrowed);
	if (!error && borrowed->put + length > ARGUMENTS)
		error = -E2BIG;
	uint64_t argument = borrowed->area + borrowed->put;
	uint64_t stack =
		borrowed->area + AREA - 264; /* at a function's entry: 8 past a multiple of 16 */
	if (!error)
		error = (int)write_there(borrowed, argument, text, length);
	if (!error)
		error = (int)write_there(borrowed, stack, &zero, sizeof zero); /* returns to 0 */
	if (error)
		return error;
	borrowed->put += (length + 15) & ~(size_t)15;
	registers.rip = function;
	registers.rdi = argument;
	registers.rsi = second;
	registers.rax = 0;
	registers.rsp = stack;
	registers.rbp = 0;
	registers.eflags &= ~0x400ull; /* direction: up */
	error = run(borrowed, &registers, false);
	*ret = (int64_t)registers.rax;
	return error;
}

int mematlas_give_back(struct mematlas_borrowed *borrowed)
{
	int error = 0;

	if (borrowed->area)
		call_kernel(borrowed, SYS_munmap, borrowed->area, AREA, 0, 0);
	error = restore_state(borrowed);
	if (ptrace(PTRACE_DETACH, borrowed->tid, NULL, NULL) < 0 && !error)
		error = -errno;
	free(borrowed);
	return error;
}

#else

int mematlas_borrow(int pid, int tid, double patience_s, struct mematlas_borrowed **ret)
{
	(void)pid;
	(void)tid;
	(void)patience_s;
	*ret = NULL;
	return -ENOSYS;
}

void mematlas_borrowed_at(const struct mematlas_borrowed *borrowed,
			  struct mematlas_borrowed_place *ret)
{
	(void)borrowed;
	*ret = (struct mematlas_borrowed_place){0};
}

int mematlas_borrowed_call(struct mematlas_borrowed *borrowed, uint64_t gadget, uint64_t function,
			   const char *text, uint64_t second, int64_t *ret)
{
	(void)borrowed;
	(void)gadget;
	(void)function;
	(void)text;
	(void)second;
	*ret = 0;
	return -ENOSYS;
}

int mematlas_give_back(struct mematlas_borrowed *borrowed)
{
	free(borrowed);
	return 0;
}

#endif
