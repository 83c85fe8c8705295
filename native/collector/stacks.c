/* Stacks as a trie, the sums that hang on its nodes, and the code and modules they name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define FIRST_ROOM 256u

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15ull)) * 0xff51afd7ed558ccdull;

	x ^= x >> 32;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 29;
}

/* Room for one more item of an array that grows by doubling. */
static bool reserve(void **items, uint32_t count, uint32_t *room, size_t size)
{
	if (count < *room)
		return true;
	uint32_t larger = *room ? *room * 2 : FIRST_ROOM;
	void *moved = larger > *room ? realloc(*items, larger * size) : NULL;
	if (!moved)
		return false;
	*items = moved;
	*room = larger;
	return true;
}

/* A table of numbers twice as large as the array it indexes has room for. */
static bool new_table(uint32_t **table, uint32_t *mask, uint32_t room)
{
	uint32_t *larger = calloc((size_t)room * 2, sizeof **table);

	if (!larger)
		return false;
	free(*table);
	*table = larger;
	*mask = room * 2 - 1;
	return true;
}

static uint64_t node_hash(const struct mematlas_node *node)
{
	return mix(node->parent, node->word);
}

static void trie_link(struct trie *trie, uint32_t number)
{
	uint32_t at = (uint32_t)node_hash(&trie->nodes[number]) & trie->mask;

	while (trie->table[at])
		at = (at + 1) & trie->mask;
	trie->table[at] = number;
}

static bool trie_room(struct trie *trie)
{
	uint32_t room = trie->room;

	if (!reserve((void **)&trie->nodes, trie->count, &trie->room, sizeof *trie->nodes))
		return false;
	if (room == trie->room)
		return true;
	if (!new_table(&trie->table, &trie->mask, trie->room))
		return false;
	for (uint32_t i = 1; i < trie->count; i++)
		trie_link(trie, i);
	return true;
}

uint32_t trie_add(struct state *state, uint32_t parent, uint64_t word)
{
	struct trie *trie = &state->trie;
	struct mematlas_node node = {.parent = parent, .word = word};

	for (uint32_t at = (uint32_t)node_hash(&node) & trie->mask; trie->table[at];
	     at = (at + 1) & trie->mask) {
		const struct mematlas_node *found = &trie->nodes[trie->table[at]];
		if (found->parent == parent && found->word == word)
			return trie->table[at];
	}
	if (!trie_room(trie)) {
		state->out_of_memory = true;
		return parent;
	}
	trie->nodes[trie->count] = node;
	trie_link(trie, trie->count);
	return trie->count++;
}

static void sums_link(struct sums *sums, uint32_t index)
{
	uint32_t at = (uint32_t)mix(sums->items[index].node, sums->items[index].kind) & sums->mask;

	while (sums->table[at])
		at = (at + 1) & sums->mask;
	sums->table[at] = index + 1;
}

static bool sums_room(struct sums *sums)
{
	uint32_t room = sums->room;

	if (!reserve((void **)&sums->items, sums->count, &sums->room, sizeof *sums->items))
		return false;
	if (room == sums->room)
		return true;
	if (!new_table(&sums->table, &sums->mask, sums->room))
		return false;
	for (uint32_t i = 0; i < sums->count; i++)
		sums_link(sums, i);
	return true;
}

uint32_t sum_find(struct state *state, uint32_t node, uint32_t kind)
{
	struct sums *sums = &state->sums;

	for (uint32_t at = (uint32_t)mix(node, kind) & sums->mask; sums->table[at];
	     at = (at + 1) & sums->mask) {
		const struct sum *found = &sums->items[sums->table[at] - 1];
		if (found->node == node && found->kind == kind)
			return sums->table[at] - 1;
	}
	if (!sums_room(sums)) {
		state->out_of_memory = true;
		return 0;
	}
	sums->items[sums->count] = (struct sum){.node = node, .kind = kind};
	sums_link(sums, sums->count);
	return sums->count++;
}

static bool same_code(const struct code *a, const struct code *b)
{
	return a->hash == b->hash && a->name == b->name && a->file == b->file &&
	       a->table == b->table && a->first_line == b->first_line && a->format == b->format &&
	       memcmp(a->bytes, b->bytes, (size_t)a->name + a->file + a->table) == 0;
}

static uint64_t bytes_hash(const char *bytes, size_t length)
{
	uint64_t hash = length;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
	return hash;
}

static void codes_link(struct codes *codes, uint32_t id)
{
	uint32_t at = (uint32_t)codes->items[id - 1].hash & codes->mask;

	while (codes->table[at])
		at = (at + 1) & codes->mask;
	codes->table[at] = id;
}

static bool codes_room(struct codes *codes)
{
	uint32_t room = codes->room;

	if (!reserve((void **)&codes->items, codes->count, &codes->room, sizeof *codes->items))
		return false;
	if (room == codes->room && codes->table)
		return true;
	if (!new_table(&codes->table, &codes->mask, codes->room))
		return false;
	for (uint32_t id = 1; id <= codes->count; id++)
		codes_link(codes, id);
	return true;
}

static uint32_t code_find(const struct codes *codes, const struct code *code)
{
	if (!codes->table)
		return 0;
	for (uint32_t at = (uint32_t)code->hash & codes->mask; codes->table[at];
	     at = (at + 1) & codes->mask)
		if (same_code(&codes->items[codes->table[at] - 1], code))
			return codes->table[at];
	return 0;
}

uint32_t code_add(struct state *state, const struct code *code)
{
	struct codes *codes = &state->codes;
	size_t length = (size_t)code->name + code->file + code->table;
	struct code copy = *code;

	copy.hash = mix(bytes_hash(code->bytes, length), code->first_line);
	uint32_t known = code_find(codes, &copy);
	if (known)
		return known;
	copy.bytes = malloc(length + 1);
	if (!copy.bytes || !codes_room(codes)) {
		free(copy.bytes);
		state->out_of_memory = true;
		return 0;
	}
	memcpy(copy.bytes, code->bytes, length);
	codes->items[codes->count++] = copy;
	codes_link(codes, codes->count);
	return codes->count;
}

/* The same module is told by every thread; it counts anew only if another took its place since. */
void module_add(struct state *state, const struct mematlas_module *module)
{
	struct modules *modules = &state->modules;

	for (uint32_t i = modules->count; i-- > 0;) {
		const struct mematlas_module *known = &modules->items[i];
		if (known->start >= module->end || known->end <= module->start)
			continue;
		if (known->start == module->start && known->bias == module->bias &&
		    strcmp(known->path, module->path) == 0)
			return;
		break;
	}
	if (!reserve((void **)&modules->items, modules->count, &modules->room,
		     sizeof *modules->items)) {
		state->out_of_memory = true;
		return;
	}
	modules->items[modules->count++] = *module;
}

bool state_init(struct state *state, double mean)
{
	*state = (struct state){.mean = mean, .epoch = 1};
	if (!trie_room(&state->trie) || !sums_room(&state->sums)) {
		state_free(state);
		return false;
	}
	state->trie.nodes[0] = (struct mematlas_node){0};
	state->trie.count = 1; /* the root: no stack */
	return true;
}

void state_free(struct state *state)
{
	for (uint32_t i = 0; i < state->codes.count; i++)
		free(state->codes.items[i].bytes);
	free(state->blocks.groups);
	free(state->large.slots);
	free(state->ranges.items);
	free(state->trie.nodes);
	free(state->trie.table);
	free(state->sums.items);
	free(state->sums.table);
	free(state->codes.items);
	free(state->codes.table);
	free(state->modules.items);
	free(state->ages.slots);
	*state = (struct state){0};
}

static void *copy_of(const void *items, size_t bytes, bool *failed)
{
	void *copy = malloc(bytes ? bytes : 1);

	if (copy && items)
		memcpy(copy, items, bytes);
	*failed = *failed || !copy;
	return copy;
}

static void copy_codes(struct codes *to, const struct codes *from, bool *failed)
{
	to->table = NULL;
	to->items = copy_of(from->items, from->room * sizeof *from->items, failed);
	if (from->table)
		to->table = copy_of(from->table, ((size_t)from->mask + 1) * 4, failed);
	if (!to->items) {
		to->count = 0;
		return;
	}
	for (uint32_t i = 0; i < from->count; i++) {
		const struct code *code = &from->items[i];
		size_t length = (size_t)code->name + code->file + code->table;
		to->items[i].bytes = copy_of(code->bytes, length, failed);
	}
}

/* What a forked child starts with: its parent's live memory, nothing done by itself yet. */
static void start_afresh(struct state *state)
{
	for (uint32_t i = 0; i < state->sums.count; i++) {
		struct sum *sum = &state->sums.items[i];
		sum->allocated = sum->allocations = sum->allocated_variance = 0;
		sum->freed = sum->bad_frees = 0;
		sum->peak = sum->peak_count = sum->peak_variance = 0;
		memset(sum->lives, 0, sizeof sum->lives);
		sum->brief = 0;
	}
	ages_forget(&state->ages);
	state->peak = state->live;
	state->epoch++;
}

int state_copy(struct state *to, const struct state *from, uint64_t since)
{
	bool failed = false;

	*to = *from;
	failed = blocks_copy(&to->blocks, &from->blocks) < 0;
	failed |= !large_copy(&to->large, &from->large);
	to->ranges.items =
		copy_of(from->ranges.items, from->ranges.count * sizeof(struct range), &failed);
	to->ranges.room = to->ranges.count;
	to->trie.nodes =
		copy_of(from->trie.nodes, from->trie.room * sizeof(struct mematlas_node), &failed);
	to->trie.table = copy_of(from->trie.table, ((size_t)from->trie.mask + 1) * 4, &failed);
	to->sums.items = copy_of(from->sums.items, from->sums.room * sizeof(struct sum), &failed);
	to->sums.table = copy_of(from->sums.table, ((size_t)from->sums.mask + 1) * 4, &failed);
	to->modules.items = copy_of(from->modules.items,
				    from->modules.count * sizeof(struct mematlas_module), &failed);
	to->modules.room = to->modules.count;
	copy_codes(&to->codes, &from->codes, &failed);
	failed |= !ages_copy(&to->ages, &from->ages);
	if (failed) {
		state_free(to);
		return -ENOMEM;
	}
	start_afresh(to);
	to->since = since;
	return 0;
}
