/* The signal handler that records samples of page faults: which code touched memory first.
 *
 * A perf event sends SIGTRAP to the faulting thread, at the faulting instruction, after every N-th
 * fault; the handler records address and stack. Faults taken by the kernel on behalf of the program are
 * excluded: a signal there would interrupt a system call, which the program would see. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/utsname.h>
#include <ucontext.h>
#include <unistd.h>

#include "faults.h"
#include "guard.h"
#include "real.h"
#include "record.h"
#include "state.h"
#include "syscall.h"

#define CODE_PERF 6   /* TRAP_PERF */
#define FLAG_ASYNC 1u /* TRAP_PERF_FLAG_ASYNC: SIGTRAP was blocked, so it comes late */

/* Before Linux 5.19 a blocked SIGTRAP kills the process; since then it stays pending. */
#define NEEDED_RELEASE (5 * 1000 + 19)

/* What follows si_addr in siginfo_t of a TRAP_PERF; missing in older C libraries. */
struct trap_detail {
	void *address;
	unsigned long data;
	uint32_t type, flags;
};

static struct trace_point point_of(const ucontext_t *context)
{
#if defined(__x86_64__)
	const greg_t *registers = context->uc_mcontext.gregs;
	return (struct trace_point){(uintptr_t)registers[REG_RIP], (uintptr_t)registers[REG_RSP],
				    (uintptr_t)registers[REG_RBP]};
#else
	return (struct trace_point){
		(uintptr_t)context->uc_mcontext.pc, (uintptr_t)context->uc_mcontext.sp,
		(uintptr_t)context->uc_mcontext.regs[29], (uintptr_t)context->uc_mcontext.regs[30]};
#endif
}

/* Only a thread that is set up records: set-up here, perhaps inside malloc(), could wait for a lock that
 * this thread holds. A thread of a bare clone() may run on the thread-local storage of another. */
static bool is_ready(const struct trace_point *point)
{
	const struct trace_thread *thread = trace_tls.thread;

	if (!thread || trace_tls.generation != trace_generation || !trace_is_joined() ||
	    trace_is_forked())
		return false;
	if (point->sp >= thread->bounds.stack_low && point->sp < thread->bounds.stack_high)
		return true;
	return trace_syscall(SYS_gettid) == thread->ring->tid;
}

/* A SIGTRAP that is not ours (int3): the default action kills the program. */
static void die_of_sigtrap(void)
{
	struct sigaction usual = {.sa_handler = SIG_DFL};

	trace_real.sigaction(SIGTRAP, &usual, NULL);
	raise(SIGTRAP);
}

/* Nested: the real malloc() called by a hook touches memory, too. */
static bool record(const struct trap_detail *detail, const ucontext_t *context)
{
	struct trace_point point = point_of(context);
	int before = trace_enter_nested();
	bool recorded = false;

	if (before < 0)
		return false;
	if (is_ready(&point)) {
		bool major = detail->data == PERF_COUNT_SW_PAGE_FAULTS_MAJ;
		unsigned flags =
			(major ? TRACE_FLAG_MAJOR : 0) | trace_faults_page_flags(detail->address);
		unsigned weight = trace_faults_weight(detail->data, flags);
		recorded = !weight || trace_faulted(detail->address, weight, flags,
						    detail->flags & FLAG_ASYNC ? NULL : &point);
	}
	trace_leave_nested(before);
	return recorded;
}

/* Most samples of the event for huge pages are of small ones, which another event counts. */
static bool stands_for_faults(const struct trap_detail *detail)
{
	return detail->data != TRACE_FAULTS_HUGE ||
	       trace_faults_page_flags(detail->address) & TRACE_FLAG_HUGE;
}

static void on_sigtrap(int number, siginfo_t *info, void *context)
{
	const struct trap_detail *detail = (const void *)&info->si_addr;
	int saved = errno;

	(void)number;
	if (info->si_code != CODE_PERF) {
		die_of_sigtrap();
		return;
	}
	if (!record(detail, context) && trace_session.process && stands_for_faults(detail))
		__atomic_add_fetch(&trace_session.process->faults_lost, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static bool is_old_kernel(void)
{
	struct utsname names;
	unsigned release[2] = {0, 0}, part = 0;

	if (uname(&names) != 0)
		return true;
	for (const char *c = names.release; *c && part < 2; c++) {
		if (*c >= '0' && *c <= '9')
			release[part] = release[part] * 10 + (unsigned)(*c - '0');
		else
			part = *c == '.' ? part + 1 : 2;
	}
	return release[0] * 1000 + release[1] < NEEDED_RELEASE;
}

/* False if SIGTRAP is already handled, ignored or blocked. */
static bool is_sigtrap_free(void)
{
	struct sigaction now;
	uint64_t blocked = 0;

	return trace_real.sigaction(SIGTRAP, NULL, &now) == 0 && now.sa_handler == SIG_DFL &&
	       trace_syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, sizeof blocked) == 0 &&
	       !(blocked >> (SIGTRAP - 1) & 1);
}

/* Valgrind's client request: instructions that do nothing outside Valgrind (valgrind.h). */
static bool is_in_valgrind(void)
{
	const uint64_t request[6] = {0x1001}; /* RUNNING_ON_VALGRIND */
	uint64_t answer = 0;

#if defined(__x86_64__)
	__asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
			 "xchgq %%rbx, %%rbx"
			 : "+d"(answer)
			 : "a"(request)
			 : "cc", "memory");
#elif defined(__aarch64__)
	register const uint64_t *x4 __asm__("x4") = request;
	register uint64_t x3 __asm__("x3") = 0;
	__asm__ volatile(
		"ror x12, x12, #3; ror x12, x12, #13; ror x12, x12, #51; ror x12, x12, #61\n\t"
		"orr x10, x10, x10"
		: "+r"(x3)
		: "r"(x4)
		: "cc", "memory");
	answer = x3;
#else
	(void)request;
#endif
	return answer != 0;
}

void trace_faults_start(void)
{
	struct sigaction ours = {.sa_sigaction = on_sigtrap,
				 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	if (!trace_session.control->fault_period)
		return;
	if (is_old_kernel()) {
		trace_faults_report(TRACE_FAULTS_REFUSED, "needs Linux 5.19 or later");
		return;
	}
	if (!is_sigtrap_free()) {
		trace_faults_report(TRACE_FAULTS_REFUSED,
				    "the program was started with SIGTRAP in use");
		return;
	}
	if (is_in_valgrind()) { /* which crashes on a SIGTRAP for its own faults */
		trace_faults_report(TRACE_FAULTS_REFUSED, "valgrind runs the program");
		return;
	}
	trace_real.sigaction(SIGTRAP, &ours, NULL);
	trace_faults_open();
}
