/* Fork, exec and exit of the traced process. */
#define _GNU_SOURCE
#include "life.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"
#include "guard.h"
#include "hooks_popen.h"
#include "late_modules.h"
#include "look.h"
#include "memory.h"
#include "process_file.h"
#include "python_eval.h"
#include "ring.h"
#include "syscall.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* since Linux 4.14 */
#endif

#define EXIT_WAIT_NS 10000000000L
#define EXIT_POLL_NS 500000L
#define SILENCE_NS 5000000000L /* of a collector that lives */
#define WORTH_A_SNAPSHOT_MS 100

static struct timespec joined;
static _Atomic bool exit_is_asked, exit_is_over; /* of the last snapshot */
static _Atomic uint64_t fork_serials;
static __thread uint64_t fork_serial __attribute__((tls_model("initial-exec")));
static __thread uint64_t fork_image __attribute__((tls_model("initial-exec")));

bool trace_life_start(void)
{
	if (!trace_fork_mark) {
		char *page = trace_pages(TRACE_MIN_PAGE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1);
		if (page == MAP_FAILED)
			return false;
		if (trace_syscall(SYS_madvise, page, TRACE_MIN_PAGE, MADV_WIPEONFORK) < 0) {
			trace_syscall(SYS_munmap, page, TRACE_MIN_PAGE);
			return false;
		}
		*page = 1; /* before it is published: 0 means forked */
		trace_fork_mark = page;
	}
	*trace_fork_mark = 1;
	return true;
}

void trace_life_running(void)
{
	clock_gettime(CLOCK_MONOTONIC, &joined);
	__atomic_store_n(&trace_session.process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
}

void trace_before_fork(void)
{
	if (!trace_enter())
		return;
	struct trace_thread *thread = trace_is_joined() ? trace_thread_get() : NULL;
	/* What other threads record after the fork is not the child's, so it must not reuse a timestamp
	 * from before the fork. */
	__atomic_store_n(&trace_untimed_thread, NULL, __ATOMIC_RELAXED);
	fork_serial = 0;
	if (thread && trace_begin(thread, 2)) {
		fork_serial = atomic_fetch_add(&fork_serials, 1) + 1;
		fork_image = trace_session.image;
		trace_record(thread, (uint64_t[]){TRACE_FORK | trace_now() << 8, fork_serial}, 2);
	}
	trace_leave();
}

static void join_as_child(void)
{
	TRACE_OWN_WORK;

	trace_process_file_close();
	*trace_fork_mark = 1;
	exit_is_asked = exit_is_over = false; /* of the parent, which may be at its end */
	trace_fork_lineage = (trace_fork_lineage ^ fork_serial) * 0x9e3779b97f4a7c15ull;
	trace_threads_reset();
	if (trace_process_file_open(fork_serial, fork_image)) {
		trace_publish_maps();
		trace_describe_python();
		trace_life_running();
		trace_faults_after_fork();
	} else {
		trace_disable("a forked child could not join the session");
	}
	fork_serial = 0;
	fork_image = 0;
}

/* The child has the parent's live blocks and none of its other threads, so it continues with a process
 * file of its own and empty caches. */
void trace_after_fork_in_child(void)
{
	trace_popen_after_fork();
	if (!trace_is_joined()) {
		/* Threads of the parent may have been in dlclose(), or in a detach. */
		if (!trace_fork_mark || trace_is_forked())
			trace_modules_after_fork();
		if (trace_fork_mark)
			*trace_fork_mark = 1;
		return;
	}
	if (!trace_is_forked() && trace_session.process->pid == getpid())
		return;
	trace_modules_after_fork();
	if (trace_session.sandboxed) {
		trace_session.process = NULL; /* the parent's */
		trace_disable("");
		return;
	}
	join_as_child();
}

/* True: the collector took the snapshot, or is gone. */
static bool wait_until_released(const struct trace_process *process)
{
	const uint64_t *counter = &trace_session.control->heartbeat;
	uint64_t heartbeat = __atomic_load_n(counter, __ATOMIC_RELAXED);
	struct timespec last;

	clock_gettime(CLOCK_MONOTONIC, &last);
	for (long waited = 0, silent = 0; waited < EXIT_WAIT_NS && silent < SILENCE_NS;) {
		if (__atomic_load_n(&process->released, __ATOMIC_ACQUIRE) ||
		    trace_session_has_ended())
			return true;
		uint64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED);
		long passed = trace_lap_ns(&last);
		waited += passed;
		silent = now == heartbeat ? silent + passed : 0;
		heartbeat = now;
		trace_sleep(EXIT_POLL_NS);
	}
	return false;
}

/* A collector that gets no CPU is waited for: nobody else can tell what this process held at its end. */
static void wait_for_snapshot(void)
{
	struct trace_process *process = trace_session.process;

	__atomic_store_n(&process->released, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&process->state, TRACE_EXITING, __ATOMIC_RELEASE);
	if (!wait_until_released(process))
		__atomic_add_fetch(&process->exits_missed, 1, __ATOMIC_RELAXED);
}

static bool is_own_process(void)
{
	return trace_is_joined() && !trace_session.sandboxed &&
	       trace_session.process->pid == getpid();
}

/* The first thread asks for the snapshot. Others that end the program wait for it too: what they free
 * meanwhile would be missing in it, and with the last of them the process is gone. */
void trace_exit(void)
{
	if (atomic_load_explicit(&exit_is_over, memory_order_relaxed) || !is_own_process())
		return;
	if (!atomic_exchange(&exit_is_asked, true))
		wait_for_snapshot();
	else
		wait_until_released(trace_session.process);
	atomic_store(&exit_is_over, true);
}

static void look_before_exec(void)
{
	TRACE_OWN_WORK;

	trace_look_before_fall();
}

/* A wrapper that only starts another program is not worth the wait. */
void trace_before_exec(void)
{
	struct timespec now;

	if (!is_own_process())
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - joined.tv_sec) * 1000 + (now.tv_nsec - joined.tv_nsec) / 1000000 <
	    WORTH_A_SNAPSHOT_MS) {
		look_before_exec();
	} else {
		wait_for_snapshot();
		/* A shell tries each folder of $PATH: one snapshot is enough for all of them. */
		clock_gettime(CLOCK_MONOTONIC, &joined);
	}
}

void trace_before_abort(void)
{
	static _Atomic bool done;

	if (!is_own_process() || atomic_exchange(&done, true))
		return;
	wait_for_snapshot();
	trace_exec_failed();
}

void trace_exec_failed(void)
{
	uint32_t exiting = TRACE_EXITING;

	if (is_own_process())
		__atomic_compare_exchange_n(&trace_session.process->state, &exiting, TRACE_RUNNING,
					    false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
