/* The perf events behind the samples of page faults. */
#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "pagemap_scan.h"
#include "real.h"
#include "session_socket.h"
#include "state.h"
#include "syscall.h"

static _Atomic bool own_sigtrap;
#define EVENTS 3

/* Minor, major, minor once huge pages were asked for. The program may have closed a descriptor and opened another file there, so each has the
 * kernel's number of the event. fd < 0: not open. */
static struct {
	int fd;
	uint64_t id; /* 0: none is known, and no file is the event's */
} events[EVENTS] = {{-1, 0}, {-1, 0}, {-1, 0}};

/* /proc/self/pagemap, likewise. */
static struct {
	int fd;
	uint32_t major, minor;
	uint64_t inode; /* 0: none is known */
} pagemap = {-1, 0, 0, 0};

/* A fault of 2 MiB is one fault: where a program has asked for huge pages, few faults make much memory
 * resident. A second event then samples more of them, in the thread that asked and in those made by it. */
#define HUGE_PERIOD 7u /* prime, as the usual one */
static _Atomic bool has_asked;

static uint64_t event_id(int fd)
{
	uint64_t id = 0;

	return fd >= 0 && trace_syscall(SYS_ioctl, fd, PERF_EVENT_IOC_ID, &id) == 0 ? id : 0;
}

static bool is_own_event(int which)
{
	return events[which].id && event_id(events[which].fd) == events[which].id;
}

static bool read_pagemap_file(struct statx *status)
{
	return pagemap.fd >= 0 &&
	       trace_syscall(SYS_statx, pagemap.fd, "", AT_EMPTY_PATH, STATX_INO, status) == 0;
}

static bool is_own_pagemap(void)
{
	struct statx now;

	return pagemap.inode && read_pagemap_file(&now) && now.stx_ino == pagemap.inode &&
	       now.stx_dev_major == pagemap.major && now.stx_dev_minor == pagemap.minor;
}

bool trace_faults_own_sigtrap(void)
{
	return atomic_load_explicit(&own_sigtrap, memory_order_relaxed);
}

void trace_faults_report(enum trace_faults how, const char *reason)
{
	struct trace_process *process = trace_session.process;

	strncpy(process->faults_reason, reason, sizeof process->faults_reason - 1);
	__atomic_store_n(&process->faults, how, __ATOMIC_RELEASE);
}

static void open_pagemap(void)
{
	int fd = (int)trace_syscall(SYS_openat, AT_FDCWD, "/proc/self/pagemap",
				    O_RDONLY | O_CLOEXEC);
	struct statx status;

	pagemap.fd = trace_move_descriptor(fd, false);
	bool known = read_pagemap_file(&status);
	pagemap.inode = known ? status.stx_ino : 0;
	pagemap.major = known ? status.stx_dev_major : 0;
	pagemap.minor = known ? status.stx_dev_minor : 0;
}

unsigned trace_faults_page_flags(const void *address)
{
	uint64_t page = (uintptr_t)address & ~(uint64_t)(trace_session.page_bytes - 1);
	uint64_t run[3] = {0};
	struct pagemap_scan_argument scan = {
		.size = sizeof scan,
		.start = page,
		.end = page + trace_session.page_bytes,
		.vec = (uintptr_t)run,
		.vec_len = 1,
		.category_mask = PAGEMAP_IS_PRESENT,
		.return_mask = PAGEMAP_IS_PRESENT | PAGEMAP_IS_HUGE | PAGEMAP_IS_FILE,
	};

	if (pagemap.fd < 0)
		return TRACE_FLAG_FILE;
	long runs = trace_syscall(SYS_ioctl, pagemap.fd, PAGEMAP_SCAN_CALL, &scan);
	if (runs == -EBADF) { /* the program closed all its descriptors */
		open_pagemap();
		runs = trace_syscall(SYS_ioctl, pagemap.fd, PAGEMAP_SCAN_CALL, &scan);
	}
	if (runs != 1)
		return TRACE_FLAG_FILE;
	return (run[2] & PAGEMAP_IS_HUGE ? TRACE_FLAG_HUGE : 0) |
	       (run[2] & PAGEMAP_IS_FILE ? TRACE_FLAG_FILE : 0);
}

static int open_event(uint64_t event, uint64_t period, uint64_t data)
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
		.disabled = data == TRACE_FAULTS_HUGE,
		.remove_on_exec = 1,
		.sigtrap = 1,
		.sig_data = data,
	};
	return (int)trace_syscall(SYS_perf_event_open, &attributes, 0, -1, -1,
				  PERF_FLAG_FD_CLOEXEC);
}

static void keep_event(int which, int fd)
{
	events[which].fd = trace_move_descriptor(fd, false);
	events[which].id = event_id(events[which].fd);
}

/* The collector holds the events too, so sampling survives a program that closes all its descriptors. */
static int open_events(void)
{
	int minor = open_event(PERF_COUNT_SW_PAGE_FAULTS_MIN, trace_session.control->fault_period,
			       PERF_COUNT_SW_PAGE_FAULTS_MIN);

	trace_tls.huge_faults = false;
	atomic_store(&has_asked, false);
	keep_event(0, minor);
	if (events[0].fd < 0)
		return events[0].fd;
	keep_event(1, open_event(PERF_COUNT_SW_PAGE_FAULTS_MAJ, 1, PERF_COUNT_SW_PAGE_FAULTS_MAJ));
	const int fds[] = {events[0].fd, events[1].fd};
	trace_socket_send_events(fds, fds[1] < 0 ? 1 : 2);
	open_pagemap();
	return 0;
}

static void close_events(void)
{
	for (int i = 0; i < EVENTS; i++) {
		if (is_own_event(i))
			trace_syscall(SYS_close, events[i].fd);
		events[i].fd = -1;
	}
	if (is_own_pagemap())
		trace_syscall(SYS_close, pagemap.fd);
	pagemap.fd = -1;
}

/* If the program closed or reused the descriptors, all perf events of the process are disabled. */
static void disable_events(void)
{
	bool done = true;

	for (int i = 0; i < EVENTS; i++)
		if (events[i].fd >= 0)
			done &= is_own_event(i) && trace_syscall(SYS_ioctl, events[i].fd,
								 PERF_EVENT_IOC_DISABLE, 0) == 0;
	if (!done)
		trace_syscall(SYS_prctl, PR_TASK_PERF_EVENTS_DISABLE);
	else
		close_events();
}

/* Another thread may end sampling meanwhile: either it sees this event, or this thread sees that it ended. */
static void start_huge_event(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (trace_faults_own_sigtrap())
		trace_syscall(SYS_ioctl, events[2].fd, PERF_EVENT_IOC_ENABLE, 0);
	atomic_thread_fence(memory_order_seq_cst);
	if (!trace_faults_own_sigtrap())
		trace_syscall(SYS_ioctl, events[2].fd, PERF_EVENT_IOC_DISABLE, 0);
}

void trace_faults_huge(void)
{
	if (!trace_faults_own_sigtrap() || trace_session.sandboxed ||
	    trace_session.control->fault_period <= HUGE_PERIOD || atomic_exchange(&has_asked, true))
		return;
	keep_event(2, open_event(PERF_COUNT_SW_PAGE_FAULTS_MIN, HUGE_PERIOD, TRACE_FAULTS_HUGE));
	if (events[2].fd < 0)
		return;
	trace_tls.huge_faults = true;
	trace_socket_send_events(&events[2].fd, 1);
	start_huge_event();
}

/* Returns for how many faults a sample of the calling thread stands; 0: another event tells. A thread that
 * has the second event knows by its first sample, which comes long before one of the usual event. */
unsigned trace_faults_weight(unsigned long data, unsigned flags)
{
	bool huge = flags & TRACE_FLAG_HUGE;

	if (data == PERF_COUNT_SW_PAGE_FAULTS_MAJ)
		return 1;
	if (data == TRACE_FAULTS_HUGE)
		trace_tls.huge_faults = true;
	if (data == TRACE_FAULTS_HUGE)
		return huge ? HUGE_PERIOD : 0;
	return huge && trace_tls.huge_faults ? 0 : trace_session.control->fault_period;
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
		return "this kernel cannot signal page faults to a program";
	}
}

void trace_faults_open(void)
{
	atomic_store(&own_sigtrap, true);
	int error = open_events();
	if (!error) {
		trace_faults_report(TRACE_FAULTS_ON, "");
		return;
	}
	trace_faults_end("");
	trace_faults_report(TRACE_FAULTS_REFUSED, why_refused(-error));
}

void trace_faults_after_fork(void)
{
	close_events(); /* the parent's */
	if (!trace_faults_own_sigtrap())
		return;
	int error = open_events();
	if (!error)
		trace_faults_report(TRACE_FAULTS_ON, "");
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
	trace_faults_report(TRACE_FAULTS_ENDED, reason);
}
