/* Definitions out of a ring: stacks, code objects, modules. The traced program wrote them, so
 * everything is checked. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "collector.h"

#define MAX_IDS (4 * TRACE_MOST_IDS) /* a snapshot may define more code objects than that at once */
#define LEAST_WORDS 3u /* of a definition */
#define MAX_MERGED (2 * TRACE_MAX_FRAMES + 1) /* a cut list ends in one word more: 0 */
#define PYTHON_WORD (1ull << 63)

/* Makes `*table` long enough for element `id`; new elements are 0. */
static bool reserve_id(void **table, uint32_t *capacity, uint64_t id, size_t size)
{
	if (id < *capacity)
		return true;
	if (id >= MAX_IDS)
		return false;
	uint32_t larger = *capacity ? *capacity : 256;
	while (larger <= id)
		larger *= 2;
	char *moved = realloc(*table, larger * size);
	if (!moved)
		return false;
	memset(moved + *capacity * size, 0, (larger - *capacity) * size);
	*table = moved;
	*capacity = larger;
	return true;
}

/* IDs count from 1, so a ring cannot have defined more of them than its records have space for. */
static bool is_possible(const struct ring *ring, uint64_t id, uint32_t words)
{
	return id > 0 && id <= (ring->tail + words) / LEAST_WORDS;
}

/* low == least start, high == greatest end of the ranges that are not empty; most frames are outside both */
struct eval_loop {
	uint64_t starts[TRACE_EVAL_RANGES], ends[TRACE_EVAL_RANGES];
	uint64_t low, high;
};

/* Each value is read once: the process may change them. */
static struct eval_loop eval_loop_of(const struct trace_process *shared)
{
	struct eval_loop loop = {.low = UINT64_MAX};

	for (unsigned i = 0; i < TRACE_EVAL_RANGES; i++) {
		uint64_t start = __atomic_load_n(&shared->eval_start[i], __ATOMIC_RELAXED);
		uint64_t end = __atomic_load_n(&shared->eval_end[i], __ATOMIC_RELAXED);
		loop.starts[i] = start;
		loop.ends[i] = end;
		if (start < end && start < loop.low)
			loop.low = start;
		if (start < end && end > loop.high)
			loop.high = end;
	}
	return loop;
}

static bool in_eval_loop(const struct eval_loop *loop, uint64_t pc)
{
	if (pc <= loop->low || pc > loop->high)
		return false;
	for (unsigned i = 0; i < TRACE_EVAL_RANGES; i++)
		if (pc > loop->starts[i] && pc <= loop->ends[i])
			return true;
	return false;
}

static uint64_t python_word(const struct ring *ring, uint64_t recorded)
{
	uint64_t code = recorded >> 32;

	struct code_reference found = {0};
	if (code < ring->codes_capacity)
		found = ring->codes[code];
	code = found.lap == ring->code_lap ? found.code : 0;
	return PYTHON_WORD | code << 32 | (recorded & 0x7fffffff);
}

/* Merges the native and the Python frames of the ring's last stack, leaf first. A native frame of
 * the eval loop is replaced by the Python frames it ran, which are those up to the next one marked
 * `entry`. The merge starts at the leaf because either list may be cut at the root. Python frames
 * that remain (the eval loop is unknown, or the native list ended early) go to the root's side; an
 * eval frame that remains stays native. */
static uint32_t merge_frames(const struct process *process, const struct ring *ring,
			     uint64_t *merged)
{
	struct eval_loop loop = eval_loop_of(process->shared);
	uint32_t count = 0, next = ring->python_count;
	bool cut = false;

	for (uint32_t i = ring->native_count; i-- > 0;) {
		uint64_t pc = ring->natives[i];
		if (pc == 0) {
			cut = true; /* the unwinder stopped here; the last entry */
			continue;
		}
		if (next == 0 || !in_eval_loop(&loop, MODULE_ADDRESS(pc))) {
			merged[count++] = pc;
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

/* Replaces all but the first `kept` frames by `fresh` ones, which come leaf first. */
static bool push_frames(uint64_t **frames, uint32_t *count, uint32_t *capacity,
			const uint64_t *words, uint32_t fresh, uint32_t kept)
{
	if (!reserve_id((void **)frames, capacity, kept + fresh, sizeof **frames))
		return false;
	*count = kept + fresh;
	for (uint32_t i = 0; i < fresh; i++)
		(*frames)[kept + i] = words[fresh - 1 - i];
	return true;
}

/* The node of a stack. Frames it shares with the ring's last stack, from the root, need no
 * lookup. */
static uint32_t find_node(struct process *process, struct ring *ring, const uint64_t *merged,
			  uint32_t count)
{
	uint32_t at = 0, node = 0, hash = 0;
	uint32_t hashes[MAX_MERGED];

	for (; at < count && at < ring->path_count; at++) {
		if (ring->path[at].word != merged[count - 1 - at])
			break;
		node = ring->path[at].node;
		hash = ring->path[at].hash;
	}
	bool kept =
		reserve_id((void **)&ring->path, &ring->path_capacity, count, sizeof *ring->path);
	for (uint32_t i = at; i < count; i++) {
		hash = hashes[i] = stack_trie_hash(hash, merged[count - 1 - i]);
		stack_trie_prefetch(&process->state.trie, hash);
	}
	for (; at < count; at++) {
		uint64_t word = merged[count - 1 - at];
		uint32_t next = stack_trie_add_hashed(&process->state, node, word, hashes[at]);
		if (next ==
		    node) { /* no room for it: the stack counts at the deepest caller that is known */
			process->state.cut_stacks++;
			process->state.has_cut = true;
			break;
		}
		node = next;
		if (kept)
			ring->path[at] = (struct step){word, node, hashes[at]};
	}
	ring->path_count = kept ? at : 0;
	return node;
}

enum { NATIVES, PYTHONS, NATIVES_KEPT, PYTHONS_KEPT, COUNTS };

static bool counts_fit(const struct ring *ring, const uint32_t *counts, uint32_t words)
{
	uint32_t kept = counts[NATIVES_KEPT], pythons_kept = counts[PYTHONS_KEPT];

	if (counts[NATIVES] > TRACE_MAX_FRAMES + 1 || counts[PYTHONS] > TRACE_MAX_FRAMES)
		return false;
	if (kept > counts[NATIVES] || kept > ring->native_count)
		return false;
	if (pythons_kept > counts[PYTHONS] || pythons_kept > ring->python_count)
		return false;
	return 3 + counts[NATIVES] - kept + counts[PYTHONS] - pythons_kept <= words;
}

static bool define_stack(struct process *process, struct ring *ring, const uint64_t *record,
			 uint32_t words)
{
	uint64_t merged[MAX_MERGED];
	uint64_t id = record[1];
	uint32_t counts[COUNTS];

	for (int i = 0; i < COUNTS; i++)
		counts[i] = TRACE_COUNT(record[2], i);
	if (!counts_fit(ring, counts, words) || !is_possible(ring, id, words))
		return false;
	uint32_t natives = counts[NATIVES] - counts[NATIVES_KEPT];
	uint32_t pythons = counts[PYTHONS] - counts[PYTHONS_KEPT];
	if (!reserve_id((void **)&ring->stacks, &ring->stacks_capacity, id, sizeof *ring->stacks) ||
	    !push_frames(&ring->natives, &ring->native_count, &ring->native_capacity, record + 3,
			 natives, counts[NATIVES_KEPT]) ||
	    !push_frames(&ring->pythons, &ring->python_count, &ring->python_capacity,
			 record + 3 + natives, pythons, counts[PYTHONS_KEPT]))
		return false;
	for (uint32_t i = counts[NATIVES_KEPT]; i < ring->native_count; i++)
		ring->natives[i] = module_word(&process->state, &ring->loaded, ring->natives[i]);
	uint32_t node = find_node(process, ring, merged, merge_frames(process, ring, merged));
	stack_stats_prefetch(&process->state.stats, node); /* an allocation follows */
	memset(ring->stacks[id], 0, sizeof ring->stacks[id]);
	ring->stacks[id][0] = node;
	return true;
}

/* Reads the byte string at word `*at` and moves past it. */
static bool read_string(const uint64_t *record, uint32_t words, uint32_t *at, const char **bytes,
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

static bool define_code(struct process *process, struct ring *ring, const uint64_t *record,
			uint32_t words)
{
	const char *parts[3];
	uint32_t lengths[3], at = 3;
	uint64_t id = record[1] & 0xffffffff;

	for (int i = 0; i < 3; i++)
		if (!read_string(record, words, &at, &parts[i], &lengths[i]))
			return false;
	if (!is_possible(ring, id, words) ||
	    !reserve_id((void **)&ring->codes, &ring->codes_capacity, id, sizeof *ring->codes))
		return false;
	CLEANUP_FREE char *bytes = malloc((size_t)lengths[0] + lengths[1] + lengths[2] + 1);
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
	if (id <= ring->last_code) /* the tracer counts anew; a definition may have been lost */
		ring->code_lap++;
	ring->last_code = (uint32_t)id;
	ring->codes[id] = (struct code_reference){code_add(&process->state, &code), ring->code_lap};
	return true;
}

/* The loader keeps the path as the program gave it, which may be relative to the working directory. */
static void copy_path(const struct process *process, struct mematlas_module *module,
		      const char *path, uint32_t length)
{
	size_t used = 0;

	if (length && path[0] != '/' && memchr(path, '/', length)) {
		ssize_t read =
			readlinkat(process->dir, "cwd", module->path, sizeof module->path - 2);
		if (read > 0 && module->path[0] == '/') {
			used = (size_t)read;
			module->path[used++] = '/';
		}
	}
	if (length >= sizeof module->path - used)
		length = (uint32_t)(sizeof module->path - used - 1);
	memcpy(module->path + used, path, length);
	module->path[used + length] = 0;
}

static bool define_module(struct process *process, struct ring *ring, const uint64_t *record,
			  uint32_t words)
{
	struct mematlas_module module = {.bias = record[1], .start = record[2]};
	const char *path, *build;
	uint32_t path_length, build_length, at = 4;

	if (words < 6)
		return false;
	module.end = record[3];
	if (!read_string(record, words, &at, &path, &path_length) ||
	    !read_string(record, words, &at, &build, &build_length))
		return false;
	copy_path(process, &module, path, path_length);
	if (build_length < sizeof module.build_id) /* a longer one is no build ID */
		memcpy(module.build_id, build, build_length);
	uint64_t epoch = module_add(&process->state, &module);
	return loaded_modules_add(&ring->loaded, &module, epoch);
}

bool definition_apply(struct process *process, struct ring *ring, uint32_t mask, uint64_t head,
		      uint32_t words)
{
	CLEANUP_FREE uint64_t *record = malloc(words * sizeof *record);

	if (!record)
		return false;
	record[0] = head;
	for (uint32_t i = 1; i < words; i++)
		record[i] = ring_word(ring, mask, i);
	if (TRACE_TYPE(record[0]) == TRACE_STACK)
		return define_stack(process, ring, record, words);
	if (TRACE_TYPE(record[0]) == TRACE_CODE)
		return define_code(process, ring, record, words);
	return define_module(process, ring, record, words);
}
