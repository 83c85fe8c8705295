/* Draining: all rings of all processes, merged by time up to a cut.
 *
 * The cut is the clock, read before the heads. A record at or before the cut may rely only on
 * records published before it was timed, and those heads we then see; a newer one may rely on what
 * we have not looked at, so it waits for the next round. */
#include <stdlib.h>
#include <string.h>

#include "collector.h"

#define NEVER UINT64_MAX
#define TELL_TAIL_EVERY 4096u /* events */

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
	uint32_t count, room;
};

static struct trace_ring *shared_ring(const struct process *process, uint32_t index)
{
	return (struct trace_ring *)((char *)process->shared + TRACE_RINGS_OFFSET) + index;
}

static void tell_tail(const struct process *process, const struct ring *ring, uint32_t index)
{
	__atomic_store_n(&shared_ring(process, index)->tail, ring->tail, __ATOMIC_RELEASE);
}

/* A ring we cannot make sense of is skipped from then on, so that its thread never waits. */
static void give_up(struct process *process, struct ring *ring)
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

/* Takes definitions until a timed record stands at the tail; false: there is none to take. */
static bool advance(struct merge *merge, struct process *process, struct ring *ring)
{
	while (ring->tail < ring->stop) {
		uint64_t head = ring->data[ring->tail & merge->mask];
		if (is_timed(TRACE_TYPE(head))) {
			if (TRACE_TIME(head))
				ring->time = TRACE_TIME(head);
			return ring->time <= merge->cut;
		}
		uint32_t words = record_take(merge->collector, process, ring, merge->mask,
					     (uint32_t)(ring->stop - ring->tail));
		if (words == 0) {
			give_up(process, ring);
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
	if (merge->count == merge->room) {
		uint32_t room = merge->room ? merge->room * 2 : 64;
		struct source *heap = realloc(merge->heap, room * sizeof *heap);
		if (!heap)
			return false;
		merge->heap = heap;
		merge->room = room;
	}
	struct ring *ring = &process->rings[index];
	merge->heap[merge->count] = (struct source){ring->time, process, ring, index};
	sift_up(merge->heap, merge->count++);
	return true;
}

/* Grows the private side of the ring directory to what the process has in use. */
static bool know_rings(struct process *process, uint32_t ring_words)
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

/* Reads the heads of one process; the fullest ring's share of its size. */
static double read_heads(struct process *process, uint32_t ring_words)
{
	double fullest = 0;

	for (uint32_t i = 0; i < process->ring_count; i++) {
		struct ring *ring = &process->rings[i];
		uint64_t head = __atomic_load_n(&shared_ring(process, i)->head, __ATOMIC_ACQUIRE);
		ring->stop = head;
		if (ring->broken)
			ring->tail = head;
		else if (head < ring->tail || head - ring->tail > ring_words)
			give_up(process, ring);
		double fill = (double)(head - ring->tail) / ring_words;
		if (fill > fullest)
			fullest = fill;
	}
	return fullest;
}

/* Looks ahead in the ring and asks for the block table's lines the next events will touch. */
static inline void prefetch_ahead(const struct process *process, const struct ring *ring,
				  uint32_t mask)
{
	uint64_t at = ring->tail + 64;

	if (at + 4 >= ring->stop)
		return;
	for (uint64_t i = at; i < at + 4; i++) {
		uint64_t place = ring->data[i & mask];
		if (TRACE_KIND(place) == TRACE_MALLOC || TRACE_KIND(place) == TRACE_PYOBJECT)
			block_prefetch(&process->state.blocks, place & 0xffffffffffffffull);
	}
}

/* Takes records of one ring while they are the oldest of all; false: nothing left to take. */
static bool run_source(struct merge *merge, struct source *source, uint64_t until)
{
	struct process *process = source->process;
	struct ring *ring = source->ring;
	uint32_t taken = 0;

	do {
		prefetch_ahead(process, ring, merge->mask);
		uint32_t words = record_take(merge->collector, process, ring, merge->mask,
					     (uint32_t)(ring->stop - ring->tail));
		if (words == 0) {
			give_up(process, ring);
			return false;
		}
		ring->tail += words;
		if (++taken % TELL_TAIL_EVERY == 0)
			tell_tail(process, ring, source->index);
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

/* Gives back rings whose threads have ended, and tells producers how far we are. */
static void finish_rings(struct process *process)
{
	for (uint32_t i = 0; i < process->ring_count; i++) {
		struct ring *ring = &process->rings[i];
		struct trace_ring *shared = shared_ring(process, i);
		if (shared->tail != ring->tail)
			tell_tail(process, ring, i);
		uint32_t closed = TRACE_RING_CLOSED;
		if (__atomic_load_n(&shared->state, __ATOMIC_ACQUIRE) == TRACE_RING_CLOSED &&
		    __atomic_load_n(&shared->head, __ATOMIC_ACQUIRE) == ring->tail)
			__atomic_compare_exchange_n(&shared->state, &closed, TRACE_RING_FREE, false,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	}
}

bool process_is_drained(struct process *process)
{
	uint32_t used = __atomic_load_n(&process->shared->rings, __ATOMIC_ACQUIRE);

	if (process->ring_count < used && process->ring_count < process->most_rings)
		return false; /* just found, and not looked at yet */
	for (uint32_t i = 0; i < process->ring_count; i++)
		if (!process->rings[i].broken &&
		    __atomic_load_n(&shared_ring(process, i)->head, __ATOMIC_ACQUIRE) !=
			    process->rings[i].tail)
			return false;
	return true;
}

double collector_drain(struct mematlas_collector *collector, bool everything)
{
	uint32_t ring_words = collector->settings.ring_bytes / 8;
	struct merge merge = {collector, ring_words - 1, NEVER, NULL, 0, 0};
	double fullest = 0;

	if (!everything)
		merge.cut = clock_read(collector);
	double tick_s = clock_tick_s(collector);
	for (uint32_t p = 0; p < collector->count; p++) {
		struct process *process = collector->processes[p];
		if (!process->active || !know_rings(process, ring_words))
			continue;
		process->state.tick_s = tick_s;
		double fill = read_heads(process, ring_words);
		if (fill > fullest)
			fullest = fill;
	}
	for (uint32_t p = 0; p < collector->count; p++) {
		struct process *process = collector->processes[p];
		for (uint32_t i = 0; process->active && i < process->ring_count; i++)
			if (advance(&merge, process, &process->rings[i]) &&
			    !add_source(&merge, process, i))
				collector->error = -12;
	}
	run_merge(&merge);
	for (uint32_t p = 0; p < collector->count; p++) {
		if (!collector->processes[p]->active)
			continue;
		finish_rings(collector->processes[p]);
		if (collector->processes[p]->state.out_of_memory)
			collector->error = -12;
	}
	free(merge.heap);
	return fullest;
}
