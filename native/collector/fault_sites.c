/* Page faults: which stack touched whose memory first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "join.h"

#define VMAS_GAP_S 0.005
#define VMAS_SHARE 0.02 /* of the time may go into reading mappings again */
#define REFUSED (-2)

/* Whose memory a fault was in. */
struct owner {
	uint32_t number, kind; /* as in struct mematlas_touch */
	bool private;          /* pages made by the fault, not pages of a file */
};

static bool reserve(void **items, uint32_t count, uint32_t *room, size_t size)
{
	if (count < *room)
		return true;
	uint32_t larger = *room ? *room * 2 : 64;
	void *moved = realloc(*items, larger * size);
	if (!moved)
		return false;
	*items = moved;
	*room = larger;
	return true;
}

static uint32_t slot_of(const struct touches *touches, const struct mematlas_touch *touch)
{
	uint64_t x = ((uint64_t)touch->stack << 32 | touch->owner) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)((x ^ touch->kind * 0xff51afd7ed558ccdull) >> 29) & touches->mask;
}

static bool same(const struct mematlas_touch *a, const struct mematlas_touch *b)
{
	return a->stack == b->stack && a->owner == b->owner && a->kind == b->kind;
}

static bool rehash(struct touches *touches)
{
	uint32_t *table = calloc((size_t)touches->room * 2, sizeof *table);

	if (!table)
		return false;
	free(touches->table);
	touches->table = table;
	touches->mask = touches->room * 2 - 1;
	for (uint32_t i = 0; i < touches->count; i++) {
		uint32_t at = slot_of(touches, &touches->items[i]);
		while (table[at])
			at = (at + 1) & touches->mask;
		table[at] = i + 1;
	}
	return true;
}

static struct mematlas_touch *find(struct touches *touches, const struct mematlas_touch *wanted)
{
	uint32_t room = touches->room;

	if (!reserve((void **)&touches->items, touches->count, &touches->room,
		     sizeof *touches->items) ||
	    (room != touches->room && !rehash(touches)))
		return NULL;
	uint32_t at = slot_of(touches, wanted);
	for (; touches->table[at]; at = (at + 1) & touches->mask)
		if (same(&touches->items[touches->table[at] - 1], wanted))
			return &touches->items[touches->table[at] - 1];
	touches->items[touches->count] = *wanted;
	touches->table[at] = ++touches->count;
	return &touches->items[touches->count - 1];
}

static uint32_t place_number(struct touches *touches, const struct mematlas_part *place)
{
	for (uint32_t i = touches->place_count; i-- > 0;)
		if (touches->places[i].kind == place->kind &&
		    strcmp(touches->places[i].name, place->name) == 0)
			return i;
	if (!reserve((void **)&touches->places, touches->place_count, &touches->place_room,
		     sizeof *touches->places))
		return 0;
	touches->places[touches->place_count] = *place;
	return touches->place_count++;
}

static struct owner in_place(struct process *process, uint32_t kind, const char *name)
{
	struct mematlas_part place = {.kind = kind};

	strncpy(place.name, name, sizeof place.name - 1);
	return (struct owner){.number = place_number(&process->touches, &place),
			      .private =
				      kind != MEMATLAS_PART_FILE && kind != MEMATLAS_PART_SHARED};
}

/* ---- mappings ---- */

/* The heap grows between two readings, upwards; other mappings come from above. */
static bool is_heap_since(const struct vmas *vmas, size_t above, uint64_t address)
{
	const struct vma *below = above > 0 ? &vmas->items[above - 1] : NULL;

	return below && strcmp(below->name, "[heap]") == 0 &&
	       (above == vmas->count || address - below->end < vmas->items[above].start - address);
}

static const struct vma *vma_at(const struct vmas *vmas, uint64_t address)
{
	size_t low = 0, high = vmas ? vmas->count : 0;

	if (!high)
		return NULL;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (vmas->items[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	if (low < vmas->count && vmas->items[low].start <= address)
		return &vmas->items[low];
	return is_heap_since(vmas, low, address) ? &vmas->items[low - 1] : NULL;
}

static void read_mappings(struct process *process, double now)
{
	struct vmas fresh;
	double start = clock_monotonic_s();

	if (now < process->next_vmas || process->dir < 0)
		return;
	if (vmas_read(process->dir, &fresh) == 0) {
		if (!process->vmas)
			process->vmas = calloc(1, sizeof *process->vmas);
		if (!process->vmas) {
			vmas_free(&fresh);
			return;
		}
		vmas_free(process->vmas);
		*process->vmas = fresh;
	}
	double cost = (clock_monotonic_s() - start) / VMAS_SHARE;
	process->next_vmas = now + (cost > VMAS_GAP_S ? cost : VMAS_GAP_S);
}

static struct owner owner_by_mapping(const struct mematlas_collector *collector,
				     struct process *process, uint64_t address)
{
	const struct vma *vma = vma_at(process->vmas, address);
	struct mematlas_part part;

	if (!vma) {
		read_mappings(process, clock_monotonic_s());
		vma = vma_at(process->vmas, address);
	}
	if (!vma)
		return in_place(process, MEMATLAS_PART_ANON, "gone since");
	if (part_of_name(collector, vma, &part))
		return in_place(process, part.kind, part.name);
	return in_place(process, *vma->name ? MEMATLAS_PART_SLACK : MEMATLAS_PART_ANON,
			*vma->name ? "glibc heap" : "unnamed");
}

/* ---- owners ---- */

static bool owner_by_range(const struct state *state, uint64_t address, struct owner *owner)
{
	size_t at = ranges_find(&state->ranges, address);

	if (at == state->ranges.count || state->ranges.items[at].start > address)
		return false;
	const struct range *range = &state->ranges.items[at];
	*owner = (struct owner){.number = state->sums.items[range->sum].node,
				.kind = range->kind,
				.private = range->kind != TRACE_FILEMAP};
	return true;
}

static struct owner owner_of(struct mematlas_collector *collector, struct process *process,
			     const struct trace_ring *ring, uint64_t address)
{
	const struct state *state = &process->state;
	struct owner owner;
	struct block block;

	if (block_around(state, address, &block)) {
		const struct sum *sum = &state->sums.items[block.is.sum];
		return (struct owner){sum->node, sum->kind, true};
	}
	if (address >= ring->stack_low && address < ring->stack_high)
		return in_place(process, MEMATLAS_PART_STACK,
				ring->tid == process->shared->pid ? "main thread"
								  : "other threads");
	if (!owner_by_range(state, address, &owner))
		return owner_by_mapping(collector, process, address);
	if (owner.kind == TRACE_ARENA)
		return in_place(process, MEMATLAS_PART_SLACK, "mapping of an allocator");
	return owner;
}

bool touches_take(struct mematlas_collector *collector, struct process *process,
		  const struct trace_ring *ring, uint64_t address, uint32_t node, uint32_t weight,
		  unsigned flags)
{
	struct owner owner = owner_of(collector, process, ring, address);
	struct mematlas_touch wanted = {.stack = node, .owner = owner.number, .kind = owner.kind};
	struct mematlas_touch *touch = find(&process->touches, &wanted);
	double variance = (double)weight * (weight - 1.0);

	if (!touch)
		return false;
	process->touches.samples++;
	touch->faults += weight;
	touch->variance += variance;
	if (flags & TRACE_FLAG_MAJOR)
		touch->major_faults += weight;
	if (owner.private) {
		double size = (double)(flags & TRACE_FLAG_HUGE ? pmd_bytes() : page_bytes());
		touch->bytes += size * weight;
		touch->bytes_variance += size * size * variance;
	}
	return true;
}

void touches_keep_events(struct process *process)
{
	const struct trace_process *shared = process->shared;

	if (process->fault_events[0] != -1 || process->pidfd < 0 ||
	    __atomic_load_n(&shared->faults, __ATOMIC_ACQUIRE) != TRACE_FAULTS_ON)
		return;
	for (int i = 0; i < 2; i++)
		process->fault_events[i] =
			(int)syscall(SYS_pidfd_getfd, process->pidfd, shared->fault_events[i], 0);
	if (process->fault_events[0] < 0)
		process->fault_events[0] = REFUSED;
}

void touches_free(struct process *process)
{
	for (int i = 0; i < 2; i++)
		if (process->fault_events[i] >= 0)
			close(process->fault_events[i]);
	process->fault_events[0] = process->fault_events[1] = -1;
	if (process->vmas)
		vmas_free(process->vmas);
	free(process->vmas);
	free(process->touches.items);
	free(process->touches.table);
	free(process->touches.places);
	process->vmas = NULL;
	process->touches = (struct touches){0};
}
