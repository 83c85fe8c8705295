/* The residency join: one upward sweep over mappings, page runs, owners and blocks.
 *
 * Memory that holds blocks forms pools (the heap, arenas, ...). In a pool, resident bytes under
 * blocks are live, the others are slack. When sampling, a block stands for 1/p blocks, so that live
 * is an estimate.
 *
 * For each pool: live + slack == resident bytes, with live limited to them */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

static const char *const pool_names[POOLS] = {
	[POOL_HEAP] = "glibc heap",
	[POOL_ARENA] = "glibc arena",
	[POOL_PYMALLOC] = "pymalloc arena",
	[POOL_ALLOCATOR] = "mapping of an allocator",
	[POOL_MAPPED] = "around mapped blocks",
};

/* Where bytes lie. `owner` is theirs if no block covers them. */
struct place {
	enum pool pool;
	uint32_t part;
	const struct span *owner;
};

static void add_to_stack(struct join *join, uint32_t index, double bytes, uint32_t state)
{
	struct stack_stats *stats = &join->process->state.stats.items[index];

	if (state & PAGES_SWAPPED) {
		stats->swapped += bytes;
		return;
	}
	stats->resident += bytes;
	if (state & PAGES_HUGE)
		stats->huge += bytes;
	if (state & PAGES_SHARED) {
		stats->shared += bytes;
		stats->share += bytes * join->share;
	}
}

static void add_to_part(struct join *join, uint32_t index, uint64_t bytes, uint32_t state)
{
	struct mematlas_part *part = &join->collector->parts[index];

	part->resident_bytes += bytes;
	if (state & PAGES_SHARED) {
		part->shared_bytes += bytes;
		part->share_bytes += (double)bytes * join->share;
	}
}

/* Private memory that another process maps, too: a fork shares it until one of both writes to it. */
static bool is_copy_on_write(const struct join *join, uint32_t part, uint32_t state)
{
	return (state & (PAGES_SHARED | PAGES_FILE | PAGES_RESIDENT)) ==
		       (PAGES_SHARED | PAGES_RESIDENT) &&
	       part != join->tracer_part;
}

/* The mean is known of a mapping, not the number of each page. A mean of two is the number of each, and so is that of
 * all who may share: no page has fewer, or more. */
static struct sharers sharers_of(const struct join *join)
{
	uint32_t mean = join->class.copies ? 0 : join->processes, all = join->family;

	if (mean == 2 || (mean && mean == all))
		return (struct sharers){mean, mean};
	if (all > 2 && (join->class.copies || join->share * (float)all > 1))
		return (struct sharers){2, all};
	return (struct sharers){0, 0};
}

/* The part of memory shared copy-on-write, by the number of processes. File pages have a share in the mean of a
 * private file mapping. */
static uint32_t cow_part(struct join *join)
{
	struct sharers sharers = sharers_of(join), before = join->cow_sharers;
	char name[64] = "several processes";

	if (sharers.least == before.least && sharers.most == before.most)
		return join->cow_part;
	if (sharers.least < sharers.most)
		snprintf(name, sizeof name, "%u to %u processes", sharers.least, sharers.most);
	else if (sharers.most)
		snprintf(name, sizeof name, "%u processes", sharers.most);
	join->cow_part = part_index(join, MEMATLAS_PART_COW, name);
	join->cow_sharers = sharers;
	return join->cow_part;
}

static void add_to_block(struct join *join, struct place place, const struct span *span,
			 uint64_t bytes, uint32_t state)
{
	struct weight weight =
		weight_of(join->process->state.mean, span->end - span->start, span->always);
	struct pool_stats *pool_stats = &join->pools[place.pool];
	double estimate = (double)bytes * weight.count;

	add_to_stack(join, span->stats, estimate, state);
	if (!(state & PAGES_RESIDENT))
		return;
	if (is_copy_on_write(join, place.part, state)) {
		add_to_part(join, cow_part(join), bytes, state);
		return;
	}
	pool_stats->covered += bytes;
	pool_stats->estimate += estimate;
	pool_stats->variance += estimate * estimate * (1 - 1 / weight.count);
}

/* The statistics that uncovered bytes of an owner count for. Of a private file mapping, the written pages
 * are the process's own memory and the others are the file's. */
static uint32_t stats_of_owner(struct join *join, const struct span *owner, uint32_t state)
{
	struct state *process = &join->process->state;

	if (owner->owner != OWNER_FILEMAP || state & PAGES_FILE)
		return owner->stats;
	return stack_stats_find(process, process->stats.items[owner->stats].node,
				MEMATLAS_KIND_COPY);
}

static bool has_stack(const struct span *owner)
{
	return owner && owner->owner != OWNER_ALLOCATOR && owner->owner != OWNER_PYMALLOC &&
	       owner->owner != OWNER_TRACER;
}

/* Bytes that no block covers. */
static void add_to_class(struct join *join, struct place place, uint64_t bytes, uint32_t state)
{
	if (has_stack(place.owner))
		add_to_stack(join, stats_of_owner(join, place.owner, state), (double)bytes, state);
	if (!(state & PAGES_RESIDENT))
		return;
	if (is_copy_on_write(join, place.part, state))
		add_to_part(join, cow_part(join), bytes, state);
	else if (place.pool == POOL_NONE)
		add_to_part(join, place.part, bytes, state);
	else
		join->pools[place.pool].uncovered += bytes;
}

/* Bytes that no block covers and that were resident when tracing began; false: counts as other bytes do. */
static bool add_to_before(struct join *join, struct place place, uint64_t bytes, uint32_t state)
{
	if (place.pool == POOL_USER || (place.pool == POOL_NONE && place.part != join->anon_part) ||
	    is_copy_on_write(join, place.part, state))
		return false;
	if (state & PAGES_RESIDENT && place.pool == POOL_NONE)
		add_to_part(join, join->before_part, bytes, state);
	else if (state & PAGES_RESIDENT)
		join->pools[place.pool].before += bytes;
	return true;
}

/* The pool an address belongs to. If the mapping contradicts the recorded owner, the owner is
 * stale. */
static enum pool pool_of(const struct join *join, uint32_t state, const struct span **owner,
			 uint32_t *part)
{
	static const enum pool pools[] = {
		[OWNER_USER] = POOL_USER,
		[OWNER_ALLOCATOR] = POOL_ALLOCATOR,
		[OWNER_PYMALLOC] = POOL_PYMALLOC,
	};
	const struct vma_class *class = &join->class;

	bool written = class->copies && !(state & PAGES_FILE);
	*part = written ? class->copies - 1 : class->part;
	if (!*owner)
		return class->pool;
	bool is_file = (*owner)->owner == OWNER_FILEMAP || (*owner)->owner == OWNER_SHARED;
	if (is_file != !class->anonymous) {
		*owner = NULL;
		return class->pool;
	}
	if (is_file)
		return class->pool;
	if ((*owner)->owner == OWNER_TRACER || (*owner)->owner == OWNER_STACK) {
		*part = (*owner)->owner == OWNER_TRACER ? join->tracer_part : join->stack_part;
		return POOL_NONE;
	}
	return pools[(*owner)->owner];
}

static void sweep_touches(struct join *join, struct place place, uint64_t at, uint64_t until)
{
	if (place.pool == POOL_USER)
		touches_sweep(join, place.owner->stats, at, until);
	else if (place.pool == POOL_NONE && place.part == join->anon_part)
		touches_sweep(join, NO_OWNER, at, until);
}

/* Hands the rows to the collector, for which they stay until the next snapshot. */
static void keep_touched(struct join *join, struct mematlas_account *account)
{
	struct fault_sites before = join->collector->touched;

	join->collector->touched = join->touched;
	join->touched = before; /* freed with the join */
	account->touched = join->collector->touched.count;
}

/* Counts the bytes from `at` up to where a block or memory from before begins or ends, which is returned. */
static uint64_t sweep_span(struct join *join, struct place place, uint64_t at, uint64_t until,
			   uint32_t state)
{
	const struct span *block = span_at(&join->blocks, at, &until);
	const struct span *before = span_at(&join->before, at, &until);

	if (!block && before && add_to_before(join, place, until - at, state))
		return until;
	if (state & PAGES_RESIDENT && !is_copy_on_write(join, place.part, state))
		fragmentation_add(join, place.pool, block, at, until);
	if (block)
		add_to_block(join, place, block, until - at, state);
	else
		add_to_class(join, place, until - at, state);
	if (!block && state & PAGES_RESIDENT)
		sweep_touches(join, place, at, until);
	return until;
}

static void sweep_run(struct join *join, uint64_t at, uint64_t end, uint32_t state)
{
	while (at < end) {
		uint64_t owned = end;
		uint32_t part;
		const struct span *owner = span_at(&join->owners, at, &owned);
		enum pool pool = pool_of(join, state, &owner, &part);
		while (at < owned)
			at = sweep_span(join, (struct place){pool, part, owner}, at, owned, state);
	}
}

static void sweep(struct join *join)
{
	size_t run = 0;

	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		join->class = vma_class_of(join, i);
		if (vma->no_pages)
			continue;
		while (run < join->runs.count && join->runs.items[run].end <= vma->start)
			run++;
		for (size_t r = run; r < join->runs.count && join->runs.items[r].start < vma->end;
		     r++) {
			const struct run *pages = &join->runs.items[r];
			join->share = pages->share;
			join->processes = pages->processes;
			sweep_run(join, pages->start > vma->start ? pages->start : vma->start,
				  pages->end < vma->end ? pages->end : vma->end, pages->state);
			run = r;
		}
		if (i % 1024 == 0)
			collector_heartbeat(join->collector);
	}
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* Splits one pool into live and slack. Unsampled blocks may have mappings of their own, which count
 * as anonymous memory. An estimate beyond the pool's resident bytes is taken from there. */
static void split_pool(struct join *join, enum pool pool, double *live, double *variance)
{
	const struct pool_stats *pool_stats = &join->pools[pool];
	double resident =
		(double)(pool_stats->covered + pool_stats->uncovered + pool_stats->before);
	double estimate = pool_stats->estimate;

	if (pool == POOL_NONE || pool == POOL_USER) {
		*live += pool == POOL_NONE ? (double)pool_stats->covered : resident;
		return;
	}
	if (pool == POOL_MAPPED && estimate > resident) {
		struct mematlas_part *anon = &join->collector->parts[join->anon_part];
		double taken = round(least(estimate - resident, (double)anon->resident_bytes));
		anon->resident_bytes -= (uint64_t)taken;
		resident += taken;
	}
	estimate = round(least(estimate, resident));
	*live += estimate;
	*variance += pool_stats->variance;
	double before = round(least((double)pool_stats->before, resident - estimate));
	uint32_t part = part_index(join, MEMATLAS_PART_BEFORE, pool_names[pool]);
	join->collector->parts[part].resident_bytes = (uint64_t)before;
	part = part_index(join, MEMATLAS_PART_SLACK, pool_names[pool]);
	join->collector->parts[part].resident_bytes = (uint64_t)(resident - estimate - before);
	join->collector->parts[part].error_bytes = sqrt(pool_stats->variance);
	join->collector->parts[part].free_page_bytes = pool_stats->free_pages;
	join->collector->parts[part].held_free_bytes = pool_stats->held_free;
}

static uint64_t make_parts(struct join *join)
{
	struct mematlas_collector *collector = join->collector;
	double live = 0, variance = 0;
	uint64_t total = 0;
	uint32_t kept = 0;

	for (enum pool pool = POOL_NONE; pool < POOLS; pool++)
		split_pool(join, pool, &live, &variance);
	uint32_t part = part_index(join, MEMATLAS_PART_LIVE, "live allocations");
	collector->parts[part].resident_bytes = (uint64_t)live;
	collector->parts[part].error_bytes = sqrt(variance);
	for (uint32_t i = 0; i < collector->part_count; i++) {
		total += collector->parts[i].resident_bytes;
		if (collector->parts[i].resident_bytes || collector->parts[i].error_bytes > 0)
			collector->parts[kept++] = collector->parts[i];
	}
	collector->part_count = kept;
	return total;
}

/* Numbers of threads whose stacks are those of each of the statistics. */
static double *count_threads(const struct join *join)
{
	double *threads = calloc(join->process->state.stats.count + 1, sizeof *threads);

	for (size_t i = 0; threads && i < join->owners.count; i++)
		if (join->owners.items[i].owner == OWNER_STACK)
			threads[join->owners.items[i].stats] += 1;
	return threads;
}

static int make_rows(struct join *join)
{
	const struct stack_stats_table *table = &join->process->state.stats;
	struct mematlas_collector *collector = join->collector;
	struct mematlas_snapshot_row *rows = malloc((table->count + 1) * sizeof *rows);

	CLEANUP_FREE double *threads = count_threads(join);
	if (!rows || !threads) {
		free(rows);
		return -ENOMEM;
	}
	free(collector->rows);
	collector->rows = rows;
	collector->row_count = 0;
	for (uint32_t i = 0; i < table->count; i++) {
		const struct stack_stats *stats = &table->items[i];
		double live = rounded(stats->live), count = rounded(stats->live_count) + threads[i];
		if (live == 0 && count == 0 && stats->resident == 0 && stats->swapped == 0)
			continue;
		rows[collector->row_count++] =
			(struct mematlas_snapshot_row){stats->node,
						       stats->kind,
						       live,
						       count,
						       rounded(stats->live_variance),
						       stats->resident,
						       stats->huge,
						       stats->swapped};
	}
	return 0;
}

static void clear_residency(struct stack_stats_table *table)
{
	for (uint32_t i = 0; i < table->count; i++)
		table->items[i].resident = table->items[i].huge = table->items[i].swapped =
			table->items[i].held_free = table->items[i].shared = table->items[i].share =
				0;
}

static int run_join(struct join *join, struct mematlas_account *account)
{
	struct mematlas_collector *collector = join->collector;
	int error = moment_read(join, account);

	if (error)
		return error;
	collector->part_count = 0;
	join->tracer_part = part_index(join, MEMATLAS_PART_TRACER, "mematlas");
	join->stack_part = part_index(join, MEMATLAS_PART_STACK, "other threads");
	join->before_part = part_index(join, MEMATLAS_PART_BEFORE, "unnamed");
	join->anon_part = part_index(join, MEMATLAS_PART_ANON, "unnamed");
	clear_residency(&join->process->state.stats);
	join->page.number = NO_PAGE;
	join->cow_sharers = (struct sharers){1, 1};
	join->family = family_size(collector, join->process);
	sweep(join);
	fragmentation_finish(join);
	uint64_t total = make_parts(join);
	account->unexplained_bytes = (int64_t)account->rss_bytes - (int64_t)total;
	error = make_rows(join);
	if (join->failed)
		error = -ENOMEM;
	account->parts = collector->part_count;
	account->rows = collector->row_count;
	keep_touched(join, account);
	return error;
}

int mematlas_collector_snapshot(struct mematlas_collector *collector, int index,
				struct mematlas_account *account)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	CLEANUP(join_free)
	struct join join = {
		.collector = collector, .process = process, .asked = look_asked(process)};
	double start = clock_monotonic_s();
	look_begins(collector, process, start);
	*account = (struct mematlas_account){.time_s = start - collector->started};
	int error = process->dir < 0 ? -ESRCH : run_join(&join, account);
	if (error)
		look_failed(process, join.asked);
	if (!error)
		discover_modules(&join);
	account->cost_s = clock_monotonic_s() - start;
	process->next_interval = clock_monotonic_s() + collector->settings.interval_s;
	return error;
}
