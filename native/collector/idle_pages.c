/* Attributes idle memory to stacks. The caller has found the idle pages; here they are joined with
 * the resident pages and the live blocks. */
#include <errno.h>
#include <stdlib.h>

#include "sweep.h"

struct shares {
	double *here,
		*cold; /* by index of the statistics: resident in this range; cold in all ranges */
	uint32_t *met; /* indices with here > 0 */
	uint32_t count;
};

static void add_share(struct shares *shares, uint32_t stats, double bytes)
{
	if (shares->here[stats] == 0)
		shares->met[shares->count++] = stats;
	shares->here[stats] += bytes;
}

static void split_by_stack(struct join *join, uint64_t at, uint64_t end, struct shares *shares)
{
	while (at < end) {
		uint64_t until = end;
		const struct span *block = span_at(&join->blocks, at, &until);
		const struct span *owner = block ? NULL : span_at(&join->owners, at, &until);
		double bytes = (double)(until - at);
		if (block) {
			struct weight weight = weight_of(join->process->state.mean,
							 block->end - block->start, block->always);
			add_share(shares, block->stats, bytes * weight.count);
		} else if (owner && owner->owner == OWNER_USER) {
			add_share(shares, owner->stats, bytes);
		}
		at = until;
	}
}

/* Which bytes of a range were used is not known. A stack with more resident bytes than were used
 * has at least the difference idle. */
static void end_range(struct shares *shares, double used)
{
	for (uint32_t i = 0; i < shares->count; i++) {
		uint32_t stats = shares->met[i];
		if (shares->here[stats] > used)
			shares->cold[stats] += shares->here[stats] - used;
		shares->here[stats] = 0;
	}
	shares->count = 0;
}

/* Returns all idle bytes. */
static double join_ranges(struct join *join, const struct mematlas_cold_range *ranges,
			  uint64_t count, struct shares *shares)
{
	double total = 0;
	size_t run = 0;

	for (uint64_t i = 0; i < count; i++) {
		const struct mematlas_cold_range *range = &ranges[i];
		double resident = 0, used = (double)range->used_bytes;
		while (run < join->runs.count && join->runs.items[run].end <= range->start)
			run++;
		for (size_t r = run; r < join->runs.count && join->runs.items[r].start < range->end;
		     r++) {
			const struct run *pages = &join->runs.items[r];
			uint64_t low = pages->start > range->start ? pages->start : range->start;
			uint64_t high = pages->end < range->end ? pages->end : range->end;
			if (!(pages->state & PAGES_RESIDENT))
				continue;
			resident += (double)(high - low);
			split_by_stack(join, low, high, shares);
		}
		end_range(shares, used);
		total += resident > used ? resident - used : 0;
	}
	return total;
}

static void free_shares(struct shares *shares)
{
	free(shares->here);
	free(shares->cold);
	free(shares->met);
}

static bool make_shares(struct shares *shares, uint32_t count)
{
	*shares = (struct shares){
		.here = calloc(count + 1, sizeof *shares->here),
		.cold = calloc(count + 1, sizeof *shares->cold),
		.met = calloc(count + 1, sizeof *shares->met),
	};
	return shares->here && shares->cold && shares->met;
}

static int64_t list_rows(const struct stack_stats_table *table, const double *cold,
			 struct mematlas_stack_bytes *rows, uint64_t capacity)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < table->count && count < capacity; i++)
		if (cold[i] > 0)
			rows[count++] = (struct mematlas_stack_bytes){
				table->items[i].node, table->items[i].kind, cold[i]};
	return (int64_t)count;
}

static int read_process(struct join *join)
{
	struct process *process = join->process;
	int error = vmas_read(process->dir, &join->vmas);

	if (!error)
		error = runs_read(join->collector, process->dir, &join->vmas, &join->runs);
	if (!error)
		error = spans_of_blocks(&process->state.blocks, &join->blocks);
	return error ? error : spans_of_owners(process, &join->owners);
}

int64_t mematlas_collector_cold(struct mematlas_collector *collector, int index,
				const struct mematlas_cold_range *ranges, uint64_t count,
				struct mematlas_stack_bytes *rows, uint64_t capacity,
				double *ret_total)
{
	*ret_total = 0;
	struct process *process = process_active_at(collector, index);
	if (!process || process->dir < 0)
		return -ESRCH;
	CLEANUP(join_free) struct join join = {.collector = collector, .process = process};
	CLEANUP(free_shares) struct shares shares = {0};
	int error = read_process(&join);
	if (error)
		return error;
	if (!make_shares(&shares, process->state.stats.count))
		return -ENOMEM;
	*ret_total = join_ranges(&join, ranges, count, &shares);
	return list_rows(&process->state.stats, shares.cold, rows, capacity);
}
