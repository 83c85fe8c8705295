/* The table of traced processes: lookup by index, order of appearance, activation. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector.h"

struct process *process_at(const struct mematlas_collector *collector, int index)
{
	if (index < 0 || (uint32_t)index >= collector->count)
		return NULL;
	return collector->processes[index];
}

struct process *process_active_at(const struct mematlas_collector *collector, int index)
{
	struct process *process = process_at(collector, index);

	return process && process->active ? process : NULL;
}

bool processes_add(struct mematlas_collector *collector, struct process *process)
{
	if (collector->count == collector->room) {
		uint32_t room = collector->room ? collector->room * 2 : 16;
		struct process **larger = realloc(collector->processes, room * sizeof *larger);
		if (!larger)
			return false;
		collector->processes = larger;
		collector->room = room;
	}
	process->index = (int)collector->count;
	collector->processes[collector->count++] = process;
	collector->new_process = true;
	return true;
}

static int by_start(const void *a, const void *b)
{
	uint64_t one = (*(struct process *const *)a)->shared->start;
	uint64_t other = (*(struct process *const *)b)->shared->start;

	return (one > other) - (one < other);
}

/* Directories have no order; processes appear in that of their start. */
void processes_sort(struct mematlas_collector *collector, uint32_t first)
{
	if (collector->count == first)
		return;
	qsort(collector->processes + first, collector->count - first, sizeof(struct process *),
	      by_start);
	for (uint32_t i = first; i < collector->count; i++)
		collector->processes[i]->index = (int)i;
}
