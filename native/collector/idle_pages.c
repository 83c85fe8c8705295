/* Who owns the pages that somebody found to be cold. Page by page they come from outside; here they meet
 * what is resident, and the blocks. */
#include <errno.h>
#include <stdlib.h>

#include "sweep.h"

struct shares {
	double *here, *cold; /* by sum: resident in this range, and cold in all */
	uint32_t *met; /* sums that have something here */
	uint32_t count;
};

static void add(struct shares *shares, uint32_t sum, double bytes)
{
	if (shares->here[sum] == 0)
		shares->met[shares->count++] = sum;
	shares->here[sum] += bytes;
}

static void share_out(struct join *join, uint64_t at, uint64_t end, struct shares *shares)
{
	while (at < end) {
		uint64_t until = end;
		const struct span *block = span_at(&join->blocks, at, &until);
		const struct span *owner = block ? NULL : span_at(&join->owners, at, &until);
		double bytes = (double)(until - at);
		if (block) {
			struct weight weight = weigh(join->process->state.mean,
						     block->end - block->start, block->always);
			add(shares, block->sum, bytes * weight.count);
		} else if (owner && owner->owner == OWNER_USER) {
			add(shares, owner->sum, bytes);
		}
		at = until;
	}
}

/* Of a range of which some bytes were used, and nobody knows which, a stack that holds more than those has the
 * rest of its own cold for sure. */
static void end_range(struct shares *shares, double used)
{
	for (uint32_t i = 0; i < shares->count; i++) {
		uint32_t sum = shares->met[i];
		if (shares->here[sum] > used)
			shares->cold[sum] += shares->here[sum] - used;
		shares->here[sum] = 0;
	}
	shares->count = 0;
}

/* Gives the bytes that are cold in all. */
static double meet(struct join *join, const struct mematlas_cold_range *ranges, uint64_t count,
		   struct shares *shares)
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
			share_out(join, low, high, shares);
		}
		end_range(shares, used);
		total += resident > used ? resident - used : 0;
	}
	return total;
}

static bool make_shares(struct shares *shares, uint32_t sums)
{
	*shares = (struct shares){
		.here = calloc(sums + 1, sizeof *shares->here),
		.cold = calloc(sums + 1, sizeof *shares->cold),
		.met = calloc(sums + 1, sizeof *shares->met),
	};
	return shares->here && shares->cold && shares->met;
}

static int64_t list_rows(const struct sums *sums, const double *cold, struct mematlas_pin *rows,
			 uint64_t room)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < sums->count && count < room; i++)
		if (cold[i] > 0)
			rows[count++] = (struct mematlas_pin){sums->items[i].node,
							      sums->items[i].kind, cold[i]};
	return (int64_t)count;
}

int64_t mematlas_collector_cold(struct mematlas_collector *collector, int index,
				const struct mematlas_cold_range *ranges, uint64_t count,
				struct mematlas_pin *rows, uint64_t room, double *ret)
{
	*ret = 0;
	struct process *process = process_active_at(collector, index);
	if (!process || process->dir < 0)
		return -ESRCH;
	struct join join = {.collector = collector, .process = process};
	const struct sums *sums = &join.process->state.sums;
	struct shares shares = {0};
	int64_t result = vmas_read(join.process->dir, &join.vmas);
	if (!result)
		result = runs_read(collector, join.process->dir, &join.vmas, &join.runs);
	if (!result)
		result = spans_of_blocks(&join.process->state.blocks, &join.blocks);
	if (!result)
		result = spans_of_owners(join.process, &join.owners);
	if (!result && !make_shares(&shares, sums->count))
		result = -ENOMEM;
	if (!result) {
		*ret = meet(&join, ranges, count, &shares);
		result = list_rows(sums, shares.cold, rows, room);
	}
	vmas_free(&join.vmas);
	free(join.runs.items);
	free(join.blocks.items);
	free(join.owners.items);
	free(shares.here);
	free(shares.cold);
	free(shares.met);
	return result;
}
