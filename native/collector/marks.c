/* Marks of the program, until they are handed out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "collector.h"

_Static_assert(sizeof(((struct mematlas_mark *)0)->name) == TRACE_MARK_BYTES, "the same names");

void marks_add(struct process *process, uint32_t index, uint32_t mask)
{
	const struct ring *ring = &process->rings[index];
	/* A mark that nothing waits for leaves room for those that are waited for. */
	uint32_t most = ring_word(ring, mask, 1) ? MOST_MARKS : MOST_MARKS / 2;

	if (process->mark_count >= most ||
	    !ARRAY_RESERVE(process->marks, process->mark_count, process->mark_capacity, 4)) {
		process->marks_lost++;
		return;
	}
	struct mark *mark = &process->marks[process->mark_count++];
	*mark = (struct mark){
		.time = ring->time, .serial = ring_word(ring, mask, 1), .ring = index};
	for (uint32_t i = 0; i < TRACE_MARK_BYTES / 8; i++) {
		uint64_t word = ring_word(ring, mask, 2 + i);
		memcpy(mark->name + (size_t)i * 8, &word, 8);
	}
	mark->name[TRACE_MARK_BYTES - 1] = 0;
}

void marks_free(struct process *process)
{
	free(process->marks);
	process->marks = NULL;
	process->mark_count = process->mark_capacity = 0;
}

int mematlas_collector_mark(struct mematlas_collector *collector, int index,
			    struct mematlas_mark *ret)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	process->emitted_mark = false;
	if (!process->mark_count)
		return 0;
	const struct mark *oldest = &process->marks[0];
	*ret = (struct mematlas_mark){.time_s = clock_since_start_s(collector, oldest->time),
				      .serial = oldest->serial,
				      .ring = oldest->ring};
	memcpy(ret->name, oldest->name, sizeof ret->name);
	process->mark_count--;
	memmove(process->marks, process->marks + 1, process->mark_count * sizeof *process->marks);
	return 1;
}

int mematlas_collector_answer(struct mematlas_collector *collector, int index,
			      const struct mematlas_mark *mark)
{
	struct process *process = process_active_at(collector, index);

	if (!process)
		return -ESRCH;
	if (!process->mapped || mark->ring >= process->ring_count)
		return -EINVAL;
	uint64_t *answered = &ring_shared(process, mark->ring)->answered;
	if (__atomic_load_n(answered, __ATOMIC_RELAXED) < mark->serial)
		__atomic_store_n(answered, mark->serial, __ATOMIC_RELEASE);
	return 0;
}
