/* The table of traced processes. */
#include <stdlib.h>

#include "../array.h"
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

static bool has_parents_memory(const struct process *process)
{
	const struct trace_process *shared = process->shared;

	return process->fork_serial ||
	       (shared && __atomic_load_n(&shared->attached, __ATOMIC_RELAXED));
}

/* A parent precedes its children in the table, so that this ends. */
static int family_of(const struct mematlas_collector *collector, const struct process *process)
{
	while (has_parents_memory(process) && process->parent >= 0 &&
	       process->parent < process->index)
		process = collector->processes[process->parent];
	return process->index;
}

uint32_t family_size(const struct mematlas_collector *collector, const struct process *process)
{
	int family = family_of(collector, process);
	uint32_t count = 0;

	for (uint32_t i = 0; i < collector->count; i++) {
		const struct process *other = collector->processes[i];
		if (other->ending == MEMATLAS_RUNNING && !other->dead &&
		    family_of(collector, other) == family)
			count++;
	}
	return count ? count : 1;
}
