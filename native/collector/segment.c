/* Segments of a recording that goes on for weeks: each holds what is live at its begin and what happens from
 * there on. */
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "../cleanup.h"
#include "collector.h"

/* The tracer may still use any ID that it has defined. */
static void mark_ring(const struct ring *ring, struct kept *kept)
{
	for (uint32_t i = 0; i < ring->stacks_capacity; i++)
		kept->nodes[ring->stacks[i][0]] = 1;
	for (uint32_t i = 0; i < ring->codes_capacity; i++)
		if (ring->codes[i].lap == ring->code_lap)
			kept->codes[ring->codes[i].code] = 1;
	if (ring->freed.key)
		kept->stats[ring->freed.info.stats] = 1;
}

static void renumber_ring(struct ring *ring, const struct kept *kept)
{
	for (uint32_t i = 0; i < ring->stacks_capacity; i++) {
		uint32_t node = kept->nodes[ring->stacks[i][0]];
		memset(ring->stacks[i], 0, sizeof ring->stacks[i]);
		ring->stacks[i][0] = node;
	}
	for (uint32_t i = 0; i < ring->codes_capacity; i++)
		ring->codes[i].code =
			ring->codes[i].lap == ring->code_lap ? kept->codes[ring->codes[i].code] : 0;
	if (ring->freed.key)
		ring->freed.info.stats = kept->stats[ring->freed.info.stats] - 1;
	ring->path_count = 0; /* its words hold code IDs of before */
	ring->fault_site = 0;
	ring->fault_page = 0;
}

/* The frees that later ones of the same blocks are told by. The stacks of their blocks may be forgotten. */
static uint64_t freed_length(const struct bad_frees *bad_frees)
{
	if (!bad_frees->freed)
		return 0;
	return bad_frees->freed_count < FREED_LOG ? bad_frees->freed_count : FREED_LOG;
}

static void renumber_process(struct process *process, const struct kept *kept)
{
	for (uint32_t i = 0; i < process->ring_count; i++)
		renumber_ring(&process->rings[i], kept);
	for (uint64_t i = 0; i < freed_length(&process->bad_frees); i++) {
		struct block_info *info = &process->bad_frees.freed[i].block.info;
		info->stats = info->stats == NO_STATS ? NO_STATS : kept->stats[info->stats] - 1;
	}
	process->bad_frees.count = 0;
	process->bad_frees.searched = 0;
}

int mematlas_collector_begin_segment(struct mematlas_collector *collector, int index)
{
	__attribute__((cleanup(kept_free))) struct kept kept = {0};
	struct process *process = process_active_at(collector, index);

	if (!process || !process->mapped)
		return -ESRCH;
	if (!kept_init(&kept, &process->state))
		return -ENOMEM;
	for (uint32_t i = 0; i < process->ring_count; i++)
		mark_ring(&process->rings[i], &kept);
	state_compact(&process->state, &kept, clock_read(collector));
	renumber_process(process, &kept);
	fault_sites_clear(&process->fault_sites);
	free(collector->age_cells);
	collector->age_cells = NULL;
	malloc_trim(0); /* the tables of a segment with very many stacks are gone */
	return 0;
}

int64_t mematlas_collector_news(struct mematlas_collector *collector, int index,
				struct mematlas_total *rows, uint64_t capacity)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	struct stack_stats_table *table = &process->state.stats;
	uint64_t count = 0;
	for (uint32_t i = 0; i < table->count && count < capacity; i++) {
		struct stack_stats *stats = &table->items[i];
		if (!stats_is_news(stats))
			continue;
		rows[count++] = total_of(&process->state, stats);
		stats->told_allocations = stats->allocations;
		stats->told_freed = stats->freed;
		stats->told_live_count = stats->live_count;
		stats->told_bad_frees = stats->bad_frees;
	}
	return (int64_t)count;
}
