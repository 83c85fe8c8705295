/* Code objects, each kept once. */
#include <string.h>

#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u

static size_t bytes_length(const struct code *code)
{
	return (size_t)code->name + code->file + code->table;
}

static bool same_code(const struct code *a, const struct code *b)
{
	return a->hash == b->hash && a->name == b->name && a->file == b->file &&
	       a->table == b->table && a->first_line == b->first_line && a->format == b->format &&
	       memcmp(a->bytes, b->bytes, bytes_length(a)) == 0;
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

static bool codes_reserve(struct codes *codes)
{
	if (!ARRAY_RESERVE(codes->items, codes->count, codes->capacity, FIRST_CAPACITY))
		return false;
	if (hash_table_fits(codes->table, codes->mask, codes->capacity))
		return true;
	if (!hash_table_grow(&codes->table, &codes->mask, codes->capacity))
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
	size_t length = bytes_length(code);
	struct code copy = *code;

	copy.hash = hash_mix(bytes_hash(code->bytes, length), code->first_line);
	uint32_t existing = code_find(codes, &copy);
	if (existing)
		return existing;
	copy.bytes = malloc(length + 1);
	if (!copy.bytes || !codes_reserve(codes)) {
		free(copy.bytes);
		state->out_of_memory = true;
		return 0;
	}
	memcpy(copy.bytes, code->bytes, length);
	codes->items[codes->count++] = copy;
	codes_link(codes, codes->count);
	return codes->count;
}

void codes_compact(struct codes *codes, uint32_t *kept)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id <= codes->count; id++) {
		struct code code = codes->items[id - 1];
		if (!kept[id]) {
			free(code.bytes);
			continue;
		}
		codes->items[count++] = code;
		kept[id] = count;
	}
	codes->count = count;
	codes->items = hash_table_shrink(codes->items, sizeof *codes->items, count,
					 &codes->capacity, &codes->table, &codes->mask);
	for (uint32_t id = 1; id <= count; id++)
		codes_link(codes, id);
}
