/* The interpreter's dict of interned strings. Its two references to each string are not counted, so
 * that a string goes when nobody else holds it: as edges they would take each name from its module.
 * Such a dict has each string as key and as value. */
#include "python.h"

#include <string.h>

#define FEWEST 200 /* an interpreter interns some thousand strings at its start */
#define SAMPLE 64

static bool is_interned(const struct heap *heap, uint64_t string)
{
	uint32_t block = heap_find(heap, string);
	const struct python_type *type;
	uint64_t state, address;

	if (!heap_word(&heap->image, string + STR_STATE, &state) || !(state & STR_INTERNED))
		return false;
	if (block != HEAP_NONE)
		type = python_type_of(heap, block);
	else
		type = heap_word(&heap->image, string + 8, &address)
			       ? python_known_type(heap->python, address)
			       : NULL;
	return type && type->kind == PYTHON_STR;
}

static bool holds_itself(const struct heap *heap, const struct python_keys *table)
{
	uint64_t step = table->count / SAMPLE, words[2], seen = 0;

	for (uint64_t i = 0; i < table->count; i += step) {
		const void *entry =
			heap_at(&heap->image,
				table->entries + i * table->entry_size + table->entry_size - 16,
				sizeof words);

		if (!entry)
			return false;
		memcpy(words, entry, sizeof words);
		if (words[0] != words[1])
			return false;
		if (!words[0])
			continue; /* a hole */
		if (!is_interned(heap, words[0]))
			return false;
		seen++;
	}
	return seen > 0;
}

static bool is_interned_dict(const struct heap *heap, uint32_t block)
{
	const struct python_type *type = python_type_of(heap, block);
	uint64_t keys;
	struct python_keys table;

	return type && type->kind == PYTHON_DICT && !(type->flags & PYTHON_HEAP_TYPE) &&
	       heap_word(&heap->image, python_object(heap, block) + DICT_KEYS, &keys) &&
	       python_keys_at(heap, keys, &table) && table.count >= FEWEST &&
	       holds_itself(heap, &table);
}

void python_mark_interned(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->blocks.count; i++)
		if (is_interned_dict(heap, i))
			heap->blocks.layout[i] = MEMATLAS_HEAP_PYTHON_UNCOUNTED;
}
