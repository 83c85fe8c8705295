/* Dicts, lists, tuples, sets, deques, and the attributes of instances. The storage of a container
 * is a block that holds nothing itself: the container holds the items, so that a path reads
 * dict › value, and stale words behind the last item count for nothing. */
#include "python.h"

#include <string.h>

#define KEYS_HEAD 32

static void visit_array(const struct python_reader *reader, uint64_t start, uint64_t count,
			uint64_t step)
{
	uint32_t block = heap_find(reader->heap, start);
	const uint8_t *items;
	uint64_t word, left;

	if (block != HEAP_NONE) { /* a corrupt count must not lead into the next block */
		left = reader->heap->blocks.address[block] + reader->heap->blocks.size[block] -
		       start;
		count = count <= (left + step - 8) / step ? count : (left + step - 8) / step;
	}
	if (!count || count > UINT64_MAX / step)
		return;
	items = heap_at(&reader->heap->image, start, (count - 1) * step + 8);
	for (uint64_t i = 0; items && i < count; i++) {
		memcpy(&word, items + i * step, 8);
		if (word)
			reader->visit(reader->to, word);
	}
}

bool python_keys_at(const struct heap *heap, uint64_t address, struct python_keys *ret)
{
	const uint8_t *head = address & 7 ? NULL : heap_at(&heap->image, address, KEYS_HEAD);
	uint32_t block = head ? heap_find(heap, address) : HEAP_NONE;
	uint64_t end;

	if (!head || head[8] > LARGEST_TABLE || head[9] > LARGEST_TABLE || head[10] > 2)
		return false;
	memcpy(&ret->count, head + 24, sizeof ret->count);
	if (ret->count > 1ULL << head[8])
		return false;
	ret->address = address;
	ret->split = head[10] == 2;
	ret->entry_size = head[10] ? 16 : 24;
	ret->entries = address + KEYS_HEAD + (1ULL << head[9]);
	end = ret->entries + ret->count * ret->entry_size;
	if (block != HEAP_NONE)
		return end <= heap->blocks.address[block] + heap->blocks.size[block];
	return heap_at(&heap->image, address, end - address) != NULL;
}

static void read_entries(const struct python_reader *reader, const struct python_keys *keys)
{
	uint64_t first = keys->entries + keys->entry_size - 16;

	visit_array(reader, first, keys->count, keys->entry_size);
	visit_array(reader, first + 8, keys->count, keys->entry_size);
}

void python_read_shared_keys(const struct python_reader *reader, uint64_t address)
{
	struct python_keys keys;

	if (address && python_keys_at(reader->heap, address, &keys))
		visit_array(reader, keys.entries, keys.count, keys.entry_size);
}

/* Values from 3.13 on begin with their capacity; `embedded` ones lie in the instance. */
static void read_values(const struct python_reader *reader, uint64_t values, uint64_t count)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	const uint8_t *head = heap_at(&reader->heap->image, values, 4);

	if (!layout || !head)
		return;
	if (layout->values_items && count > head[0])
		count = head[0];
	visit_array(reader, values + layout->values_items, count, 8);
}

static void read_split(const struct python_reader *reader, uint64_t keys, uint64_t values)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	const uint8_t *head = heap_at(&reader->heap->image, values, 4);
	struct python_keys table;

	if (layout && layout->values_items && head && head[2])
		return; /* the instance has them */
	reader->visit(reader->to, values);
	if (python_keys_at(reader->heap, keys, &table))
		read_values(reader, values, table.count);
}

void python_read_dict(const struct python_reader *reader)
{
	uint64_t keys = python_word(reader->heap, reader->object + DICT_KEYS);
	uint64_t values = python_word(reader->heap, reader->object + DICT_VALUES);
	struct python_keys table;

	/* The type holds shared keys. */
	if (values) {
		read_split(reader, keys, values);
		return;
	}
	reader->visit(reader->to, keys);
	if (python_keys_at(reader->heap, keys, &table))
		read_entries(reader, &table);
}

/* The table of a dict, and its keys if they count. */
void python_read_keys(const struct python_reader *reader, bool names)
{
	uint64_t keys = python_word(reader->heap, reader->object + DICT_KEYS);
	struct python_keys table;

	reader->visit(reader->to, keys);
	if (names && python_keys_at(reader->heap, keys, &table))
		visit_array(reader, table.entries + table.entry_size - 16, table.count,
			    table.entry_size);
}

void python_read_list(const struct python_reader *reader)
{
	uint64_t count = python_word(reader->heap, reader->object + SEQUENCE_SIZE);
	uint64_t items = python_word(reader->heap, reader->object + LIST_ITEMS);
	uint32_t block = heap_find(reader->heap, items);

	if (block == HEAP_NONE)
		return;
	reader->visit(reader->to, items);
	if (count <= reader->heap->blocks.size[block] / 8)
		visit_array(reader, items, count, 8);
}

void python_read_tuple(const struct python_reader *reader)
{
	uint64_t count = python_word(reader->heap, reader->object + SEQUENCE_SIZE);
	uint64_t items = reader->object + reader->type->base_size;

	if (items < reader->end && count <= (reader->end - items) / 8)
		visit_array(reader, items, count, 8);
}

void python_read_set(const struct python_reader *reader)
{
	uint64_t mask = python_word(reader->heap, reader->object + SET_MASK);
	uint64_t table = python_word(reader->heap, reader->object + SET_TABLE);
	uint32_t block = heap_find(reader->heap, table);

	if (block == HEAP_NONE || mask >= reader->heap->blocks.size[block] / 16)
		return;
	if (table != reader->object + SET_SMALL_TABLE)
		reader->visit(reader->to, table);
	visit_array(reader, table, mask + 1, 16);
}

void python_read_deque(const struct python_reader *reader)
{
	const struct heap *heap = reader->heap;
	uint64_t left = python_word(heap, reader->object + SEQUENCE_SIZE);
	uint64_t block = python_word(heap, reader->object + DEQUE_LEFT);
	uint64_t at = python_word(heap, reader->object + DEQUE_LEFT_INDEX);
	uint32_t hops = 0;

	while (heap_find(heap, block) != HEAP_NONE && at < DEQUE_ITEMS &&
	       hops++ <= heap->blocks.count) {
		uint64_t count = DEQUE_ITEMS - at < left ? DEQUE_ITEMS - at : left;

		reader->visit(reader->to, block);
		visit_array(reader, block + 8 + at * 8, count, 8);
		left -= count;
		if (!left)
			break;
		at = 0;
		block = python_word(heap, block + 8 + DEQUE_ITEMS * 8);
	}
	python_visit_words(reader, reader->object + DEQUE_FREE_BLOCKS,
			   reader->object + reader->type->base_size);
}

uint64_t python_values_at(const struct heap *heap, uint64_t object)
{
	uint64_t tagged = python_word(heap, object - 24);

	if (heap->python->layout->version == 11)
		return python_word(heap, object - 32);
	return tagged & 1 ? tagged + 1 : 0;
}

static void read_old_values(const struct python_reader *reader, uint64_t values)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	struct python_keys keys;

	if (!values)
		return;
	reader->visit(reader->to, values);
	if (python_keys_at(reader->heap,
			   python_word(reader->heap, reader->type->address + layout->cached_keys),
			   &keys))
		read_values(reader, values, keys.count);
}

static void read_inline_values(const struct python_reader *reader)
{
	uint64_t values = reader->object + reader->type->basic_size;
	const uint8_t *head = heap_at(&reader->heap->image, values, 8);

	if (head && head[3] && values + 8 + head[0] * 8ULL <= reader->end)
		visit_array(reader, values + 8, head[0], 8);
}

/* Without a layout the words before the object are taken for what they can be. */
static void read_unknown_instance(const struct python_reader *reader)
{
	for (uint64_t at = reader->object - 32; at < reader->object - 16; at += 8) {
		uint64_t word = python_word(reader->heap, at);

		if (at == reader->object - 24 || !(reader->type->flags & PYTHON_MANAGED_WEAKREF))
			reader->visit(reader->to, word + (word & 1));
	}
}

void python_read_instance(const struct python_reader *reader)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	uint64_t word = python_word(reader->heap, reader->object - 24);

	if (!layout) {
		read_unknown_instance(reader);
		return;
	}
	if (word && !(layout->version == 12 && word & 1))
		reader->visit(reader->to, word);
	if (layout->version <= 12)
		read_old_values(reader, python_values_at(reader->heap, reader->object));
	else if (reader->type->flags & PYTHON_INLINE_VALUES)
		read_inline_values(reader);
}
