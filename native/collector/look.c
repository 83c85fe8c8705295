/* When residency is read: growth of RSS, and processes that wait for it before their RSS falls. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector.h"

#define GROWTH 33 /* a look per 3 % of growth: their number grows by the logarithm of RSS */
#define LEAST_GROWTH (128u << 10)
#define LEAST_SUM (16u << 20) /* smaller groups, as of a shell, have the looks of each process */
#define STALE 64 /* part of the sum by which one process may have changed since its snapshot */
#define PEAK_SHARE 0.2 /* of the time that looks at a growing process may take */

static uint64_t above(uint64_t looked)
{
	return looked + looked / GROWTH + LEAST_GROWTH;
}

static bool has_company(const struct mematlas_collector *collector)
{
	return collector->running > 1;
}

bool look_is_worth(const struct process *process)
{
	return process->rss > above(process->looked_rss);
}

bool looks_are_worth(const struct mematlas_collector *collector)
{
	return has_company(collector) && collector->sum_rss >= LEAST_SUM &&
	       collector->sum_rss > above(collector->looked_sum);
}

static bool is_running(const struct process *process)
{
	return process->active && process->ending == MEMATLAS_RUNNING && process->rss > 0 &&
	       !process->emitted_exiting;
}

/* Beyond which RSS of this process either its own or the sum is at a new peak. */
static uint64_t ask_above(const struct mematlas_collector *collector, const struct process *process)
{
	uint64_t own = above(process->looked_rss), least = above(collector->looked_sum);

	if (!has_company(collector) || !collector->looked_sum)
		return own;
	uint64_t left = least > collector->sum_rss ? least - collector->sum_rss : 0;
	return process->rss + left < own ? process->rss + left : own;
}

static void tell_when_to_ask(const struct mematlas_collector *collector, struct process *process)
{
	uint64_t *told = &process->shared->look_above, wanted = ask_above(collector, process);

	if (process->looked_rss && process->looked_rss != NO_LOOK &&
	    __atomic_load_n(told, __ATOMIC_RELAXED) != wanted)
		__atomic_store_n(told, wanted, __ATOMIC_RELAXED);
}

static uint64_t stale_bytes(const struct process *process)
{
	return process->rss > process->last_rss ? process->rss - process->last_rss
						: process->last_rss - process->rss;
}

static void sum_up(struct mematlas_collector *collector)
{
	collector->sum_rss = 0;
	collector->running = 0;
	for (uint32_t i = 0; i < collector->count; i++) {
		if (!is_running(collector->processes[i]))
			continue;
		collector->sum_rss += collector->processes[i]->rss;
		collector->running++;
	}
}

static struct process *find_stalest(const struct mematlas_collector *collector)
{
	struct process *found = NULL;

	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (is_running(process) && process->looked_rss != NO_LOOK &&
		    process->due_in != collector->round &&
		    (!found || stale_bytes(process) > stale_bytes(found)))
			found = process;
	}
	return found;
}

/* One snapshot a round, of the process that has changed most, until what has changed since is little. */
void looks_of_all(struct mematlas_collector *collector, double now)
{
	sum_up(collector);
	if (!has_company(collector))
		return;
	for (uint32_t i = 0; i < collector->count; i++)
		if (is_running(collector->processes[i]))
			tell_when_to_ask(collector, collector->processes[i]);
	if (!looks_are_worth(collector))
		return;
	/* A sum that the snapshots have already is looked at, and nobody asks for it again. */
	struct process *stalest = find_stalest(collector);
	if (!stalest || stale_bytes(stalest) <= collector->sum_rss / STALE)
		collector->looked_sum = collector->sum_rss;
	else if (now >= collector->next_sum_look &&
		 event_push(collector, MEMATLAS_EVENT_PEAK, stalest->index))
		stalest->due_in = collector->round;
}

uint32_t look_asked(const struct process *process)
{
	return __atomic_load_n(&process->shared->looks_asked, __ATOMIC_ACQUIRE);
}

void look_answer(struct process *process, uint32_t number)
{
	uint32_t *answered = &process->shared->looks_answered;

	process->answered = number;
	__atomic_store_n(answered, number, __ATOMIC_RELEASE);
	syscall(SYS_futex, answered, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void look_refuse(struct process *process)
{
	__atomic_store_n(&process->shared->look_above, UINT64_MAX, __ATOMIC_RELAXED);
	if (look_asked(process) != process->answered)
		look_answer(process, look_asked(process));
}

static void raise_looked(struct process *process, uint64_t rss)
{
	if (rss > process->looked_rss)
		process->looked_rss = rss;
	__atomic_store_n(&process->shared->look_above, above(process->looked_rss),
			 __ATOMIC_RELAXED);
}

/* Growth is that of statm, whose counters differ from the sum of smaps on kernels that add up the parts of many CPUs
 * late. Compared with smaps alone, it might look worth a look for ever. */
void look_taken(struct process *process, uint64_t rss, uint64_t statm, uint32_t asked)
{
	process->last_rss = statm ? statm : rss;
	if (rss > process->high_rss)
		process->high_rss = rss;
	raise_looked(process, statm > rss ? statm : rss);
	if (asked != process->answered)
		look_answer(process, asked);
}

void look_failed(struct process *process, uint32_t asked)
{
	process->last_rss = process->rss;
	raise_looked(process, process->rss);
	if (asked != process->answered)
		look_answer(process, asked);
}

void look_begins(struct mematlas_collector *collector, struct process *process, double now)
{
	look_ends(collector, now);
	collector->looked_at = process;
	collector->look_began = now;
	collector->look_began_cpu = clock_thread_s();
}

static void postpone(double *next, double until)
{
	if (*next < until)
		*next = until;
}

void look_ends(struct mematlas_collector *collector, double now)
{
	struct process *process = collector->looked_at;
	double budget = collector->settings.budget, cost = now - collector->look_began;

	collector->looked_at = NULL;
	if (!process || budget <= 0)
		return;
	double used = clock_thread_s() - collector->look_began_cpu;
	/* The budget is a share of a CPU. By the clock, a look on a busy machine would put off the
	 * next one for long, and the account of a killed program would be old. */
	postpone(&process->next_join, now + used / budget);
	postpone(&process->next_peak, now + cost / PEAK_SHARE);
	postpone(&collector->next_sum_look, now + cost / PEAK_SHARE);
}
