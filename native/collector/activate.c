/* Sets up a found process so that its records can be read: its parent, its state, its previous
 * image. */
#include <errno.h>

#include "collector.h"

#define FORK_SETTLES_S 0.02 /* most children of a build exec or end before */

static struct process *find_traced(const struct mematlas_collector *collector, int pid,
				   const struct process *except)
{
	for (uint32_t i = collector->count; i-- > 0;) {
		struct process *process = collector->processes[i];
		if (process != except && process->pid == pid)
			return process;
	}
	return NULL;
}

static struct process *find_image(const struct mematlas_collector *collector, uint64_t image)
{
	for (uint32_t i = collector->count; image && i-- > 0;)
		if (collector->processes[i]->image == image)
			return collector->processes[i];
	return NULL;
}

/* After an exec, the previous image of the same PID has ended. */
void replace_image(struct mematlas_collector *collector, const struct process *process)
{
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *other = collector->processes[i];
		if (other != process && other->active && other->ending == MEMATLAS_RUNNING &&
		    other->pid == process->pid)
			process_end(collector, other, MEMATLAS_EXECED);
	}
}

static bool has_earlier_image(const struct mematlas_collector *collector,
			      const struct process *process)
{
	for (uint32_t i = 0; collector->processes[i] != process; i++) {
		const struct process *other = collector->processes[i];
		if (!other->active && other->pid == process->pid)
			return true;
	}
	return false;
}

/* A child may be found in the same round as its parent, whose FORK record is then not read yet. The image that the
 * child goes on to exec waits too, since it ends the child's. */
static bool must_wait(const struct mematlas_collector *collector, const struct process *process)
{
	if (has_earlier_image(collector, process))
		return true;
	const struct process *parent =
		process->fork_serial ? find_image(collector, process->fork_image) : NULL;

	return parent && (!parent->active || parent->activated_in == collector->round);
}

static int find_parent(const struct mematlas_collector *collector, const struct process *process)
{
	const struct process *parent = find_image(collector, process->fork_image);

	if (!parent)
		parent = find_traced(collector, process->parent_pid, process);
	if (parent)
		return parent->index;
	/* After an exec, the parent is the previous image. One that started later is the next. */
	parent = find_traced(collector, process->pid, process);
	return parent && parent->index < process->index ? parent->index : -1;
}

static bool set_up(struct mematlas_collector *collector, struct process *process)
{
	uint64_t start = __atomic_load_n(&process->shared->start, __ATOMIC_RELAXED);
	double mean = collector->settings.exact ? 0 : (double)collector->settings.sample_bytes;

	process->start_s = clock_since_start_s(collector, start);
	process->parent = find_parent(collector, process);
	process->family = family_of(collector, process);
	process->inherited = clone_claim(collector, process, &process->state);
	if (process->inherited) /* nothing is its own yet; before it frees, it asks for a look */
		process->next_peak = clock_monotonic_s() + FORK_SETTLES_S;
	if (!process->inherited && !state_init(&process->state, mean))
		return false;
	process->state.trie.most = collector->settings.most_nodes;
	process->state.finds_owners = collector->settings.fault_period != 0;
	return true;
}

void collector_activate(struct mematlas_collector *collector)
{
	if (!collector->new_process)
		return;
	collector->new_process = false;
	for (uint32_t i = 0; i < collector->count; i++) {
		struct process *process = collector->processes[i];
		if (process->active)
			continue;
		if (must_wait(collector, process)) {
			collector->new_process = true;
			continue;
		}
		if (!event_push(collector, MEMATLAS_EVENT_PROCESS, process->index)) {
			collector->new_process = true;
			return;
		}
		if (!set_up(collector, process)) {
			collector->error = -ENOMEM;
			return;
		}
		replace_image(collector, process);
		if (__atomic_load_n(&process->shared->attached, __ATOMIC_RELAXED))
			before_read(collector, process, true);
		process->active = true;
		process->activated_in = collector->round;
	}
}
