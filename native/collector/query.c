/* What the collector knows, as rows. */
#include <errno.h>
#include <string.h>

#include "collector.h"

/* Strings of the other side: cut, and ended, whatever it wrote. */
static void describe(const struct trace_process *shared, struct mematlas_traced *traced)
{
	traced->pid = shared->pid;
	traced->parent_pid = shared->parent_pid;
	traced->python_version = shared->python_version;
	traced->python_hooked = shared->python_hooked;
	traced->python_free_threaded = shared->python_free_threaded;
	traced->stalls = shared->stalls;
	traced->untraced_threads = shared->untraced_threads;
	traced->sharing_threads = shared->sharing_threads;
	traced->left_behind = shared->left_behind;
	traced->own_malloc = shared->own_malloc;
	traced->disabled = __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == TRACE_DISABLED;
	traced->attached = shared->attached;
	traced->detached = traced->disabled && strcmp(shared->reason, TRACE_DETACHED) == 0;
	traced->faults = __atomic_load_n(&shared->faults, __ATOMIC_ACQUIRE);
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
	process_ask_status(process);
	*traced = (struct mematlas_traced){
		.parent = process->parent,
		.ending = process->ending,
		.status = process->status,
		.inherited = process->inherited,
		.start_s = process->start_s,
		.end_s = process->end_s,
		.live_bytes = state->live,
		.peak_bytes = state->peak,
		.peak_s = clock_since_start_s(collector, state->peak_time),
		.rss_bytes = process->rss,
		.events = process->events,
		.unknown_frees = process->unknown_frees,
		.broken_rings = process->broken_rings,
		.nodes = state->trie.count,
		.codes = state->codes.count,
		.modules = state->modules.count,
		.totals = state->sums.count,
		.timeline = process->timeline_count,
		.touches = process->touches.count,
		.places = process->touches.place_count,
		.fault_samples = process->touches.samples,
	};
	describe(process->shared, traced);
	return 0;
}

int64_t mematlas_collector_nodes(struct mematlas_collector *collector, int index, uint64_t from,
				 struct mematlas_node *rows, uint64_t room)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct trie *trie = &process->state.trie;
	uint64_t count = from < trie->count ? trie->count - from : 0;
	if (count > room)
		count = room;
	if (count)
		memcpy(rows, trie->nodes + from, count * sizeof *rows);
	return (int64_t)count;
}

/* Estimates added up and taken away again leave dust. */
static double swept(double value)
{
	return fabs(value) < 1e-3 ? 0 : value;
}

static struct mematlas_total total_of(const struct state *state, const struct sum *sum)
{
	bool counts = counts_as_live(sum->kind);
	bool unchanged =
		sum->seen != state->epoch; /* since the peak: what it holds now is what it held */

	return (struct mematlas_total){
		.stack = sum->node,
		.kind = sum->kind,
		.allocated_bytes = sum->allocated,
		.allocations = sum->allocations,
		.allocated_variance = sum->allocated_variance,
		.freed_bytes = swept(sum->freed),
		.peak_bytes = counts ? swept(unchanged ? sum->live : sum->peak) : 0,
		.peak_count = counts ? swept(unchanged ? sum->live_count : sum->peak_count) : 0,
		.peak_variance =
			counts ? swept(unchanged ? sum->live_variance : sum->peak_variance) : 0,
		.live_bytes = swept(sum->live),
		.live_count = swept(sum->live_count),
		.live_variance = swept(sum->live_variance),
		.bad_frees = sum->bad_frees,
	};
}

int64_t mematlas_collector_totals(struct mematlas_collector *collector, int index,
				  struct mematlas_total *rows, uint64_t room)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	const struct sums *sums = &process->state.sums;
	uint64_t count = sums->count < room ? sums->count : room;
	for (uint64_t i = 0; i < count; i++)
		rows[i] = total_of(&process->state, &sums->items[i]);
	return (int64_t)count;
}

int64_t mematlas_collector_touches(struct mematlas_collector *collector, int index,
				   struct mematlas_touch *rows, uint64_t room)
{
	const struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	uint64_t count = process->touches.count < room ? process->touches.count : room;
	if (count)
		memcpy(rows, process->touches.items, count * sizeof *rows);
	return (int64_t)count;
}

int mematlas_collector_place(struct mematlas_collector *collector, int index, uint64_t number,
			     struct mematlas_part *place)
{
	const struct process *process = process_active_at(collector, index);

	if (!process || number >= process->touches.place_count)
		return -ESRCH;
	*place = process->touches.places[number];
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
				    struct mematlas_moment *rows, uint64_t room)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	uint64_t count = process->timeline_count < room ? process->timeline_count : room;
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
	__atomic_store_n(&process->shared->released, 1, __ATOMIC_RELEASE);
	return 0;
}

int64_t mematlas_collector_rows(struct mematlas_collector *collector, struct mematlas_held *rows,
				uint64_t room)
{
	uint64_t count = collector->row_count < room ? collector->row_count : room;

	if (count)
		memcpy(rows, collector->rows, count * sizeof *rows);
	return (int64_t)count;
}

int64_t mematlas_collector_parts(struct mematlas_collector *collector, struct mematlas_part *parts,
				 uint64_t room)
{
	uint64_t count = collector->part_count < room ? collector->part_count : room;

	if (count)
		memcpy(parts, collector->parts, count * sizeof *parts);
	return (int64_t)count;
}
