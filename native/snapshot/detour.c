/* Makes system calls in a thread of another process, so that the thread survives the death of its tracer.
 *
 * The thread's stack below the red zone gets a signal frame with the registers as they were. Each call is
 * begun at a `syscall; ret` of the process, with the stack pointer at that frame. A tracer that lives puts the
 * registers back. Where it dies, the thread returns from the call to the C library's restorer, which makes
 * rt_sigreturn(2). The vector registers do not change meanwhile, since nothing but `syscall` and `ret` runs. */
#define _GNU_SOURCE
#include "userfault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "../attach/remote.h"
#include "../proc/maps.h"
#include "stop.h"

#if defined(__x86_64__)

#define RED_ZONE 128u
#define PAGE 4096u
#define XSTATE 16384u /* AMX tiles take half of it */
#define NT_X86_XSTATE_ 0x202
#define MAGIC1 0x46505853u /* asm/sigcontext.h */
#define MAGIC2 0x46505845u
#define FLAGS 7u /* UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
#define NO_ALTERNATE_STACK 0x7fffffff /* flags that sigaltstack(2) refuses: it stays as it is */
#define GET_RSEQ_CONFIGURATION 0x420f /* linux/ptrace.h; since Linux 5.13 */
#define GET_DISPATCH_CONFIGURATION 0x4210 /* since Linux 6.4 */
#define RSEQ_SECTION 8 /* offset of rseq_cs in struct rseq */

/* What rt_sigreturn(2) reads, behind the address that `ret` takes. */
struct signal_frame {
	uint64_t restorer;
	struct {
		uint64_t flags, link;
		stack_t stack;
		uint64_t registers[23];
		uint64_t vectors; /* address */
		uint64_t reserved[8];
		uint64_t signals;
	} context;
};
_Static_assert(offsetof(ucontext_t, uc_mcontext) == 40, "registers follow the stack");
_Static_assert(offsetof(struct signal_frame, context.registers) == 8 + 40, "the kernel's layout");
_Static_assert(offsetof(struct signal_frame, context.vectors) == 8 + 40 + 184,
	       "the kernel's layout");
_Static_assert(offsetof(struct signal_frame, context.signals) == 8 + 40 + 256,
	       "the kernel's layout");

struct detour {
	const struct ground *ground;
	int tid;
	double timeout_s;
	struct user_regs_struct before;
	uint64_t signals; /* the thread's mask */
	uint64_t frame; /* address of the frame in the process */
	bool entered;
	char vectors[XSTATE + 4];
};

/* Stops where the kernel looks for signals: from there a system call is restarted. */
static int interrupt(const struct detour *detour, int request)
{
	if (ptrace(PTRACE_INTERRUPT, detour->tid, NULL, NULL) < 0 ||
	    (request && ptrace(request, detour->tid, NULL, NULL) < 0))
		return -errno;
	for (;;) {
		int status = remote_wait(detour->tid, detour->timeout_s);
		if (status < 0)
			return status;
		if (remote_is_event(status))
			return WSTOPSIG(status) == SIGTRAP ? 0 : -EBUSY;
		long deliver = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
		if (ptrace(PTRACE_CONT, detour->tid, NULL, (void *)deliver) < 0)
			return -errno;
	}
}

/* As the kernel would restart the call the thread is in. A call that is resumed by the kernel's own notes
 * ends with EINTR, as after any handler. */
static void restart(uint64_t *rax, uint64_t *rip, int64_t call)
{
	int64_t result = (int64_t)*rax;

	if (call < 0 || result > -512 || result < -516)
		return;
	if (result == -516) {
		*rax = (uint64_t)-EINTR;
		return;
	}
	*rax = (uint64_t)call;
	*rip -= 2;
}

static void fill(const struct detour *detour, struct signal_frame *frame, uint64_t vectors)
{
	const struct user_regs_struct *r = &detour->before;
	uint64_t rax = r->rax, rip = r->rip;

	restart(&rax, &rip, (int64_t)r->orig_rax);
	const uint64_t registers[23] = {
		r->r8,
		r->r9,
		r->r10,
		r->r11,
		r->r12,
		r->r13,
		r->r14,
		r->r15,
		r->rdi,
		r->rsi,
		r->rbp,
		r->rbx,
		r->rdx,
		rax,
		r->rcx,
		r->rsp,
		rip,
		r->eflags,
		(r->cs & 0xffff) | (r->ss & 0xffff) << 48,
	};
	*frame = (struct signal_frame){.restorer = detour->ground->restorer};
	frame->context.flags = FLAGS;
	frame->context.stack.ss_flags = NO_ALTERNATE_STACK;
	memcpy(frame->context.registers, registers, sizeof registers);
	frame->context.vectors = vectors;
	frame->context.signals = detour->signals;
}

/* The kernel's note behind the legacy area says how much of the vector state follows. */
static void mark_vectors(char *vectors, uint32_t size, uint64_t features)
{
	const uint32_t magic1 = MAGIC1, extended = size + 4, magic2 = MAGIC2;
	char *note = vectors + 464;

	memset(note, 0, 48);
	memcpy(note, &magic1, 4);
	memcpy(note + 4, &extended, 4);
	memcpy(note + 8, &features, 8);
	memcpy(note + 16, &size, 4);
	memcpy(vectors + size, &magic2, 4);
}

static int write_memory(int pid, uint64_t address, const void *bytes, size_t size)
{
	struct iovec ours = {(void *)(uintptr_t)bytes, size}, theirs = {(void *)address, size};

	return process_vm_writev(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

static int write_frame(struct detour *detour)
{
	struct iovec vectors = {detour->vectors, XSTATE};
	struct signal_frame frame;
	uint64_t features;

	if (ptrace(PTRACE_GETREGSET, detour->tid, NT_X86_XSTATE_, &vectors) < 0)
		return -errno;
	uint32_t size = (uint32_t)vectors.iov_len;
	if (size < 576 || size > XSTATE - 64)
		return -ENOSYS;
	memcpy(&features, detour->vectors + 464, 8);
	mark_vectors(detour->vectors, size, features);
	uint64_t at = (detour->before.rsp - RED_ZONE - size - 4) & ~63ull;
	detour->frame = (at - sizeof frame) & ~63ull;
	fill(detour, &frame, at);
	int error = write_memory(detour->ground->pid, at, detour->vectors, size + 4);
	return error ? error
		     : write_memory(detour->ground->pid, detour->frame, &frame, sizeof frame);
}

static bool is_named(const struct mematlas_maps *maps, uint64_t i, const char *name)
{
	return maps->base[MEMATLAS_MAPS_NAME_LENGTH][i] == strlen(name) &&
	       memcmp(maps->names + maps->base[MEMATLAS_MAPS_NAME_AT][i], name, strlen(name)) == 0;
}

/* The stack that the kernel or the C library made for the thread, with room below. The stacks of goroutines and
 * coroutines lie in other memory, with something else right below. */
static bool is_on_own_stack(const struct detour *detour)
{
	const struct mematlas_maps *maps = detour->ground->maps;
	uint64_t sp = detour->before.rsp, tls = detour->before.fs_base;

	for (uint64_t i = 0; i < maps->count; i++) {
		uint64_t start = maps->base[MEMATLAS_MAPS_START][i];
		uint64_t end = maps->base[MEMATLAS_MAPS_END][i];
		if (sp >= start && sp < end)
			return sp - start > XSTATE + PAGE &&
			       (is_named(maps, i, "[stack]") || (tls > sp && tls < end));
	}
	return false;
}

/* A handler may run on an alternate stack with little room. */
static bool is_in_handler(const struct detour *detour)
{
	struct mematlas_place place;

	remote_place(&detour->before, detour->ground->code, &place);
	return place.handlers != 0;
}

/* A restartable sequence, rseq(2), is aborted when the kernel leaves it for another thread. It would see the
 * address of our call and forget the sequence, which then went on though its processor has changed. */
static bool is_in_sequence(const struct detour *detour)
{
	struct {
		uint64_t area;
		uint32_t size, signature, flags, padding;
	} registered = {0};
	uint64_t section = 0, bounds[3]; /* version and flags, start, length */
	int pid = detour->ground->pid;

	if (ptrace(GET_RSEQ_CONFIGURATION, detour->tid, sizeof registered, &registered) < 0 ||
	    !registered.area)
		return false;
	if (mematlas_process_read(pid, registered.area + RSEQ_SECTION, &section, 8) == 8 &&
	    !section)
		return false;
	return mematlas_process_read(pid, section, bounds, sizeof bounds) != sizeof bounds ||
	       detour->before.rip - bounds[1] < bounds[2];
}

/* By prctl(PR_SET_SYSCALL_USER_DISPATCH), as Wine does: the kernel would send SIGSYS for our call. */
static bool catches_calls(const struct detour *detour)
{
	struct {
		uint64_t mode, selector, offset, length;
	} dispatch = {0};

	return ptrace(GET_DISPATCH_CONFIGURATION, detour->tid, sizeof dispatch, &dispatch) >= 0 &&
	       dispatch.mode;
}

static int save(struct detour *detour)
{
	if (ptrace(PTRACE_GETREGS, detour->tid, NULL, &detour->before) < 0 ||
	    ptrace(PTRACE_GETSIGMASK, detour->tid, sizeof detour->signals, &detour->signals) < 0)
		return -errno;
	if (!is_on_own_stack(detour) || is_in_handler(detour) || is_in_sequence(detour) ||
	    catches_calls(detour))
		return -EXDEV;
	stop_restart_call(detour->tid, &detour->before);
	return write_frame(detour);
}

int detour_begin(const struct ground *ground, int tid, double timeout_s, struct detour **ret)
{
	struct detour *detour = calloc(1, sizeof *detour);

	*ret = NULL;
	if (!detour)
		return -ENOMEM;
	*detour = (struct detour){.ground = ground, .tid = tid, .timeout_s = timeout_s};
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0) {
		int error = -errno;
		free(detour);
		return error;
	}
	int error = interrupt(detour, 0);
	if (!error)
		error = save(detour);
	if (error) {
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		free(detour);
		return error;
	}
	*ret = detour;
	return 0;
}

/* Runs to the next entry or exit of a system call. SIGSTOP cannot be blocked: it stops the other threads,
 * and this one when it is let go. */
static int run_to_call(const struct detour *detour)
{
	long deliver = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, detour->tid, NULL, (void *)deliver) < 0)
			return -errno;
		int status = remote_wait(detour->tid, detour->timeout_s);
		if (status < 0)
			return status;
		if (!remote_is_event(status) && WSTOPSIG(status) == (SIGTRAP | 0x80))
			return 0;
		if (!remote_is_event(status) && WSTOPSIG(status) != SIGSTOP)
			return -EFAULT;
		deliver = remote_is_event(status) ? 0 : SIGSTOP;
	}
}

int64_t detour_call(struct detour *detour, int64_t number, const uint64_t *arguments)
{
	struct user_regs_struct registers = detour->before;
	uint64_t all = ~0ull;

	registers.rip = detour->ground->system_call;
	registers.rsp = detour->frame;
	registers.rax = (unsigned long long)number;
	registers.orig_rax = (unsigned long long)-1;
	registers.rdi = arguments[0];
	registers.rsi = arguments[1];
	registers.rdx = arguments[2];
	registers.r10 = arguments[3];
	registers.r8 = arguments[4];
	registers.r9 = arguments[5];
	registers.eflags &= ~0x100ull; /* TF: no step */
	/* In this order: a thread whose tracer dies between the two has its own signal mask. */
	if (ptrace(PTRACE_SETREGS, detour->tid, NULL, &registers) < 0 ||
	    ptrace(PTRACE_SETSIGMASK, detour->tid, sizeof all, &all) < 0)
		return -errno;
	detour->entered = true;
	int error = run_to_call(detour);
	if (!error)
		error = run_to_call(detour);
	if (!error && ptrace(PTRACE_GETREGS, detour->tid, NULL, &registers) < 0)
		error = -errno;
	return error ? error : (int64_t)registers.rax;
}

void detour_end(struct detour *detour)
{
	int error = detour->entered ? interrupt(detour, PTRACE_CONT) : 0;

	/* In this order: rt_sigreturn(2) would restore both. */
	if (!error || error == -EBUSY) {
		ptrace(PTRACE_SETSIGMASK, detour->tid, sizeof detour->signals, &detour->signals);
		ptrace(PTRACE_SETREGS, detour->tid, NULL, &detour->before);
	}
	ptrace(PTRACE_DETACH, detour->tid, NULL, NULL);
	free(detour);
}

#else

int detour_begin(const struct ground *ground, int tid, double timeout_s, struct detour **ret)
{
	(void)ground;
	(void)tid;
	(void)timeout_s;
	*ret = NULL;
	return -ENOSYS;
}

int64_t detour_call(struct detour *detour, int64_t number, const uint64_t *arguments)
{
	(void)detour;
	(void)number;
	(void)arguments;
	return -ENOSYS;
}

void detour_end(struct detour *detour)
{
	(void)detour;
}

#endif
