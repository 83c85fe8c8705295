/* Reads the pages of a process, and its blocks of the same moment. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "sweep.h"
#include "torn.h"

#define TRIES 3
#define MOVED 32 /* part of the live bytes */
#define LEAST_MOVED (256u << 10)
#define TORN_TRIES 8

/* A traced image maps its session memory. After an exec, the PID has another image that does not. */
static bool is_same_image(const struct join *join)
{
	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		if (vma->inode == join->process->inode &&
		    is_session_memory(join->collector, vma->name))
			return true;
	}
	return false;
}

/* 0: unknown. */
static uint64_t counters_rss(int proc)
{
	int64_t statm = statm_read(proc);

	return statm < 0 ? 0 : (uint64_t)statm;
}

/* What one process has resident, without the blocks that lie there. */
static int read_pages(struct join *join, struct mematlas_account *account)
{
	int proc = join->process->dir;
	join->rss_before = counters_rss(proc);
	int error = vmas_read(proc, &join->vmas);

	if (!error && !is_same_image(join))
		error = -ESRCH;
	if (!error)
		error = runs_read(join->collector, proc, &join->vmas, &join->runs);
	if (error)
		return error;
	collector_heartbeat(join->collector);
	error = sharing_read(proc, &join->sharing);
	if (!error)
		error = sharing_split(proc, &join->sharing, &join->runs);
	if (error)
		return error;
	sharing_sum(&join->sharing, account);
	account->statm_rss_bytes = counters_rss(proc);
	process_read_status_file(join->process);
	return 0;
}

static void drop_pages(struct join *join)
{
	vmas_free(&join->vmas);
	free(join->runs.items);
	join->runs = (struct runs){0};
	sharing_free(&join->sharing);
}

static bool has_moved(double before, double after)
{
	return fabs(after - before) > before / MOVED + LEAST_MOVED;
}

static struct counters counters_of(const struct join *join, const struct mematlas_account *account,
				   struct lag lag)
{
	return (struct counters){.before = join->rss_before,
				 .after = account->statm_rss_bytes,
				 .highest = join->process->vm_hwm,
				 .lag = lag.bytes + join->process->threads * lag.bytes_of_thread};
}

/* Sums that differ from the counters by the same each time are of pages that the kernel counts otherwise. Pages that
 * move in step with the reads look the same, so a later sum is compared with this difference, and tells. */
static int end_tries(const struct join *join, const struct mematlas_account *account,
		     const struct counters *counters, bool same)
{
	bool agrees = !sum_is_torn(counters, account->rss_bytes, 0);

	if (!agrees && !same)
		return -EAGAIN;
	join->process->sums_off =
		agrees ? 0 : (int64_t)(account->rss_bytes - account->statm_rss_bytes);
	return 0;
}

/* The program may run on meanwhile, and on a busy machine a reading may take long. Then pages are of a later
 * moment than the blocks known before, so what was recorded meanwhile is read after them, and tells whether to try
 * again. */
static int read_at_rest(struct join *join, struct mematlas_account *account)
{
	struct mematlas_collector *collector = join->collector;
	struct torn torn = TORN_NONE;
	struct lag lag = lag_read();

	collector_drain(collector);
	for (int tries = 1;; tries++) {
		double before = join->process->state.live;
		account->time_s = clock_monotonic_s() - collector->started;
		int error = read_pages(join, account);
		if (error)
			return error;
		collector_drain(collector);
		struct counters counters = counters_of(join, account, lag);
		if (sum_is_torn(&counters, account->rss_bytes, join->process->sums_off)) {
			bool same = torn_add(&torn, &counters, account->rss_bytes);
			if (tries == TORN_TRIES)
				return end_tries(join, account, &counters, same);
		} else if (tries >= TRIES || !has_moved(before, join->process->state.live)) {
			return 0;
		}
		drop_pages(join);
	}
}

static uint64_t lesser(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

int moment_read(struct join *join, struct mematlas_account *account)
{
	struct process *process = join->process;
	int error = read_at_rest(join, account);

	if (error)
		return error;
	/* What the program touched while its pages were read is not in them, and is worth a look. */
	look_taken(process, account->rss_bytes, lesser(join->rss_before, account->statm_rss_bytes),
		   join->asked);
	account->peak_rss_bytes = process->high_rss;
	account->page_table_bytes = process->page_tables;
	collector_heartbeat(join->collector);
	error = spans_of_blocks(&process->state.blocks, &join->blocks);
	collector_heartbeat(join->collector);
	if (!error)
		error = spans_of_before(&process->state.before, &join->before);
	return error ? error : spans_of_owners(process, &join->owners);
}
