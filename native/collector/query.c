/* The state of a process, copied out as rows. */
#include <errno.h>
#include <string.h>

#include "collector.h"

_Static_assert(sizeof(((struct mematlas_traced *)0)->left) ==
		       sizeof(((struct trace_process *)0)->left),
	       "the same kinds");

/* The traced process may write anything into its strings, so they are truncated and terminated
 * here. */
static void copy_shared(const struct trace_process *shared, struct mematlas_traced *traced)
{
	traced->python_version = shared->python_version;
	traced->python_hooked = shared->python_hooked;
	traced->python_free_threaded = shared->python_free_threaded;
	traced->looks_missed = __atomic_load_n(&shared->looks_missed, __ATOMIC_RELAXED);
	traced->stalls = shared->stalls;
	traced->untraced_threads = shared->untraced_threads;
	traced->sharing_threads = shared->sharing_threads;
	memcpy(traced->left, shared->left, sizeof traced->left);
	traced->lost_events = __atomic_load_n(&shared->lost_events, __ATOMIC_RELAXED);
	traced->exits_missed = __atomic_load_n(&shared->exits_missed, __ATOMIC_RELAXED);
	traced->own_malloc = shared->own_malloc;
	traced->disabled = __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == TRACE_DISABLED;
	traced->attached = shared->attached;
	traced->detached = traced->disabled && strcmp(shared->reason, TRACE_DETACHED) == 0;
	traced->faults = __atomic_load_n(&shared->faults, __ATOMIC_ACQUIRE);
	if (traced->faults > TRACE_FAULTS_ENDED)
		traced->faults = TRACE_FAULTS_OFF;
	traced->faults_lost = __atomic_load_n(&shared->faults_lost, __ATOMIC_RELAXED);
	memcpy(traced->faults_reason, shared->faults_reason, sizeof traced->faults_reason - 1);
	memcpy(traced->reason, shared->reason, sizeof traced->reason - 1);
	memcpy(traced->executable, shared->executable, sizeof traced->executable - 1);
	memcpy(traced->command, shared->command, sizeof traced->command - 2);
}

int mematlas_collector_process(struct mematlas_collector *collector, int index,
			       struct mematlas_traced *traced)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct state *state = &process->state;
	process_read_status(process);
	*traced = (struct mematlas_traced){
		.pid = process->pid,
		.parent_pid = process->parent_pid,
		.inner_pid = process->inner_pid,
		.parent = process->parent,
		.ending = process->ending,
		.status = process->status,
		.inherited = process->inherited,
		.forked = process->fork_serial != 0,
		.start_s = process->start_s,
		.end_s = process->end_s,
		.live_bytes = state->live,
		.peak_bytes = state->peak,
		.peak_s = clock_since_start_s(collector, state->peak_time),
		.rss_bytes = process->rss,
		.peak_rss_bytes = process->high_rss,
		.events = process->events,
		.unknown_frees = process->unknown_frees,
		.marks_lost = process->marks_lost,
		.broken_rings = process->broken_rings,
		.nodes = state->trie.count,
		.codes = state->codes.count,
		.modules = state->modules.count,
		.totals = state->stats.count,
		.cut_stacks = state->cut_stacks,
		.has_cut = state->has_cut,
		.timeline = process->timeline_count,
		.fault_sites = process->fault_sites.count,
		.fault_parts = process->fault_sites.part_count,
		.fault_samples = process->fault_sites.samples,
	};
	copy_shared(process->shared, traced);
	return 0;
}

int64_t mematlas_collector_nodes(struct mematlas_collector *collector, int index, uint64_t from,
				 struct mematlas_node *rows, uint64_t capacity)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct trie *trie = &process->state.trie;
	uint64_t count = from < trie->count ? trie->count - from : 0;
	if (count > capacity)
		count = capacity;
	if (count)
		memcpy(rows, trie->nodes + from, count * sizeof *rows);
	for (uint64_t i = 0; i < count; i++)
		rows[i].hash = 0; /* recordings are compressed */
	return (int64_t)count;
}

struct mematlas_total total_of(const struct state *state, const struct stack_stats *stats)
{
	bool counts = counts_as_live(stats->kind);
	bool unchanged = stats->epoch != state->epoch; /* since the peak: see struct stack_stats */

	return (struct mematlas_total){
		.stack = stats->node,
		.kind = stats->kind,
		.allocated_bytes = stats->allocated,
		.allocations = stats->allocations,
		.allocated_variance = stats->allocated_variance,
		.freed_bytes = rounded(stats->freed),
		.peak_bytes = counts ? rounded(unchanged ? stats->live : stats->peak) : 0,
		.peak_count =
			counts ? rounded(unchanged ? stats->live_count : stats->peak_count) : 0,
		.peak_variance =
			counts ? rounded(unchanged ? stats->live_variance : stats->peak_variance)
			       : 0,
		.live_bytes = rounded(stats->live),
		.live_count = rounded(stats->live_count),
		.live_variance = rounded(stats->live_variance),
		.bad_frees = stats->bad_frees,
	};
}

int64_t mematlas_collector_totals(struct mematlas_collector *collector, int index,
				  struct mematlas_total *rows, uint64_t capacity)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct stack_stats_table *table = &process->state.stats;
	uint64_t count = table->count < capacity ? table->count : capacity;
	for (uint64_t i = 0; i < count; i++)
		rows[i] = total_of(&process->state, &table->items[i]);
	return (int64_t)count;
}

int64_t mematlas_collector_fault_sites(struct mematlas_collector *collector, int index,
				       struct mematlas_fault_site *rows, uint64_t capacity)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	uint64_t count =
		process->fault_sites.count < capacity ? process->fault_sites.count : capacity;
	if (count)
		memcpy(rows, process->fault_sites.items, count * sizeof *rows);
	return (int64_t)count;
}

int mematlas_collector_fault_part(struct mematlas_collector *collector, int index, uint64_t number,
				  struct mematlas_part *part)
{
	const struct process *process = process_active_at(collector, index);

	if (!process || number >= process->fault_sites.part_count)
		return -ESRCH;
	*part = process->fault_sites.parts[number];
	return 0;
}

int mematlas_collector_module(struct mematlas_collector *collector, int index, uint64_t number,
			      struct mematlas_module *module)
{
	const struct process *process = process_active_at(collector, index);

	if (!process || number >= process->state.modules.count)
		return -ESRCH;
	*module = process->state.modules.items[number];
	return 0;
}

int mematlas_collector_code(struct mematlas_collector *collector, int index, uint64_t number,
			    struct mematlas_code *out)
{
	const struct process *process = process_active_at(collector, index);

	if (!process || number >= process->state.codes.count)
		return -ESRCH;
	const struct code *code = &process->state.codes.items[number];
	*out = (struct mematlas_code){
		.name = code->bytes,
		.file = code->bytes + code->name,
		.table = code->bytes + code->name + code->file,
		.name_length = code->name,
		.file_length = code->file,
		.table_length = code->table,
		.first_line = code->first_line,
		.format = code->format,
	};
	return 0;
}

int64_t mematlas_collector_timeline(struct mematlas_collector *collector, int index,
				    struct mematlas_sample *rows, uint64_t capacity)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	uint64_t count = process->timeline_count < capacity ? process->timeline_count : capacity;
	if (count)
		memcpy(rows, process->timeline, count * sizeof *rows);
	process->timeline_count -= (uint32_t)count;
	if (process->timeline_count)
		memmove(process->timeline, process->timeline + count,
			process->timeline_count * sizeof *rows);
	return (int64_t)count;
}

int mematlas_collector_release(struct mematlas_collector *collector, int index)
{
	struct process *process = process_at(collector, index);

	if (!process)
		return -ESRCH;
	process->let_go = true;
	__atomic_store_n(&process->shared->released, 1, __ATOMIC_RELEASE);
	return 0;
}

int64_t mematlas_collector_rows(struct mematlas_collector *collector,
				struct mematlas_snapshot_row *rows, uint64_t capacity)
{
	uint64_t count = collector->row_count < capacity ? collector->row_count : capacity;

	if (count)
		memcpy(rows, collector->rows, count * sizeof *rows);
	return (int64_t)count;
}

int64_t mematlas_collector_parts(struct mematlas_collector *collector, struct mematlas_part *parts,
				 uint64_t capacity)
{
	uint64_t count = collector->part_count < capacity ? collector->part_count : capacity;

	if (count)
		memcpy(parts, collector->parts, count * sizeof *parts);
	return (int64_t)count;
}
