/* Live blocks and owned ranges, sorted by address for the sweep of the join. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

#define DIGIT_BITS 12
#define DIGITS (1u << DIGIT_BITS)
#define PASSES 4 /* of the 48 address bits */

static void count_digits(const struct span *spans, size_t count, int shift, size_t *starts)
{
	memset(starts, 0, DIGITS * sizeof *starts);
	for (size_t i = 0; i < count; i++)
		starts[spans[i].start >> shift & (DIGITS - 1)]++;
}

/* One pass of a radix sort; false: all spans have the same digit, and `to` is not written. */
static bool sort_digit(const struct span *from, struct span *to, size_t count, int shift,
		       size_t *starts)
{
	count_digits(from, count, shift, starts);
	if (starts[from[0].start >> shift & (DIGITS - 1)] == count)
		return false;
	for (size_t digit = 0, start = 0; digit < DIGITS; digit++) {
		size_t here = starts[digit];
		starts[digit] = start;
		start += here;
	}
	for (size_t i = 0; i < count; i++)
		to[starts[from[i].start >> shift & (DIGITS - 1)]++] = from[i];
	return true;
}

static int sort_spans(struct spans *spans)
{
	CLEANUP_FREE size_t *starts = malloc(DIGITS * sizeof *starts);
	struct span *from = spans->items;
	CLEANUP_FREE struct span *to = malloc((spans->count + 1) * sizeof *to);

	if (!to || !starts)
		return -ENOMEM;
	for (int pass = 0; spans->count && pass < PASSES; pass++) {
		if (!sort_digit(from, to, spans->count, pass * DIGIT_BITS, starts))
			continue;
		struct span *swap = from;
		from = to;
		to = swap;
	}
	spans->items = from;
	return 0;
}

int spans_of_blocks(const struct blocks *blocks, struct spans *spans)
{
	*spans = (struct spans){malloc((blocks->count + 1) * sizeof(struct span)), 0, 0};
	if (!spans->items)
		return -ENOMEM;
	struct blocks_cursor cursor = {0};
	const struct block_info *block;
	uint64_t key;

	while ((block = blocks_next(blocks, &cursor, &key))) {
		uint64_t start = TRACE_ADDRESS(key);
		if (!block->size)
			continue;
		uint16_t owner = TRACE_KIND(key) == TRACE_PYOBJECT ? BLOCK_PYOBJECT : BLOCK_MALLOC;
		spans->items[spans->count++] =
			(struct span){start, start + block->size, block->stats, owner,
				      (uint16_t)(block->always != 0)};
	}
	return sort_spans(spans);
}

static void add_span(struct spans *spans, uint64_t start, uint64_t end, uint32_t stats,
		     enum owner owner)
{
	if (end > start && end < 1ull << 48)
		spans->items[spans->count++] = (struct span){start, end, stats, owner, 1};
}

static bool overlaps_range(const struct ranges *ranges, uint64_t start, uint64_t end)
{
	size_t at = ranges_find(ranges, start);

	return at < ranges->count && ranges->items[at].start < end;
}

/* CPython maps its arenas in one of two sizes. */
static enum owner owner_of(const struct process *process, const struct range *range)
{
	uint64_t size = range->end - range->start;

	if (range->kind == TRACE_MMAP || range->kind == MEMATLAS_KIND_COMMITTED)
		return OWNER_USER;
	if (range->kind == TRACE_FILEMAP)
		return OWNER_FILEMAP;
	if (range->kind == MEMATLAS_KIND_SHARED)
		return OWNER_SHARED;
	if (process->shared->python_version && (size == 256 << 10 || size == 1 << 20))
		return OWNER_PYMALLOC;
	return OWNER_ALLOCATOR;
}

static uint64_t word_of(const struct modules *modules, uint64_t pc)
{
	for (uint32_t i = modules->count; i-- > 0;) {
		const struct mematlas_module *module = &modules->items[i];
		if (MODULE_ADDRESS(module->start) <= pc && pc < MODULE_ADDRESS(module->end))
			return MODULE_WORD(pc, MODULE_EPOCH(module->start));
	}
	return MODULE_ADDRESS(pc);
}

/* The start routine of a thread; 0: unknown. Of a thread that was there before the tracer, it is the third frame from
 * the root, above the C library's two. */
static uint64_t routine_of(const struct process *process, uint32_t ring)
{
	const struct trace_ring *shared = ring_shared(process, ring);
	const struct ring *mine = &process->rings[ring];
	uint64_t routine = __atomic_load_n(&shared->routine, __ATOMIC_RELAXED);

	if (routine)
		return word_of(&process->state.modules, routine + 1);
	return mine->native_count > 2 && mine->natives[0] ? mine->natives[2] : 0;
}

/* Stacks of all threads but the first, whose stack has a name in maps. A stack in a mapping by the
 * program belongs to that mapping. */
static void add_stacks(struct process *process, struct spans *spans)
{
	const struct trace_ring *rings =
		(const struct trace_ring *)((const char *)process->shared + TRACE_RINGS_OFFSET);

	for (uint32_t i = 0; i < process->ring_count; i++) {
		uint64_t low = rings[i].stack_low, high = rings[i].stack_high;
		if (!low || rings[i].tid == process->inner_pid)
			continue;
		if (overlaps_range(&process->state.ranges, low, high))
			continue;
		uint64_t routine = routine_of(process, i);
		uint32_t node = routine ? stack_trie_add(&process->state, 0, routine) : 0;
		add_span(spans, low, high,
			 stack_stats_find(&process->state, node, MEMATLAS_KIND_STACK), OWNER_STACK);
	}
}

int spans_of_before(const struct ranges *before, struct spans *spans)
{
	*spans = (struct spans){malloc((before->count + 1) * sizeof(struct span)), 0, 0};
	if (!spans->items)
		return -ENOMEM;
	for (size_t i = 0; i < before->count; i++)
		add_span(spans, before->items[i].start, before->items[i].end, 0, OWNER_USER);
	return 0;
}

int spans_of_owners(struct process *process, struct spans *spans)
{
	const struct ranges *ranges = &process->state.ranges;
	size_t capacity = ranges->count + process->ring_count + 16;

	*spans = (struct spans){malloc((capacity + 1) * sizeof(struct span)), 0, 0};
	if (!spans->items)
		return -ENOMEM;
	for (unsigned i = 0; i < TRACE_PRIVATE_MAPS; i++)
		add_span(spans, process->shared->private_start[i], process->shared->private_end[i],
			 0, OWNER_TRACER);
	for (size_t i = 0; i < ranges->count; i++)
		add_span(spans, ranges->items[i].start, ranges->items[i].end,
			 ranges->items[i].stats, owner_of(process, &ranges->items[i]));
	add_stacks(process, spans);
	return sort_spans(spans);
}
