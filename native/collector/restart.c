/* Figures of a part of a process's life: what was recorded before is forgotten, at a moment that the caller
 * chooses, and what is recorded from there on is summed up. */
#include <errno.h>
#include <string.h>

#include "collector.h"

/* Numbers of statistics are kept beside the stacks of each ring. The nodes stay. */
static void restart_ring(struct ring *ring)
{
	for (uint32_t i = 0; i < ring->stacks_capacity; i++)
		memset(&ring->stacks[i][1], 0, sizeof ring->stacks[i] - sizeof ring->stacks[i][0]);
	ring->unmapped = (struct unmapped){0};
	ring->freed.key = 0;
	ring->fault_site = 0;
	ring->fault_page = 0;
}

/* Growth from here on is worth a look, as that of a process that has just joined; or none is. */
static void restart_looks(struct mematlas_collector *collector, struct process *process, bool looks)
{
	collector->looked_sum = 0;
	process->looked_rss = looks ? process->rss : NO_LOOK;
	process->high_rss = 0;
	process_read_status_file(process);
	if (!looks)
		look_refuse(process);
	else
		look_failed(process, look_asked(process));
}

int mematlas_collector_restart(struct mematlas_collector *collector, int index, uint32_t looks)
{
	struct process *process = process_active_at(collector, index);

	if (!process || !process->mapped)
		return -ESRCH;
	collector_drain(collector);
	state_restart(&process->state);
	for (uint32_t i = 0; i < process->ring_count; i++)
		restart_ring(&process->rings[i]);
	fault_sites_clear(&process->fault_sites);
	bad_frees_free(process);
	process->unknown_frees = 0;
	process->timeline_count = 0;
	process->next_sample = 0; /* at once: the time may be short */
	process->start_s = mematlas_collector_now(collector);
	restart_looks(collector, process, looks);
	if (looks)
		before_read(collector, process, false);
	return 0;
}

/* `sums` grows by what one stack has. */
static void add_stats(const struct state *state, const struct stack_stats *stats,
		      struct mematlas_sums *sums)
{
	bool unchanged = stats->epoch != state->epoch; /* since the peak */

	if (!counts_as_live(stats->kind))
		return;
	sums->allocated_bytes += stats->allocated;
	sums->allocations += stats->allocations;
	sums->allocated_variance += stats->allocated_variance;
	sums->live_variance += stats->live_variance;
	sums->peak_variance += unchanged ? stats->live_variance : stats->peak_variance;
}

int mematlas_collector_sums(struct mematlas_collector *collector, int index,
			    struct mematlas_sums *ret)
{
	const struct process *process = process_active_at(collector, index);

	if (!process || !process->mapped)
		return -ESRCH;
	collector_drain(collector);
	const struct state *state = &process->state;
	*ret = (struct mematlas_sums){.live_bytes = rounded(state->live),
				      .peak_bytes = rounded(state->peak),
				      .peak_s = clock_since_start_s(collector, state->peak_time)};
	for (uint32_t i = 0; i < state->stats.count; i++)
		add_stats(state, &state->stats.items[i], ret);
	return 0;
}
