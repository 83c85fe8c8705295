/* When residency is read: growth of RSS, and processes that wait for it before their RSS falls. */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector.h"

#define GROWTH 20 /* a look per 1/20 of growth: their number grows by the logarithm of RSS */
#define LEAST_GROWTH (256u << 10)
#define PEAK_SHARE 0.2 /* of the time that looks at a growing process may take */

static uint64_t threshold(const struct process *process)
{
	return process->looked_rss + process->looked_rss / GROWTH + LEAST_GROWTH;
}

bool look_is_worth(const struct process *process)
{
	return process->rss > threshold(process);
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

void look_taken(struct process *process, uint64_t rss, uint32_t asked)
{
	if (rss > process->looked_rss)
		process->looked_rss = rss;
	if (rss > process->high_rss)
		process->high_rss = rss;
	__atomic_store_n(&process->shared->look_above, threshold(process), __ATOMIC_RELAXED);
	if (asked != process->answered)
		look_answer(process, asked);
}

void look_begins(struct mematlas_collector *collector, struct process *process, double now)
{
	look_ends(collector, now);
	collector->looked_at = process;
	collector->look_began = now;
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
	postpone(&process->next_join, now + cost / budget);
	postpone(&process->next_peak, now + cost / PEAK_SHARE);
}
