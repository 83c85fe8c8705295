/* Samples of the page faults this process takes in user mode: who touched memory first.
 *
 * A perf event of ours sends SIGTRAP to the very thread, at the very instruction, when every N-th
 * fault is over; the handler notes address and stack. Faults the kernel takes on the program's behalf
 * are left out: a signal there would be seen by the program, as a system call that was interrupted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <ucontext.h>
#include <unistd.h>

#include "pagemap_scan.h"
#include "syscall.h"
#include "tracer.h"

#define CODE_PERF 6   /* TRAP_PERF */
#define FLAG_ASYNC 1u /* TRAP_PERF_FLAG_ASYNC: it was blocked, and comes late */

/* Since 5.19 a blocked SIGTRAP waits; before that it killed. */
#define NEEDED_RELEASE (5 * 1000 + 19)

/* What follows si_addr in siginfo_t of a TRAP_PERF; newer than some C libraries. */
struct trap_detail {
	void *address;
	unsigned long data;
	uint32_t type, flags;
};

#define HIGH_FD 1000 /* out of the way of the numbers programs count on */

static _Atomic bool own_sigtrap;
static int events[2] = {-1, -1}; /* minor, major */
static int pagemap = -1;         /* of this process; -1: not to be had */

bool trace_faults_own_sigtrap(void)
{
	return atomic_load_explicit(&own_sigtrap, memory_order_relaxed);
}

static void say(enum trace_faults how, const char *reason)
{
	struct trace_process *process = trace_session.process;

	strncpy(process->faults_reason, reason, sizeof process->faults_reason - 1);
	__atomic_store_n(&process->faults, how, __ATOMIC_RELEASE);
}

static struct trace_point point_of(const ucontext_t *context)
{
#if defined(__x86_64__)
	const greg_t *registers = context->uc_mcontext.gregs;
	return (struct trace_point){(uintptr_t)registers[REG_RIP], (uintptr_t)registers[REG_RSP],
				    (uintptr_t)registers[REG_RBP]};
#else
	return (struct trace_point){(uintptr_t)context->uc_mcontext.pc,
				    (uintptr_t)context->uc_mcontext.sp,
				    (uintptr_t)context->uc_mcontext.regs[29]};
#endif
}

/* Only where all is set up: to do that here, perhaps in the midst of malloc(), could wait for a lock
 * this thread holds. And a thread made by a bare clone() may run on another's thread-local storage. */
static bool is_ready(const struct trace_point *point)
{
	const struct trace_thread *thread = trace_tls.thread;

	if (!thread || trace_is_forked())
		return false;
	if (point->sp >= thread->bounds.stack_low && point->sp < thread->bounds.stack_high)
		return true;
	return trace_syscall(SYS_gettid) == thread->ring->tid;
}

/* int3 and the like: what would have happened without us. */
static void die_of_sigtrap(void)
{
	struct sigaction usual = {.sa_handler = SIG_DFL};

	trace_real.sigaction(SIGTRAP, &usual, NULL);
	raise(SIGTRAP);
}

/* Beyond the numbers a program may have, if the limit can be lifted for a moment: one that looks at
 * each it could have open, or closes it, does not meet ours. */
static int move_away(int fd)
{
	struct rlimit usual, lifted;
	bool is_lifted = false;

	if (fd < 0)
		return fd;
	if (getrlimit(RLIMIT_NOFILE, &usual) == 0) {
		lifted.rlim_cur = usual.rlim_cur + 64;
		lifted.rlim_max =
			usual.rlim_max < lifted.rlim_cur ? lifted.rlim_cur : usual.rlim_max;
		is_lifted = trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &lifted, NULL) == 0;
	}
	int away = (int)trace_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC,
				      is_lifted ? usual.rlim_cur : HIGH_FD);
	if (is_lifted)
		trace_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &usual, NULL);
	if (away < 0)
		return fd;
	trace_syscall(SYS_close, fd);
	return away;
}

static void open_pagemap(void)
{
	pagemap = move_away((int)trace_syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap",
					       O_RDONLY | O_CLOEXEC));
}

/* Asked here, in the faulting thread: whoever asks later may find the page gone. */
static bool is_huge(const void *address)
{
	uint64_t page = (uintptr_t)address & ~(uint64_t)(trace_session.page_bytes - 1);
	uint64_t run[3];
	struct pagemap_scan_argument scan = {
		.size = sizeof scan,
		.start = page,
		.end = page + trace_session.page_bytes,
		.runs = (uintptr_t)run,
		.room = 1,
		.all = PAGEMAP_IS_HUGE,
		.want = PAGEMAP_IS_HUGE,
	};

	if (pagemap < 0)
		return false;
	long runs = trace_syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN_CALL, &scan);
	if (runs == -EBADF) { /* the program closed all it has */
		open_pagemap();
		runs = trace_syscall(SYS_ioctl, pagemap, PAGEMAP_SCAN_CALL, &scan);
	}
	return runs == 1;
}

static void take_sample(int number, siginfo_t *info, void *context)
{
	const struct trap_detail *detail = (const void *)&info->si_addr;
	int saved = errno;

	(void)number;
	if (info->si_code != CODE_PERF) {
		die_of_sigtrap();
		return;
	}
	struct trace_point point = point_of(context);
	bool recorded = false;
	/* A real malloc() that our hook called touches memory for its caller. */
	int before = is_ready(&point) ? trace_enter_nested() : -1;
	if (before >= 0) {
		bool major = detail->data == PERF_COUNT_SW_PAGE_FAULTS_MAJ;
		unsigned weight = major ? 1 : trace_session.control->fault_period;
		unsigned flags = (major ? TRACE_FLAG_MAJOR : 0) |
				 (is_huge(detail->address) ? TRACE_FLAG_HUGE : 0);
		recorded = trace_faulted(detail->address, weight, flags,
					 detail->flags & FLAG_ASYNC ? NULL : &point);
		trace_leave_nested(before);
	}
	if (!recorded && trace_session.process)
		__atomic_add_fetch(&trace_session.process->faults_lost, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static int open_event(uint64_t event, uint64_t period)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof attributes,
		.config = event,
		.sample_period = period,
		.sample_type = PERF_SAMPLE_ADDR,
		.exclude_kernel = 1,
		.exclude_hv = 1,
		.inherit = 1,
		.inherit_thread = 1,
		.remove_on_exec = 1,
		.sigtrap = 1,
		.sig_data = event,
	};
	return (int)trace_syscall(SYS_perf_event_open, &attributes, 0, -1, -1,
				  PERF_FLAG_FD_CLOEXEC);
}

/* The collector takes descriptors of its own, so that a program that closes all it has ends nothing. */
static int open_events(void)
{
	struct trace_process *process = trace_session.process;

	events[0] = move_away(
		open_event(PERF_COUNT_SW_PAGE_FAULTS_MIN, trace_session.control->fault_period));
	if (events[0] < 0)
		return events[0];
	events[1] = move_away(open_event(PERF_COUNT_SW_PAGE_FAULTS_MAJ, 1));
	process->fault_events[0] = events[0];
	process->fault_events[1] = events[1];
	open_pagemap();
	return 0;
}

static void close_events(void)
{
	for (int i = 0; i < 2; i++) {
		if (events[i] >= 0)
			trace_syscall(SYS_close, events[i]);
		events[i] = -1;
	}
	if (pagemap >= 0)
		trace_syscall(SYS_close, pagemap);
	pagemap = -1;
}

/* Our descriptors may be gone, or somebody else's by now: then all of this process's events end. */
static void disable_events(void)
{
	bool done = true;

	for (int i = 0; i < 2; i++)
		if (events[i] >= 0)
			done &= trace_syscall(SYS_ioctl, events[i], PERF_EVENT_IOC_DISABLE, 0) == 0;
	if (!done)
		trace_syscall(SYS_prctl, PR_TASK_PERF_EVENTS_DISABLE);
	else
		close_events();
}

static const char *why_refused(int error)
{
	switch (error) {
	case EACCES:
		return "refused: kernel.perf_event_paranoid must be 2 or less";
	case EPERM:
		return "refused: a container or security module forbids perf_event_open";
	case ENOSYS:
		return "this kernel has no perf events";
	default:
		return "this kernel cannot tell a program of its page faults";
	}
}

static bool is_old_kernel(void)
{
	struct utsname names;
	char *rest;

	if (uname(&names) != 0)
		return true;
	long release = strtol(names.release, &rest, 10) * 1000;
	return release + (*rest == '.' ? strtol(rest + 1, NULL, 10) : 0) < NEEDED_RELEASE;
}

/* May SIGTRAP be ours? Not if somebody handles, ignores or blocks it already. */
static bool is_sigtrap_free(void)
{
	struct sigaction now;
	sigset_t blocked;

	return trace_real.sigaction(SIGTRAP, NULL, &now) == 0 && now.sa_handler == SIG_DFL &&
	       trace_real.pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0 &&
	       sigismember(&blocked, SIGTRAP) == 0;
}

/* Valgrind's way to ask: instructions that do nothing but there (valgrind.h). */
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
	struct sigaction ours = {.sa_sigaction = take_sample,
				 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	if (!trace_session.control->fault_period)
		return;
	if (is_old_kernel()) {
		say(TRACE_FAULTS_REFUSED, "needs Linux 5.19 or later");
		return;
	}
	if (!trace_real.sigaction || !trace_real.pthread_sigmask || !is_sigtrap_free()) {
		say(TRACE_FAULTS_REFUSED, "the program was started with SIGTRAP in use");
		return;
	}
	if (is_in_valgrind()) { /* which dies of faults of its own that are told by a signal */
		say(TRACE_FAULTS_REFUSED, "valgrind runs the program");
		return;
	}
	trace_real.sigaction(SIGTRAP, &ours, NULL);
	atomic_store(&own_sigtrap, true);
	int error = open_events();
	if (!error) {
		say(TRACE_FAULTS_ON, "");
		return;
	}
	trace_faults_end("");
	say(TRACE_FAULTS_REFUSED, why_refused(-error));
}

void trace_faults_after_fork(void)
{
	close_events(); /* the parent's */
	if (!trace_faults_own_sigtrap())
		return;
	int error = open_events();
	if (!error)
		say(TRACE_FAULTS_ON, "");
	else
		trace_faults_end(why_refused(-error));
}

void trace_faults_end(const char *reason)
{
	struct sigaction usual = {.sa_handler = SIG_DFL};

	if (!atomic_exchange(&own_sigtrap, false))
		return;
	disable_events();
	trace_real.sigaction(SIGTRAP, &usual, NULL);
	say(TRACE_FAULTS_ENDED, reason);
}
