/* Memory from before tracing began in a process that was attached to: which anonymous pages were resident
 * then, and which address space was reserved. No block in it is known until it is freed. */
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "../array.h"
#include "sweep.h"

#define LEAST_RESERVED (1u << 20) /* less is a guard area */

static bool is_anonymous(const struct vma *vma)
{
	if (vma->inode || vma->bss || vma->no_pages)
		return false;
	return !*vma->name || strcmp(vma->name, "[heap]") == 0;
}

static bool append(struct ranges *ranges, uint64_t start, uint64_t end)
{
	if (!ARRAY_RESERVE(ranges->items, ranges->count, ranges->capacity, 256))
		return false;
	ranges->items[ranges->count++] = (struct range){.start = start, .end = end};
	return true;
}

/* The parts of the page runs that lie in `vma`. *at is the first run that may. */
static bool add_pages(struct ranges *before, const struct vma *vma, const struct runs *runs,
		      size_t *at)
{
	while (*at < runs->count && runs->items[*at].end <= vma->start)
		(*at)++;
	for (size_t i = *at; i < runs->count && runs->items[i].start < vma->end; i++) {
		const struct run *run = &runs->items[i];
		if (!append(before, run->start > vma->start ? run->start : vma->start,
			    run->end < vma->end ? run->end : vma->end))
			return false;
	}
	return true;
}

/* A kernel without names of anonymous memory does not tell it apart. */
static bool is_of_tracer(const struct trace_process *shared, const struct vma *vma)
{
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++)
		if (shared->private_start[i] < vma->end && vma->start < shared->private_end[i])
			return true;
	return false;
}

/* Reserved by nobody known. The line that commits a part of it will own that. The unused rest of a glibc
 * arena is left out, since libc commits it unseen. */
static void add_reserved(struct process *process, const struct vmas *vmas, size_t at)
{
	struct state *state = &process->state;
	const struct vma *vma = &vmas->items[at];

	if (strncmp(vma->permissions, "---", 3) != 0 || *vma->name ||
	    vma->end - vma->start < LEAST_RESERVED || (at > 0 && is_glibc_arena(vmas, at - 1)) ||
	    is_of_tracer(process->shared, vma))
		return;
	state_map(state, 0,
		  &(struct range){.start = vma->start,
				  .end = vma->end,
				  .stats = stack_stats_find(state, 0, TRACE_MMAP),
				  .kind = TRACE_MMAP,
				  .reserved = 1});
}

static bool add_all(struct process *process, const struct vmas *vmas, const struct runs *runs,
		    bool reserved)
{
	size_t at = 0;

	for (size_t i = 0; i < vmas->count; i++) {
		if (!is_anonymous(&vmas->items[i]))
			continue;
		if (!add_pages(&process->state.before, &vmas->items[i], runs, &at))
			return false;
		if (reserved)
			add_reserved(process, vmas, i);
	}
	return true;
}

void before_read(struct mematlas_collector *collector, struct process *process, bool reserved)
{
	CLEANUP(join_free) struct join join = {.collector = collector, .process = process};

	if (process->dir < 0 || vmas_read(process->dir, &join.vmas) != 0 ||
	    runs_read(collector, process->dir, &join.vmas, &join.runs) != 0)
		return;
	if (!add_all(process, &join.vmas, &join.runs, reserved))
		process->state.out_of_memory = true;
}
