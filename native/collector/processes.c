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
