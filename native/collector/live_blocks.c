/* The live blocks of a process, copied out as rows. */
#include <errno.h>

#include "collector.h"

static struct mematlas_live_block row_of(const struct state *state, uint64_t key,
					 const struct block_info *info)
{
	const struct stack_stats *stats = &state->stats.items[info->stats];

	return (struct mematlas_live_block){TRACE_ADDRESS(key), info->size, stats->node,
					    stats->kind};
}

int64_t mematlas_collector_live_blocks(struct mematlas_collector *collector, int index,
				       struct mematlas_live_block *rows, uint64_t capacity)
{
	const struct process *process = process_active_at(collector, index);
	uint64_t count = 0;

	if (!process || !process->mapped)
		return -ESRCH;
	collector_drain(collector);
	struct blocks_cursor cursor = {0};
	const struct block_info *info;
	uint64_t key;
	while ((info = blocks_next(&process->state.blocks, &cursor, &key))) {
		if (count < capacity)
			rows[count] = row_of(&process->state, key, info);
		count++;
	}
	return (int64_t)count;
}
