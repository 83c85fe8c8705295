/* First touches of memory that was mapped without saying for what: by an allocator inside a program or a
 * library, or unseen. Of each sampled page fault there the page and the stack are kept, until the page is
 * given back. The residency join adds up those that are still resident.
 *
 * Each sample stands for `weight` faults: an unbiased estimate, whose variance is reported. */
#include <string.h>

#include "sweep.h"

#define MOST_TOUCHES 65536u /* 16 GiB of small pages at the usual period */

static void forget(void *context, const struct range *range, uint64_t bytes, int pieces)
{
	(void)context;
	(void)range;
	(void)bytes;
	(void)pieces;
}

void touches_add(struct state *state, uint64_t address, uint64_t size, uint32_t node,
		 uint32_t weight)
{
	uint64_t start = address & ~(size - 1);
	struct range touch = {.start = start, .end = start + size, .born = weight, .stats = node};

	touches_forget(state, touch.start, touch.end);
	if (state->touches.count < MOST_TOUCHES && !ranges_insert(&state->touches, &touch))
		state->out_of_memory = true;
}

void touches_forget(struct state *state, uint64_t start, uint64_t end)
{
	if (state->touches.count && end > start &&
	    !ranges_remove(&state->touches, start, end, forget, NULL))
		state->out_of_memory = true;
}

/* The statistics `owner` are of the stack that mapped the memory; NO_OWNER: it is unknown. */
void touches_sweep(struct join *join, uint32_t owner, uint64_t at, uint64_t until)
{
	const struct state *state = &join->process->state;
	const struct ranges *touches = &state->touches;
	struct mematlas_fault_site key = {0};

	if (owner != NO_OWNER) {
		key.owner = state->stats.items[owner].node;
		key.kind = state->stats.items[owner].kind;
	}
	for (size_t i = touches->count ? ranges_find(touches, at) : 0;
	     i < touches->count && touches->items[i].start < until; i++) {
		const struct range *touch = &touches->items[i];
		uint64_t from = touch->start > at ? touch->start : at;
		uint64_t to = touch->end < until ? touch->end : until;
		double weight = (double)touch->born, bytes = (double)(to - from);
		key.stack = touch->stats;
		struct mematlas_fault_site *site = fault_sites_find(&join->touched, &key);
		if (!site) {
			join->failed = true;
			return;
		}
		site->faults += weight;
		site->bytes += bytes * weight;
		site->bytes_variance += bytes * bytes * weight * (weight - 1);
	}
}

int64_t mematlas_collector_touched(struct mematlas_collector *collector,
				   struct mematlas_fault_site *rows, uint64_t capacity)
{
	uint64_t count = collector->touched.count < capacity ? collector->touched.count : capacity;

	if (count)
		memcpy(rows, collector->touched.items, count * sizeof *rows);
	return (int64_t)count;
}
