/* The registers of a stopped thread, and the system call that the stop interrupted. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "stop.h"

#if defined(__x86_64__)

#define VECTORS 16
#define ERESTARTNOHAND                                                                             \
	514 /* restarted unless a handler runs; linux/errno.h, not of the C library */

/* What the kernel answers with EINTR although no signal came, as it does after SIGSTOP and SIGCONT
 * (signal(7)). It has returned nothing then, so the call can be made again. A timeout would begin anew:
 * calls with one are left alone. */
static bool waits_without_end(const struct user_regs_struct *r)
{
	switch (r->orig_rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return (int)r->r10 < 0;
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
	case SYS_semtimedop:
		return r->r10 == 0;
	case SYS_rt_sigtimedwait:
		return r->rdx == 0;
	case SYS_io_getevents:
		return r->r8 == 0;
	case SYS_semop:
		return true;
	default:
		return false;
	}
}

bool stop_restart_call(int tid, struct user_regs_struct *r)
{
	if ((int64_t)r->rax != -EINTR || !waits_without_end(r))
		return false;
	r->rax = (unsigned long long)-ERESTARTNOHAND;
	ptrace(PTRACE_SETREGS, tid, NULL, r);
	return true;
}

static void read_vectors(struct mematlas_image_thread *thread)
{
	struct user_fpregs_struct vectors;

	if (ptrace(PTRACE_GETFPREGS, thread->tid, NULL, &vectors) < 0)
		return;
	_Static_assert(MEMATLAS_IMAGE_REGISTERS == MEMATLAS_IMAGE_GENERAL + 2 * VECTORS,
		       "all of them");
	memcpy(&thread->registers[thread->register_count], vectors.xmm_space, VECTORS * 16);
	thread->register_count = MEMATLAS_IMAGE_REGISTERS;
}

int stop_read_registers(struct mematlas_image_thread *thread)
{
	struct user_regs_struct r;

	if (!thread->stopped)
		return 0;
	if (ptrace(PTRACE_GETREGS, thread->tid, NULL, &r) < 0)
		return -errno;
	stop_restart_call(thread->tid, &r);
	const uint64_t words[] = {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
				  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
	memcpy(thread->registers, words, sizeof words);
	_Static_assert(sizeof words / sizeof *words == MEMATLAS_IMAGE_GENERAL, "all of them");
	thread->register_count = MEMATLAS_IMAGE_GENERAL;
	thread->system_call = (int64_t)r.orig_rax;
	thread->pc = r.rip;
	thread->sp = r.rsp;
	thread->tls = r.fs_base;
	read_vectors(thread);
	return 0;
}

#else

int stop_read_registers(struct mematlas_image_thread *thread)
{
	(void)thread;
	return -ENOSYS;
}

#endif
