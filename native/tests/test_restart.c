/* Figures of a part of a process's life: sums from one restart to the next. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "producer.h"

static struct mematlas_sums sums_of(struct mematlas_collector *collector)
{
	struct mematlas_sums sums;

	CHECK(mematlas_collector_sums(collector, 0, &sums) == 0);
	return sums;
}

static void test_each_part_has_sums_of_its_own(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 5000, 1, 0);
	poll_all(collector);
	CHECK(sums_of(collector).peak_bytes == 5000);
	CHECK(mematlas_collector_restart(collector, 0, 0) == 0);
	CHECK_STATE(&collector->processes[0]->state);
	CHECK(sums_of(collector).peak_bytes == 0 && sums_of(collector).allocated_bytes == 0);

	put_free(&p, 0, 20, TRACE_MALLOC, 0x100000); /* allocated before: it counts for nothing */
	put_alloc(&p, 0, 30, TRACE_MALLOC, 0x200000, 300, 1, 0);
	put_alloc(&p, 0, 40, TRACE_MMAP, 0x300000, 65536, 1, 0); /* whole pages anywhere */
	put_free(&p, 0, 50, TRACE_MALLOC, 0x200000);
	struct mematlas_sums sums = sums_of(collector); /* reads what is in the rings */
	CHECK(sums.live_bytes == 65536 && sums.peak_bytes == 65836 &&
	      sums.allocated_bytes == 65836);
	CHECK(sums.allocations == 2);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MALLOC).peak_bytes == 300);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MALLOC).freed_bytes == 300);
	session_end(collector);
}

/* A mapping of before that is cut, moved or unmapped takes nothing away. */
static void test_mappings_of_before_are_forgotten(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MMAP, 0x400000, 65536, 1, 0);
	poll_all(collector);
	CHECK(mematlas_collector_restart(collector, 0, 1) == 0);
	PUT(&p, 0, TRACE_UNMAP | 20 << 8, 0x400000, 65536);
	put_alloc(&p, 0, 30, TRACE_MMAP, 0x400000, 4096, 1, 0);
	CHECK(sums_of(collector).live_bytes == 4096);
	CHECK(mematlas_collector_restart(collector, 3, 0) == -ESRCH);
	session_end(collector);
}

static void test_variance_is_of_one_part(void)
{
	struct mematlas_collector *collector = session_start(65536);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 64, 1, 0);
	poll_all(collector);
	double one = sums_of(collector).peak_variance;
	CHECK(one > 0);
	CHECK(mematlas_collector_restart(collector, 0, 0) == 0);
	CHECK(sums_of(collector).peak_variance == 0);
	put_alloc(&p, 0, 20, TRACE_MALLOC, 0x110000, 64, 1, 0);
	put_free(&p, 0, 30, TRACE_MALLOC, 0x110000);
	struct mematlas_sums sums = sums_of(collector);
	CHECK(fabs(sums.peak_variance - one) < 1e-6 * one && sums.live_variance < 1e-6 * one);
	session_end(collector);
}

/* What was resident before is told apart where pages are read; without looks no process asks for one. */
static void test_pages_of_before_and_looks(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	int pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	struct producer other = produce(collector, pid, 1);
	announce(&p);
	announce(&other);
	put_stack(&p, 0, 1, 0x1000);
	poll_all(collector);
	const struct process *process = collector->processes[0]->pid == getpid()
						? collector->processes[0]
						: collector->processes[1];
	collector->looked_sum = 1;
	CHECK(mematlas_collector_restart(collector, process->index, 0) == 0);
	CHECK(process->state.before.count == 0 && collector->looked_sum == 0);
	collector->looked_sum = 1; /* with company: all are told when to ask */
	poll_all(collector);
	CHECK(process->shared->look_above == UINT64_MAX);
	CHECK(mematlas_collector_restart(collector, process->index, 1) == 0);
	CHECK(process->state.before.count > 0 && process->shared->look_above < UINT64_MAX);
	CHECK(sums_of(collector).allocations == 0);
	CHECK_STATE(&process->state);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	session_end(collector);
}

/* The blocks themselves, with their stacks; a block of before a restart is not known. */
static void test_live_blocks(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_live_block rows[2];

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 5000, 1, 0);
	poll_all(collector);
	CHECK(mematlas_collector_restart(collector, 0, 0) == 0);
	put_alloc(&p, 0, 20, TRACE_MALLOC, 0x200000, 301, 1, 0);
	put_alloc(&p, 0, 30, TRACE_PYOBJECT, 0x300000, 56, 1, 0);
	put_alloc(&p, 0, 40, TRACE_MALLOC, 0x400000, 8, 1, 0);
	put_alloc(&p, 0, 50, TRACE_MMAP, 0x500000, 8192, 1, 0);
	put_free(&p, 0, 60, TRACE_MALLOC, 0x400000);
	CHECK(mematlas_collector_live_blocks(collector, 0, NULL, 0) == 2);
	CHECK(mematlas_collector_live_blocks(collector, 0, rows, 2) == 2);
	const struct mematlas_live_block *first = &rows[rows[0].address != 0x200000];
	const struct mematlas_live_block *other = &rows[rows[0].address == 0x200000];
	CHECK(first->address == 0x200000 && first->size == 301 && first->kind == TRACE_MALLOC);
	CHECK(other->address == 0x300000 && other->size == 56 && other->kind == TRACE_PYOBJECT);
	CHECK(first->stack && first->stack == other->stack);
	CHECK(mematlas_collector_live_blocks(collector, 3, rows, 2) == -ESRCH);
	session_end(collector);
}

int main(void)
{
	test_live_blocks();
	test_each_part_has_sums_of_its_own();
	test_mappings_of_before_are_forgotten();
	test_variance_is_of_one_part();
	test_pages_of_before_and_looks();
	return 0;
}
