/* Sampled page faults by the stack that took them and the owner of the memory. */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../array.h"
#include "join.h"

#define VMAS_GAP_S 0.005
#define VMAS_SHARE 0.02 /* of one CPU that reading mappings may take */

/* The owner of the memory a fault was in. */
struct owner {
	uint32_t number, kind; /* as in struct mematlas_fault_site */
	bool file;             /* a page of it is a file's unless it was written */
	bool unsaid;           /* mapped without saying for what */
};

static uint32_t part_number(struct fault_sites *sites, const struct mematlas_part *part)
{
	for (uint32_t i = sites->part_count; i-- > 0;)
		if (sites->parts[i].kind == part->kind &&
		    strcmp(sites->parts[i].name, part->name) == 0)
			return i;
	if (!ARRAY_RESERVE(sites->parts, sites->part_count, sites->part_capacity, 64))
		return 0;
	sites->parts[sites->part_count] = *part;
	return sites->part_count++;
}

static struct owner owner_by_part(struct process *process, uint32_t kind, const char *name)
{
	struct mematlas_part part = {.kind = kind};

	strncpy(part.name, name, sizeof part.name - 1);
	return (struct owner){.number = part_number(&process->fault_sites, &part),
			      .file = kind == MEMATLAS_PART_FILE,
			      .unsaid = kind == MEMATLAS_PART_ANON};
}

/* An address above the last reading of the heap is in the heap if that is nearer than the next
 * mapping, because brk() grows upwards and mmap() places new mappings downwards. */
static bool is_grown_heap(const struct vmas *vmas, size_t above, uint64_t address)
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
	return is_grown_heap(vmas, low, address) ? &vmas->items[low - 1] : NULL;
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
		return owner_by_part(process, MEMATLAS_PART_ANON, "gone since");
	if (part_of_name(collector, vma, &part))
		return owner_by_part(process, part.kind, part.name);
	return owner_by_part(process, *vma->name ? MEMATLAS_PART_SLACK : MEMATLAS_PART_ANON,
			     *vma->name ? "glibc heap" : "unnamed");
}

static bool owner_by_range(const struct state *state, uint64_t address, struct owner *owner)
{
	size_t at = ranges_find(&state->ranges, address);

	if (at == state->ranges.count || state->ranges.items[at].start > address)
		return false;
	const struct range *range = &state->ranges.items[at];
	*owner = (struct owner){.number = state->stats.items[range->stats].node,
				.kind = range->kind,
				.file = range->kind == TRACE_FILEMAP,
				.unsaid = counts_as_live(range->kind)};
	return true;
}

static struct owner owner_of(struct mematlas_collector *collector, struct process *process,
			     const struct trace_ring *ring, uint64_t address)
{
	const struct state *state = &process->state;
	struct owner owner;
	struct block block;

	if (block_around(state, address, &block)) {
		const struct stack_stats *stats = &state->stats.items[block.info.stats];
		return (struct owner){.number = stats->node, .kind = stats->kind};
	}
	if (address >= ring->stack_low && address < ring->stack_high)
		return owner_by_part(process, MEMATLAS_PART_STACK,
				     ring->tid == process->inner_pid ? "main thread"
								     : "other threads");
	if (!owner_by_range(state, address, &owner))
		return owner_by_mapping(collector, process, address);
	if (owner.kind == TRACE_ARENA)
		return owner_by_part(process, MEMATLAS_PART_SLACK, "mapping of an allocator");
	return owner;
}

/* Samples come at equal distances in a thread's faults. While one site goes on, its count is off by less
 * than one distance, however long that takes; only where sites take turns does chance add up. So each run
 * of samples at one site adds the variance of one sample. Where sites mix at random, the sum is that of a
 * multinomial count. */
static double variance_of(struct ring *ring, uint32_t site, uint64_t page, uint32_t weight)
{
	bool goes_on = ring->fault_site == site && ring->fault_page == page;

	ring->fault_site = site;
	ring->fault_page = page;
	return goes_on ? 0 : (double)weight * (weight - 1.0);
}

bool fault_sites_add(struct mematlas_collector *collector, struct process *process,
		     struct ring *ring, uint64_t address, uint32_t node, uint32_t weight,
		     unsigned flags)
{
	const struct trace_ring *shared = ring_shared(process, (uint32_t)(ring - process->rings));
	struct owner owner = owner_of(collector, process, shared, address);
	struct mematlas_fault_site key = {.stack = node, .owner = owner.number, .kind = owner.kind};
	struct fault_sites *sites = &process->fault_sites;
	struct mematlas_fault_site *site = fault_sites_find(sites, &key);

	if (!site)
		return false;
	uint64_t page = flags & TRACE_FLAG_HUGE ? pmd_bytes() : page_bytes();
	double size = (double)page;
	double variance = variance_of(ring, (uint32_t)(site - sites->items) + 1, page, weight);
	sites->samples++;
	site->faults += weight;
	site->variance += variance;
	if (flags & TRACE_FLAG_MAJOR)
		site->major_faults += weight;
	if (!owner.file || !(flags & TRACE_FLAG_FILE)) {
		site->bytes += size * weight;
		site->bytes_variance += size * size * variance;
	}
	if (owner.unsaid)
		touches_add(&process->state, address, page, node, weight);
	return true;
}

static void close_events(struct process *process)
{
	for (int i = 0; i < FAULT_EVENTS; i++) {
		if (process->fault_events[i] >= 0)
			close(process->fault_events[i]);
		process->fault_events[i] = -1;
	}
}

/* A process that has closed its own descriptors can disable only the events that the calling thread opened. */
void fault_events_end(struct process *process)
{
	if (process->fault_events[0] < 0 ||
	    __atomic_load_n(&process->shared->faults, __ATOMIC_ACQUIRE) != TRACE_FAULTS_ENDED)
		return;
	for (int i = 0; i < FAULT_EVENTS; i++)
		if (process->fault_events[i] >= 0)
			ioctl(process->fault_events[i], PERF_EVENT_IOC_DISABLE, 0);
	close_events(process);
}

void fault_sites_free(struct process *process)
{
	close_events(process);
	if (process->vmas)
		vmas_free(process->vmas);
	free(process->vmas);
	free(process->fault_sites.items);
	free(process->fault_sites.table);
	free(process->fault_sites.parts);
	process->vmas = NULL;
	process->fault_sites = (struct fault_sites){0};
}
