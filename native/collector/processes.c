/* The table of traced processes. */
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "collector.h"

/* The first place whose process has that index or a higher one. */
static uint32_t position_of(const struct mematlas_collector *collector, int index)
{
	uint32_t low = 0, high = collector->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (collector->processes[middle]->index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct process *process_at(const struct mematlas_collector *collector, int index)
{
	uint32_t at = position_of(collector, index);

	if (at == collector->count || collector->processes[at]->index != index)
		return NULL;
	return collector->processes[at];
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
	process->index = process->family = collector->next_index++;
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

int family_of(const struct mematlas_collector *collector, const struct process *process)
{
	const struct process *parent = process_at(collector, process->parent);

	return parent && has_parents_memory(process) ? parent->family : process->index;
}

uint32_t family_size(const struct mematlas_collector *collector, const struct process *process)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < collector->count; i++) {
		const struct process *other = collector->processes[i];
		if (other->ending == MEMATLAS_RUNNING && !other->dead &&
		    other->family == process->family)
			count++;
	}
	return count ? count : 1;
}

void processes_remove(struct mematlas_collector *collector, const struct process *process)
{
	uint32_t after = position_of(collector, process->index) + 1;

	memmove(&collector->processes[after - 1], &collector->processes[after],
		(collector->count - after) * sizeof *collector->processes);
	collector->count--;
}
