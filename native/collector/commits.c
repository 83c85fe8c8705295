/* Memory that a program reserved, commits and gives back without unmapping it. Reserved memory has 0
 * live bytes. The line that makes it writable owns it from then on. Memory without access keeps its
 * pages, so it stays live until they are dropped, too. */
#include "state.h"

static struct range *range_of_program(struct ranges *ranges, size_t at, uint64_t end)
{
	struct range *range = at < ranges->count ? &ranges->items[at] : NULL;

	return range && range->start < end ? range : NULL;
}

/* Cuts the range around `address` in two. */
static bool split(struct state *state, size_t at, uint64_t address)
{
	struct range *range = &state->ranges.items[at];
	struct range above = *range;

	if (address <= range->start || address >= range->end)
		return true;
	above.start = range->end = address;
	if (!ranges_insert(&state->ranges, &above)) {
		state->ranges.items[at].end = above.end;
		state->out_of_memory = true;
		return false;
	}
	struct stack_stats *stats = &state->stats.items[above.stats];
	stack_stats_save_peak(state, stats);
	stats->live_count += 1;
	return true;
}

static void commit(struct state *state, uint64_t time, struct range *range, uint32_t stats)
{
	struct stack_stats *before = &state->stats.items[range->stats];

	range->closed = 0;
	if (!range->reserved)
		return;
	stack_stats_save_peak(state, before);
	before->live_count -= 1;
	range->reserved = 0;
	range->kind = MEMATLAS_KIND_COMMITTED;
	range->stats = stats;
	range->born = time;
	state_mapped(state, time, range);
}

static void drop(struct state *state, uint64_t time, struct range *range)
{
	struct stack_stats *stats = &state->stats.items[range->stats];
	struct weight weight = {0, (double)(range->end - range->start), 0};

	if (range->reserved)
		return;
	range->reserved = 1;
	stats->freed += weight.bytes;
	stack_stats_save_peak(state, stats);
	stats->live -= weight.bytes;
	state->live -= weight.bytes;
	weight.count = 1;
	age_matrix_add(state, range->stats, range->born, time, weight);
}

/* The next range in [*start, end) of the program's own, cut to it, that `wanted` is true of; *start moves
 * past it. NULL: there is none. */
static struct range *next_range(struct state *state, uint64_t *start, uint64_t end,
				bool (*wanted)(const struct range *))
{
	for (size_t at = ranges_find(&state->ranges, *start);; at++) {
		struct range *range = range_of_program(&state->ranges, at, end);
		if (!range)
			return NULL;
		if (!counts_as_live(range->kind) || !wanted(range))
			continue;
		if (range->start < *start) {
			if (!split(state, at, *start))
				return NULL;
			at++;
		}
		if (!split(state, at, end))
			return NULL;
		range = &state->ranges.items[at];
		*start = range->end;
		return range;
	}
}

static bool is_not_in_use(const struct range *range)
{
	return range->reserved || range->closed;
}

static bool is_accessible(const struct range *range)
{
	return !range->closed;
}

static bool is_closed(const struct range *range)
{
	return range->closed && !range->reserved;
}

void state_commit(struct state *state, uint64_t time, uint64_t start, uint64_t end, uint32_t node)
{
	uint32_t stats = stack_stats_find(state, node, MEMATLAS_KIND_COMMITTED);
	struct range *range;

	end = page_ceil(end);
	while ((range = next_range(state, &start, end, is_not_in_use)))
		commit(state, time, range, stats);
}

void state_return(struct state *state, uint64_t time, uint64_t start, uint64_t end, unsigned flags)
{
	uint64_t at = start;
	struct range *range;

	end = page_ceil(end);
	while (flags & TRACE_FLAG_CLOSED && (range = next_range(state, &at, end, is_accessible)))
		range->closed = 1;
	if (flags & TRACE_FLAG_DROPPED)
		state_forget_pages(state, start, end);
	at = start;
	while (flags & TRACE_FLAG_DROPPED && (range = next_range(state, &at, end, is_closed)))
		drop(state, time, range);
}
