/* Applies the records of a ring to the state. The traced program wrote them, so everything is
 * checked. */
#include "collector.h"

/* Words of a record by type; 0: the record has its length in its first word. */
static const uint8_t fixed_words[] = {
	[TRACE_PAD] = 1,         [TRACE_ALLOC] = 4,  [TRACE_FREE] = 2,
	[TRACE_RESTORE] = 2,     [TRACE_UNMAP] = 3,  [TRACE_FORK] = 2,
	[TRACE_FORK_FAILED] = 2, [TRACE_FAULT] = 3,  [TRACE_BAD_FREE] = 4,
	[TRACE_COMMIT] = 4,      [TRACE_RETURN] = 3, [TRACE_MARK] = 2 + TRACE_MARK_BYTES / 8,
};
_Static_assert(sizeof fixed_words == TRACE_MARK + 1, "MARK is the last type of a record");

/* With 0 the caller gives the ring up. */
uint32_t record_words(uint64_t head, uint32_t available)
{
	uint64_t type = TRACE_TYPE(head), words;

	if (type >= sizeof fixed_words)
		return 0;
	words = fixed_words[type];
	if (!words)
		words = TRACE_WORDS(head) < 3 ? 0 : TRACE_WORDS(head);
	return words <= available ? (uint32_t)words : 0;
}

/* Index of the statistics of (stack, kind). An ID that was never defined counts as "no stack". */
static uint32_t stats_of(struct state *state, struct ring *ring, uint64_t stack, uint32_t kind)
{
	if (stack >= ring->stacks_capacity)
		return stack_stats_find(state, 0, kind);
	uint32_t *entry = ring->stacks[stack];
	if (kind >= RECORD_KINDS)
		return stack_stats_find(state, entry[0], kind);
	if (!entry[kind])
		entry[kind] = stack_stats_find(state, entry[0], kind) + 1;
	return entry[kind] - 1;
}

/* 0: no kind. The kinds of the rings have numbers below those that the collector adds. */
static uint32_t kind_of(uint64_t target, uint32_t flags)
{
	uint32_t kind = TRACE_KIND(target);

	if (kind >= RECORD_KINDS)
		return 0;
	return kind == TRACE_FILEMAP && flags & TRACE_FLAG_SHARED ? MEMATLAS_KIND_SHARED : kind;
}

/* A block or a mapping. A mapping that mremap(2) moved keeps the kind of the one that was
 * unmapped before it. */
static void apply_alloc(struct process *process, struct ring *ring, uint32_t mask)
{
	uint64_t time = ring->time;
	uint64_t target = ring_word(ring, mask, 1), size = ring_word(ring, mask, 2);
	uint64_t stack = ring_word(ring, mask, 3);
	uint32_t flags = (uint32_t)(target >> 56);
	bool moved = flags & TRACE_FLAG_MOVED && ring->unmapped.kind;
	uint32_t kind = moved ? ring->unmapped.kind : kind_of(target, flags);

	if (kind == 0 || kind >= KINDS)
		return;
	uint32_t stats = stats_of(&process->state, ring, stack, kind);
	if (is_block_kind(kind)) {
		struct block block = block_make(BLOCK_KEY(target, kind), size, stats,
						flags & TRACE_FLAG_ALWAYS, time);
		state_allocate(&process->state, time, &block);
		return;
	}
	uint64_t start = TRACE_ADDRESS(target);
	uint64_t end = page_ceil(start + size);
	struct range range = {.start = start,
			      .end = end,
			      .born = time,
			      .stats = stats,
			      .kind = (uint8_t)kind,
			      .reserved = moved ? ring->unmapped.reserved
						: (flags & TRACE_FLAG_RESERVED) != 0};
	if (end > start && end <= 1ull << ADDRESS_BITS)
		state_map(&process->state, time, &range);
}

/* The block is kept until the next free of this ring, because a realloc(3) that fails restores
 * it. */
static void apply_free(struct process *process, struct ring *ring, uint64_t target)
{
	ring->freed_time = ring->time;
	if (!state_release(&process->state, ring->time, BLOCK_KEY(target, TRACE_KIND(target)),
			   &ring->freed)) {
		ring->freed.key = 0;
		process->unknown_frees++;
	} else if (process->state.mean == 0) {
		freed_log_add(&process->bad_frees, &ring->freed, ring->time,
			      TRACE_FREED_AT(ring - process->rings, ring->tail / 2));
	}
}

/* Without effect unless the last free of this ring was of the same block. */
static void apply_restore(struct process *process, struct ring *ring, uint64_t target)
{
	if (ring->freed.key && ring->freed.key == BLOCK_KEY(target, TRACE_KIND(target)))
		state_restore(&process->state, ring->time, ring->freed_time, &ring->freed);
	ring->freed.key = 0;
}

static void apply_bad_free(struct process *process, struct ring *ring, uint32_t mask)
{
	uint64_t target = ring_word(ring, mask, 1), stack = ring_word(ring, mask, 2);
	uint32_t kind = TRACE_KIND(target);

	if (kind == 0 || kind >= RECORD_KINDS)
		return;
	uint32_t index =
		stats_of(&process->state, ring, (uint32_t)stack, kind); /* items may move */
	struct stack_stats *stats = &process->state.stats.items[index];
	stats->bad_frees += 1;
	struct freed_by before = {ring_word(ring, mask, 3), (uint32_t)(stack >> 32)};
	bad_free_add(process, ring, TRACE_ADDRESS(target), stats->node, before);
}

static void apply_fault(struct mematlas_collector *collector, struct process *process,
			struct ring *ring, uint32_t mask)
{
	uint64_t target = ring_word(ring, mask, 1), sample = ring_word(ring, mask, 2);
	uint32_t stack = (uint32_t)sample;
	uint32_t node = stack < ring->stacks_capacity ? ring->stacks[stack][0] : 0;

	if (!fault_sites_add(collector, process, ring, TRACE_ADDRESS(target), node,
			     (uint32_t)(sample >> 32), (unsigned)(target >> 56)))
		process->state.out_of_memory = true;
}

/* Length 0: the whole mapping that begins there, as shmdt(2) unmaps it. */
static void apply_unmap(struct process *process, struct ring *ring, uint64_t start, uint64_t length)
{
	struct state *state = &process->state;

	if (!length)
		length = state_mapping_length(state, start);
	ring->unmapped = state_unmap(state, ring->time, start, start + length);
}

static void apply_commit(struct process *process, struct ring *ring, uint32_t mask)
{
	uint64_t start = TRACE_ADDRESS(ring_word(ring, mask, 1));
	uint64_t stack = ring_word(ring, mask, 3);
	uint32_t node = stack < ring->stacks_capacity ? ring->stacks[stack][0] : 0;

	state_commit(&process->state, ring->time, start, start + ring_word(ring, mask, 2), node);
}

static void apply_return(struct process *process, struct ring *ring, uint32_t mask)
{
	uint64_t target = ring_word(ring, mask, 1), start = TRACE_ADDRESS(target);

	state_return(&process->state, ring->time, start, start + ring_word(ring, mask, 2),
		     (unsigned)(target >> 56));
}

static void apply_rare(struct mematlas_collector *collector, struct process *process,
		       struct ring *ring, uint32_t mask, uint64_t type)
{
	uint64_t second = ring_word(ring, mask, 1);

	switch (type) {
	case TRACE_RESTORE:
		apply_restore(process, ring, second);
		break;
	case TRACE_UNMAP:
		apply_unmap(process, ring, second, ring_word(ring, mask, 2));
		break;
	case TRACE_COMMIT:
		apply_commit(process, ring, mask);
		break;
	case TRACE_RETURN:
		apply_return(process, ring, mask);
		break;
	case TRACE_FORK:
		clone_make(collector, process, ring->time, second);
		break;
	case TRACE_FORK_FAILED:
		clone_drop(collector, process->image, second);
		break;
	case TRACE_BAD_FREE:
		apply_bad_free(process, ring, mask);
		break;
	case TRACE_MARK:
		marks_add(process, (uint32_t)(ring - process->rings), mask);
		break;
	case TRACE_FAULT:
		apply_fault(collector, process, ring, mask);
		break;
	default:
		break;
	}
}

/* Returns the words of the record; 0: the ring is broken, and nothing after the record can be
 * trusted. */
uint32_t record_apply(struct mematlas_collector *collector, struct process *process,
		      struct ring *ring, uint32_t mask, uint32_t available)
{
	uint64_t head = ring_word(ring, mask, 0), type = TRACE_TYPE(head);
	uint32_t words = record_words(head, available);

	if (words == 0 || type == TRACE_PAD)
		return words;
	if (!fixed_words[type])
		return definition_apply(process, ring, mask, head, words) ? words : 0;
	if (type == TRACE_ALLOC)
		apply_alloc(process, ring, mask);
	else if (type == TRACE_FREE)
		apply_free(process, ring, ring_word(ring, mask, 1));
	else
		apply_rare(collector, process, ring, mask, type);
	process->events++;
	return words;
}
