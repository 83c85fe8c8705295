/* The table of traced processes. */
#include <stdlib.h>

#include "array.h"
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
	if (!ARRAY_RESERVE(collector->processes, collector->count, collector->capacity, 16))
		return false;
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

/* A directory has no order; processes are numbered in the order of their start. */
void processes_sort(struct mematlas_collector *collector, uint32_t first)
{
	if (collector->count == first)
		return;
	qsort(collector->processes + first, collector->count - first, sizeof(struct process *),
	      by_start);
	for (uint32_t i = first; i < collector->count; i++)
		collector->processes[i]->index = (int)i;
}
