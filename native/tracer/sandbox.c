/* Programs that enter a seccomp sandbox or limit their address space. Behind a seccomp filter any system
 * call of the tracer may kill the program, so from then on the tracer makes none: threads that are set up
 * go on recording, others stay unrecorded and are counted. Under RLIMIT_AS, unused address space is
 * returned to the program. */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "faults.h"
#include "groups.h"
#include "guard.h"
#include "join.h"
#include "process_file.h"
#include "real.h"
#include "ring.h"
#include "state.h"

/* Populates the rings in use to their end, since that takes a system call. */
static void prepare_sandbox(void)
{
	uint32_t used = __atomic_load_n(&trace_session.process->rings, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < used; i++) {
		struct trace_thread *thread = trace_group_slot(i);
		if (__atomic_load_n(&trace_session.rings[i].state, __ATOMIC_ACQUIRE) ==
		    TRACE_RING_ACTIVE)
			trace_populate(thread, trace_session.ring_words);
	}
	trace_session.sandboxed = true;
}

/* Called by the assembly below. */
__attribute__((used)) void trace_entering_sandbox(unsigned long mode);
void trace_entering_sandbox(unsigned long mode)
{
	int before = trace_session_is_over() ? -1 : trace_enter_nested();

	if (before < 0)
		return;
	if (trace_ready()) {
		trace_thread_get();
		/* A signal handler returns by a system call. */
		trace_faults_end("the program entered a seccomp sandbox");
		/* Strict mode also forbids reading the clock. */
		if (mode == SECCOMP_SET_MODE_STRICT)
			trace_disable("the program entered seccomp's strict mode");
		else
			prepare_sandbox();
	}
	trace_leave_nested(before);
}

TRACE_EXPORT int prctl(int option, ...)
{
	unsigned long arguments[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		arguments[i] = va_arg(list, unsigned long);
	va_end(list);
	if (option == PR_SET_SECCOMP)
		trace_entering_sandbox(arguments[0] == SECCOMP_MODE_STRICT
					       ? SECCOMP_SET_MODE_STRICT
					       : SECCOMP_SET_MODE_FILTER);
	if (option == PR_SET_TSC && arguments[0] == PR_TSC_SIGSEGV)
		trace_disable("the program forbade itself the clock");
	return trace_real.prctl(option, arguments[0], arguments[1], arguments[2], arguments[3]);
}

/* syscall() may switch stacks (clone) or return twice (vfork), so no C frame may stand between the caller
 * and the real function. */
#if defined(__x86_64__)
#define SECCOMP_NUMBER "$317"
/* Bits 9 to 12, 25, 28 and 30: mmap, mprotect, munmap, brk, mremap, madvise and shmat. */
#define MEMORY_NUMBERS "0x52001e00"
__asm__(".pushsection .text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	cmp " SECCOMP_NUMBER ", %rdi\n"
	"	je 1f\n"
	"	cmp $30, %rdi\n"
	"	ja 2f\n"
	"	mov $" MEMORY_NUMBERS ", %eax\n"
	"	bt %edi, %eax\n"
	"	jc trace_memory_syscall\n"
	"	jmp *trace_real_syscall(%rip)\n"
	"2:	cmp $67, %rdi\n" /* shmdt */
	"	je trace_memory_syscall\n"
	"	cmp $329, %rdi\n" /* pkey_mprotect */
	"	je trace_memory_syscall\n"
	"	jmp *trace_real_syscall(%rip)\n"
	"1:	push %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rdx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rcx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r8\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r9\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	sub $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	mov %rsi, %rdi\n"
	"	call trace_entering_sandbox\n"
	"	add $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %r9\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %r8\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rcx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rdx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	jmp *trace_real_syscall(%rip)\n"
	"	.cfi_endproc\n"
	".size syscall, .-syscall\n"
	".popsection\n");
#endif

static void return_space(int resource, const struct rlimit *limit)
{
	if (resource != RLIMIT_AS || !limit || limit->rlim_cur == RLIM_INFINITY)
		return;
	int before = trace_session_is_over() ? -1 : trace_enter_nested();
	if (before < 0)
		return;
	if (!trace_is_forked() && trace_ready())
		trace_shrink();
	trace_leave_nested(before);
}

static int hook_setrlimit(int resource, const struct rlimit *limit)
{
	return_space(resource, limit);
	return trace_real.setrlimit(resource, limit);
}

TRACE_EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return hook_setrlimit((int)resource, limit);
}

TRACE_EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
	return hook_setrlimit((int)resource, (const struct rlimit *)limit);
}

static int hook_prlimit(pid_t pid, int resource, const struct rlimit *limit, struct rlimit *old)
{
	if (pid == 0 || pid == getpid())
		return_space(resource, limit);
	return trace_real.prlimit(pid, resource, limit, old);
}

TRACE_EXPORT int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
			 struct rlimit *old)
{
	return hook_prlimit(pid, (int)resource, limit, old);
}

TRACE_EXPORT int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
			   struct rlimit64 *old)
{
	return hook_prlimit(pid, (int)resource, (const struct rlimit *)limit, (struct rlimit *)old);
}
