/* Copies of the state at a fork, kept until the child names them. */
#include <string.h>

#include "collector.h"

#define EXPIRE_S 15.0 /* the child was never traced */

static void remove_clone(struct mematlas_collector *collector, uint32_t index)
{
	collector->clone_count--;
	memmove(&collector->clones[index], &collector->clones[index + 1],
		(collector->clone_count - index) * sizeof(struct clone));
}

void clone_make(struct mematlas_collector *collector, const struct process *process, uint64_t time,
		uint64_t serial)
{
	if (collector->clone_count == MAX_CLONES) {
		state_free(&collector->clones[0].state);
		remove_clone(collector, 0);
	}
	struct clone *clone = &collector->clones[collector->clone_count];
	if (state_copy(&clone->state, &process->state, time) < 0)
		return;
	clone->image = process->image;
	clone->serial = serial;
	clone->made = clock_monotonic_s();
	collector->clone_count++;
}

static int find(const struct mematlas_collector *collector, uint64_t image, uint64_t serial)
{
	for (uint32_t i = collector->clone_count; i-- > 0;)
		if (collector->clones[i].image == image && collector->clones[i].serial == serial)
			return (int)i;
	return -1;
}

void clone_drop(struct mematlas_collector *collector, uint64_t image, uint64_t serial)
{
	int index = find(collector, image, serial);

	if (index >= 0) {
		state_free(&collector->clones[index].state);
		remove_clone(collector, (uint32_t)index);
	}
}

bool clone_claim(struct mematlas_collector *collector, const struct process *child,
		 struct state *ret)
{
	int index =
		child->fork_serial ? find(collector, child->fork_image, child->fork_serial) : -1;

	if (index < 0)
		return false;
	*ret = collector->clones[index].state;
	remove_clone(collector, (uint32_t)index);
	return true;
}

void clones_expire(struct mematlas_collector *collector, double now)
{
	while (collector->clone_count > 0 && collector->clones[0].made + EXPIRE_S < now) {
		state_free(&collector->clones[0].state);
		remove_clone(collector, 0);
	}
}
