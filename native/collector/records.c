/* Records out of a ring into the state. What the traced program wrote is checked, never trusted. */
#include <stdlib.h>
#include <string.h>

#include "collector.h"

#ifndef TRACE_FLAG_MOVED
#define TRACE_FLAG_MOVED 4u /* the mapping an UNMAP just before took away: its kind goes on */
#endif

#define MAX_IDS (1u << 26)
#define PYTHON_WORD (1ull << 63)

static uint64_t word(const struct ring *ring, uint32_t mask, uint32_t offset)
{
	return ring->data[(ring->tail + offset) & mask];
}

uint32_t record_words(const struct ring *ring, uint32_t mask, uint32_t available)
{
	uint64_t head = word(ring, mask, 0);
	uint64_t words = 0;

	switch (TRACE_TYPE(head)) {
	case TRACE_PAD:
		return 1;
	case TRACE_ALLOC:
		words = 4;
		break;
	case TRACE_FREE:
	case TRACE_RESTORE:
	case TRACE_FORK:
	case TRACE_FORK_FAILED:
		words = 2;
		break;
	case TRACE_UNMAP:
	case TRACE_BAD_FREE:
	case TRACE_FAULT:
		words = 3;
		break;
	case TRACE_STACK:
	case TRACE_CODE:
	case TRACE_MODULE:
		words = TRACE_WORDS(head) < 3 ? 0 : TRACE_WORDS(head);
		break;
	default:
		break;
	}
	return words <= available ? (uint32_t)words : 0;
}

/* Makes `*table` long enough for element `id`; new elements are 0. */
static bool id_room(void **table, uint32_t *room, uint32_t id, size_t size)
{
	if (id < *room)
		return true;
	if (id >= MAX_IDS)
		return false;
	uint32_t larger = *room ? *room : 256;
	while (larger <= id)
		larger *= 2;
	char *moved = realloc(*table, larger * size);
	if (!moved)
		return false;
	memset(moved + *room * size, 0, (larger - *room) * size);
	*table = moved;
	*room = larger;
	return true;
}

/* The sum of (stack, kind); an ID never defined counts as "no stack". */
static uint32_t sum_of(struct state *state, struct ring *ring, uint64_t stack, uint32_t kind)
{
	if (stack >= ring->stacks_room)
		return sum_find(state, 0, kind);
	uint32_t *entry = ring->stacks[stack];
	if (!entry[kind])
		entry[kind] = sum_find(state, entry[0], kind) + 1;
	return entry[kind] - 1;
}

static bool in_eval_loop(const struct trace_process *shared, uint64_t pc)
{
	for (unsigned i = 0; i < TRACE_EVAL_RANGES; i++)
		if (pc > shared->eval_start[i] && pc <= shared->eval_end[i])
			return true;
	return false;
}

static uint64_t python_word(const struct ring *ring, uint64_t recorded)
{
	uint64_t code = recorded >> 32;

	code = code < ring->codes_room ? ring->codes[code] : 0;
	return PYTHON_WORD | code << 32 | (recorded & 0x7fffffff);
}

/* The ring's last stack of both sorts, leaf first. Each native frame of the eval loop gives way to the
 * Python frames it ran: those up to and with the next one marked `entry`. Counting from the leaf keeps
 * the two lists in step when either was cut at the root. Python frames left over (an interpreter whose
 * eval loop we cannot tell, a native list that ended early) go to the root's side; an eval frame
 * left over stays native. */
static uint32_t merge_frames(const struct process *process, const struct ring *ring,
			     uint64_t *merged)
{
	uint32_t count = 0, next = ring->python_count;
	bool cut = false;

	for (uint32_t i = ring->native_count; i-- > 0;) {
		uint64_t pc = ring->natives[i];
		if (pc == 0) {
			cut = true; /* always the last */
			continue;
		}
		if (next == 0 || !in_eval_loop(process->shared, pc)) {
			merged[count++] = pc & ~PYTHON_WORD;
			continue;
		}
		bool entry = false;
		while (next > 0 && !entry) {
			entry = ring->pythons[--next] & TRACE_PYTHON_ENTRY;
			merged[count++] = python_word(ring, ring->pythons[next]);
		}
	}
	cut = cut && next == 0;
	while (next > 0)
		merged[count++] = python_word(ring, ring->pythons[--next]);
	if (cut)
		merged[count++] = 0;
	return count;
}

/* Puts frames, leaf first, on top of those of the last stack that are kept. */
static bool take_frames(uint64_t **frames, uint32_t *count, uint32_t *room, const uint64_t *words,
			uint32_t fresh, uint32_t kept)
{
	if (!id_room((void **)frames, room, kept + fresh, sizeof **frames))
		return false;
	*count = kept + fresh;
	for (uint32_t i = 0; i < fresh; i++)
		(*frames)[kept + i] = words[fresh - 1 - i];
	return true;
}

/* The stack's node: of what is as in the ring's last one, nothing is looked up. */
static uint32_t find_node(struct process *process, struct ring *ring, const uint64_t *merged,
			  uint32_t count)
{
	uint32_t at = 0, node = 0;

	for (; at < count && at < ring->path_count; at++) {
		if (ring->path[at].word != merged[count - 1 - at])
			break;
		node = ring->path[at].node;
	}
	bool kept = id_room((void **)&ring->path, &ring->path_room, count, sizeof *ring->path);
	for (; at < count; at++) {
		uint64_t word = merged[count - 1 - at];
		node = trie_add(&process->state, node, word);
		if (kept)
			ring->path[at] = (struct step){word, node};
	}
	ring->path_count = kept ? count : 0;
	return node;
}

static bool take_stack(struct process *process, struct ring *ring, const uint64_t *record,
		       uint32_t words)
{
	uint64_t merged[2 * TRACE_MAX_FRAMES + 1]; /* a cut list ends in one word more */
	uint32_t natives = TRACE_COUNT(record[2], 0), pythons = TRACE_COUNT(record[2], 1);
	uint32_t kept = TRACE_COUNT(record[2], 2), pythons_kept = TRACE_COUNT(record[2], 3);
	uint64_t id = record[1];

	if (natives > TRACE_MAX_FRAMES + 1 || pythons > TRACE_MAX_FRAMES || kept > natives ||
	    pythons_kept > pythons || kept > ring->native_count ||
	    pythons_kept > ring->python_count)
		return false;
	natives -= kept;
	pythons -= pythons_kept;
	if (3 + natives + pythons > words)
		return false;
	if (id == 0 || id >= MAX_IDS ||
	    !id_room((void **)&ring->stacks, &ring->stacks_room, (uint32_t)id,
		     sizeof *ring->stacks))
		return false;
	if (!take_frames(&ring->natives, &ring->native_count, &ring->native_room, record + 3,
			 natives, kept) ||
	    !take_frames(&ring->pythons, &ring->python_count, &ring->python_room,
			 record + 3 + natives, pythons, pythons_kept))
		return false;
	uint32_t node = find_node(process, ring, merged, merge_frames(process, ring, merged));
	memset(ring->stacks[id], 0, sizeof ring->stacks[id]);
	ring->stacks[id][0] = node;
	return true;
}

/* The byte string at word `*at`; moves past it. */
static bool take_string(const uint64_t *record, uint32_t words, uint32_t *at, const char **bytes,
			uint32_t *length)
{
	if (*at >= words)
		return false;
	uint64_t size = record[*at];
	if (size > (uint64_t)(words - *at - 1) * 8)
		return false;
	*bytes = (const char *)&record[*at + 1];
	*length = (uint32_t)size;
	*at += 1 + (uint32_t)((size + 7) / 8);
	return true;
}

static bool take_code(struct process *process, struct ring *ring, const uint64_t *record,
		      uint32_t words)
{
	const char *parts[3];
	uint32_t lengths[3], at = 3;
	uint64_t id = record[1] & 0xffffffff;

	for (int i = 0; i < 3; i++)
		if (!take_string(record, words, &at, &parts[i], &lengths[i]))
			return false;
	if (id == 0 || id >= MAX_IDS ||
	    !id_room((void **)&ring->codes, &ring->codes_room, (uint32_t)id, sizeof *ring->codes))
		return false;
	char *bytes = malloc((size_t)lengths[0] + lengths[1] + lengths[2] + 1);
	if (!bytes)
		return false;
	memcpy(bytes, parts[0], lengths[0]);
	memcpy(bytes + lengths[0], parts[1], lengths[1]);
	memcpy(bytes + lengths[0] + lengths[1], parts[2], lengths[2]);
	struct code code = {.bytes = bytes,
			    .name = lengths[0],
			    .file = lengths[1],
			    .table = lengths[2],
			    .first_line = (uint32_t)(record[1] >> 32),
			    .format = (uint32_t)record[2]};
	ring->codes[id] = code_add(&process->state, &code);
	free(bytes);
	return true;
}

static bool take_module(struct process *process, const uint64_t *record, uint32_t words)
{
	struct mematlas_module module = {.bias = record[1], .start = record[2]};
	const char *path, *build;
	uint32_t path_length, build_length, at = 4;

	if (words < 6)
		return false;
	module.end = record[3];
	if (!take_string(record, words, &at, &path, &path_length) ||
	    !take_string(record, words, &at, &build, &build_length))
		return false;
	if (path_length >= sizeof module.path)
		path_length = sizeof module.path - 1;
	memcpy(module.path, path, path_length);
	if (build_length < sizeof module.build_id) /* hexadecimal; a longer one is none */
		memcpy(module.build_id, build, build_length);
	module_add(&process->state, &module);
	return true;
}

static bool take_definition(struct process *process, struct ring *ring, uint32_t mask,
			    uint32_t words)
{
	uint64_t *record = malloc(words * sizeof *record);
	bool good = false;

	if (!record)
		return false;
	for (uint32_t i = 0; i < words; i++)
		record[i] = word(ring, mask, i);
	if (TRACE_TYPE(record[0]) == TRACE_STACK)
		good = take_stack(process, ring, record, words);
	else if (TRACE_TYPE(record[0]) == TRACE_CODE)
		good = take_code(process, ring, record, words);
	else
		good = take_module(process, record, words);
	free(record);
	return good;
}

static void take_alloc(struct process *process, struct ring *ring, uint32_t mask)
{
	uint64_t time = ring->time;
	uint64_t place = word(ring, mask, 1), size = word(ring, mask, 2);
	uint64_t stack = word(ring, mask, 3);
	uint32_t kind = TRACE_KIND(place), flags = (uint32_t)(place >> 56);

	if (flags & TRACE_FLAG_MOVED && ring->unmapped_kind)
		kind = ring->unmapped_kind;
	if (kind == 0 || kind >= KINDS)
		return;
	uint32_t sum = sum_of(&process->state, ring, stack, kind);
	if (is_block_kind(kind)) {
		struct block block = block_make(BLOCK_KEY(place, kind), size, sum,
						flags & TRACE_FLAG_ALWAYS, time);
		state_allocate(&process->state, time, &block);
		return;
	}
	uint64_t start = TRACE_ADDRESS(place);
	uint64_t end = page_ceil(start + size);
	struct range range = {start, end,           time,
			      sum,   (uint8_t)kind, flags & TRACE_FLAG_RESERVED ? 1 : 0};
	if (end > start && end <= 1ull << 48)
		state_map(&process->state, time, &range);
}

static void take_free(struct process *process, struct ring *ring, uint64_t time, uint64_t place)
{
	ring->freed_time = time;
	if (!state_release(&process->state, time, BLOCK_KEY(place, TRACE_KIND(place)),
			   &ring->freed)) {
		ring->freed.key = 0;
		process->unknown_frees++;
	}
}

static void take_restore(struct process *process, struct ring *ring, uint64_t time, uint64_t place)
{
	if (ring->freed.key && ring->freed.key == BLOCK_KEY(place, TRACE_KIND(place)))
		state_restore(&process->state, time, ring->freed_time, &ring->freed);
	ring->freed.key = 0;
}

static void take_bad_free(struct process *process, struct ring *ring, uint64_t place,
			  uint64_t stack)
{
	uint32_t kind = TRACE_KIND(place);

	if (kind > 0 && kind < KINDS) {
		uint32_t sum = sum_of(&process->state, ring, stack, kind);
		process->state.sums.items[sum].bad_frees += 1;
	}
}

static void take_fault(struct mematlas_collector *collector, struct process *process,
		       struct ring *ring, uint32_t mask)
{
	uint64_t place = word(ring, mask, 1), what = word(ring, mask, 2);
	uint32_t stack = (uint32_t)what;
	uint32_t node = stack < ring->stacks_room ? ring->stacks[stack][0] : 0;
	const struct trace_ring *shared =
		(const struct trace_ring *)((const char *)process->shared + TRACE_RINGS_OFFSET) +
		(ring - process->rings);

	if (!touches_take(collector, process, shared, TRACE_ADDRESS(place), node,
			  (uint32_t)(what >> 32), (unsigned)(place >> 56)))
		process->state.out_of_memory = true;
}

uint32_t record_take(struct mematlas_collector *collector, struct process *process,
		     struct ring *ring, uint32_t mask, uint32_t available)
{
	uint32_t words = record_words(ring, mask, available);
	uint64_t head = word(ring, mask, 0);

	if (words == 0)
		return 0;
	switch (TRACE_TYPE(head)) {
	case TRACE_ALLOC:
		take_alloc(process, ring, mask);
		break;
	case TRACE_FREE:
		take_free(process, ring, ring->time, word(ring, mask, 1));
		break;
	case TRACE_RESTORE:
		take_restore(process, ring, ring->time, word(ring, mask, 1));
		break;
	case TRACE_UNMAP:
		ring->unmapped_kind = state_unmap(&process->state, ring->time, word(ring, mask, 1),
						  word(ring, mask, 1) + word(ring, mask, 2));
		break;
	case TRACE_FORK:
		clone_make(collector, process, ring->time, word(ring, mask, 1));
		break;
	case TRACE_FORK_FAILED:
		clone_drop(collector, process->shared->pid, word(ring, mask, 1));
		break;
	case TRACE_BAD_FREE:
		take_bad_free(process, ring, word(ring, mask, 1), word(ring, mask, 2));
		break;
	case TRACE_FAULT:
		take_fault(collector, process, ring, mask);
		break;
	case TRACE_PAD:
		return 1;
	default:
		return take_definition(process, ring, mask, words) ? words : 0;
	}
	process->events++;
	return words;
}
