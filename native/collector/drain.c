/* Reads all rings of all processes, merged by time up to a cut.
 *
 * The cut is the clock, read before the heads. A record no newer than the cut depends only on
 * records published before the cut, and the heads read afterwards include those. A newer record may
 * depend on a record behind a head that was read already, so it waits for the next round. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "collector.h"

#define PUBLISH_TAIL_EVERY 4096u /* events */

struct source {
	uint64_t time;
	struct process *process;
	struct ring *ring;
	uint32_t index;
};

struct merge {
	struct mematlas_collector *collector;
	uint32_t mask;
	uint64_t cut;
	struct source *heap;
	uint32_t count, capacity;
};

static void publish_tail(const struct process *process, const struct ring *ring, uint32_t index)
{
	__atomic_store_n(&ring_shared(process, index)->tail, ring->tail, __ATOMIC_RELEASE);
}

/* A malformed ring is skipped from here on, so that its thread never waits for space. */
static void mark_broken(struct process *process, struct ring *ring)
{
	ring->broken = true;
	ring->tail = ring->stop;
	process->broken_rings++;
}

static bool is_timed(uint64_t type)
{
	return type != TRACE_PAD && type != TRACE_STACK && type != TRACE_CODE &&
	       type != TRACE_MODULE;
}

/* Applies definitions until a timed record is at the tail; false: none that is old enough. */
static bool advance(struct merge *merge, struct process *process, struct ring *ring)
{
	while (ring->tail < ring->stop) {
		uint64_t head = ring->data[ring->tail & merge->mask];
		if (is_timed(TRACE_TYPE(head))) {
			if (TRACE_TIME(head))
				ring->time = TRACE_TIME(head);
			return ring->time <= merge->cut;
		}
		uint32_t words = record_apply(merge->collector, process, ring, merge->mask,
					      (uint32_t)(ring->stop - ring->tail));
		if (words == 0) {
			mark_broken(process, ring);
			return false;
		}
		ring->tail += words;
	}
	return false;
}

static void sift_up(struct source *heap, uint32_t at)
{
	while (at > 0 && heap[(at - 1) / 2].time > heap[at].time) {
		struct source moved = heap[at];
		heap[at] = heap[(at - 1) / 2];
		heap[(at - 1) / 2] = moved;
		at = (at - 1) / 2;
	}
}

static void sift_down(struct source *heap, uint32_t count)
{
	uint32_t at = 0;

	for (;;) {
		uint32_t least = at;
		for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
			if (heap[child].time < heap[least].time)
				least = child;
		if (least == at)
			return;
		struct source moved = heap[at];
		heap[at] = heap[least];
		heap[least] = moved;
		at = least;
	}
}

static bool add_source(struct merge *merge, struct process *process, uint32_t index)
{
	if (!ARRAY_RESERVE(merge->heap, merge->count, merge->capacity, 64))
		return false;
	struct ring *ring = &process->rings[index];
	merge->heap[merge->count] = (struct source){ring->time, process, ring, index};
	sift_up(merge->heap, merge->count++);
	return true;
}

/* Extends `rings` to all that the process has in use. */
static bool add_rings(struct process *process, uint32_t ring_words)
{
	uint32_t used = __atomic_load_n(&process->shared->rings, __ATOMIC_ACQUIRE);

	if (used > process->most_rings)
		used = process->most_rings;
	if (used <= process->ring_count)
		return true;
	struct ring *rings = realloc(process->rings, used * sizeof *rings);
	if (!rings)
		return false;
	memset(rings + process->ring_count, 0, (used - process->ring_count) * sizeof *rings);
	for (uint32_t i = process->ring_count; i < used; i++)
		rings[i].data = (uint64_t *)((char *)process->shared + TRACE_DATA_OFFSET) +
				(size_t)ring_words * i;
	process->rings = rings;
	process->ring_count = used;
	return true;
}

/* Reads the heads of one process; returns how full its fullest ring is, 0-1. */
static double read_heads(struct process *process, uint32_t ring_words)
{
	double fullest = 0;

	for (uint32_t i = 0; i < process->ring_count; i++) {
		struct ring *ring = &process->rings[i];
		uint64_t head = __atomic_load_n(&ring_shared(process, i)->head, __ATOMIC_ACQUIRE);
		ring->stop = head;
		if (ring->broken)
			ring->tail = head;
		else if (head < ring->tail || head - ring->tail > ring_words)
			mark_broken(process, ring);
		double fill = (double)(head - ring->tail) / ring_words;
		if (fill > fullest)
			fullest = fill;
	}
	return fullest;
}

#define AHEAD_WORDS 96u

/* Reads ahead of the tail, and asks for the memory that the next events change. What is read may change until the
 * record is applied: nothing but a prefetch depends on it. */
static inline void prefetch_ahead(const struct process *process, struct ring *ring, uint32_t mask)
{
	const struct blocks *blocks = &process->state.blocks;
	uint64_t until = ring->tail + AHEAD_WORDS;

	if (until > ring->stop)
		until = ring->stop;
	if (ring->ahead < ring->tail)
		ring->ahead = ring->tail;
	while (ring->ahead + 1 < until) {
		uint64_t head = ring_at(ring, mask, ring->ahead), type = TRACE_TYPE(head);
		if (type != TRACE_ALLOC && type != TRACE_FREE) {
			uint64_t words = record_words(head, UINT32_MAX);
			ring->ahead += words ? words : until;
			continue;
		}
		uint64_t key = ring_at(ring, mask, ring->ahead + 1) & BLOCK_KEY_MASK;
		uint64_t *kept = &ring->keys_ahead[ring->key_ahead++ % KEYS_AHEAD];
		block_prefetch_cell(blocks, *kept);
		block_prefetch(blocks, key);
		*kept = key;
		ring->ahead += type == TRACE_ALLOC ? 4 : 2;
	}
}

/* Applies the records of one ring while they are the oldest of all; false: none is left. */
static bool run_source(struct merge *merge, struct source *source, uint64_t until)
{
	struct process *process = source->process;
	struct ring *ring = source->ring;
	uint32_t applied = 0;

	do {
		prefetch_ahead(process, ring, merge->mask);
		uint32_t words = record_apply(merge->collector, process, ring, merge->mask,
					      (uint32_t)(ring->stop - ring->tail));
		if (words == 0) {
			mark_broken(process, ring);
			return false;
		}
		ring->tail += words;
		if (++applied % PUBLISH_TAIL_EVERY == 0)
			publish_tail(process, ring, source->index);
		if (!advance(merge, process, ring))
			return false;
	} while (ring->time <= until);
	source->time = ring->time;
	return true;
}

static void run_merge(struct merge *merge)
{
	struct source *heap = merge->heap;

	while (merge->count > 0) {
		uint64_t until = merge->cut;
		for (uint32_t child = 1; child <= 2 && child < merge->count; child++)
			if (heap[child].time < until)
				until = heap[child].time;
		if (!run_source(merge, &heap[0], until))
			heap[0] = heap[--merge->count];
		sift_down(heap, merge->count);
	}
}

/* Publishes how far each ring is read. */
static void finish_rings(struct process *process)
{
	for (uint32_t i = 0; i < process->ring_count; i++) {
		const struct ring *ring = &process->rings[i];
		if (ring_shared(process, i)->tail != ring->tail)
			publish_tail(process, ring, i);
	}
}

bool process_is_drained(struct process *process)
{
	uint32_t used = __atomic_load_n(&process->shared->rings, __ATOMIC_ACQUIRE);

	if (process->ring_count < used && process->ring_count < process->most_rings)
		return false; /* a ring that was not read yet */
	for (uint32_t i = 0; i < process->ring_count; i++)
		if (!process->rings[i].broken &&
		    __atomic_load_n(&ring_shared(process, i)->head, __ATOMIC_ACQUIRE) !=
			    process->rings[i].tail)
			return false;
	return true;
}

static double read_all_heads(struct mematlas_collector *collector, uint32_t ring_words)
{
	double tick_s = clock_tick_s(collector), fullest = 0;

	for (uint32_t p = 0; p < collector->count; p++) {
		struct process *process = collector->processes[p];
		if (!process->active || !add_rings(process, ring_words))
			continue;
		process->state.tick_s = tick_s;
		double fill = read_heads(process, ring_words);
		if (fill > fullest)
			fullest = fill;
	}
	return fullest;
}

static void add_sources(struct merge *merge, struct process *process)
{
	for (uint32_t i = 0; i < process->ring_count; i++)
		if (advance(merge, process, &process->rings[i]) && !add_source(merge, process, i))
			merge->collector->error = -ENOMEM;
}

double collector_drain(struct mematlas_collector *collector)
{
	uint32_t ring_words = collector->settings.ring_bytes / 8;
	struct merge merge = {collector, ring_words - 1, clock_read(collector), NULL, 0, 0};
	double fullest = read_all_heads(collector, ring_words);

	for (uint32_t p = 0; p < collector->count; p++)
		if (collector->processes[p]->active)
			add_sources(&merge, collector->processes[p]);
	run_merge(&merge);
	for (uint32_t p = 0; p < collector->count; p++) {
		if (!collector->processes[p]->active)
			continue;
		finish_rings(collector->processes[p]);
		if (collector->processes[p]->state.out_of_memory)
			collector->error = -ENOMEM;
	}
	free(merge.heap);
	return fullest;
}
