/* Memory that a program could do without: containers without items, room behind items, the dicts of
 * instances. Hashes of strings, by which the caller finds those with equal content. */
#include "python.h"

#include <string.h>

#define PRE_HEADER 16
#define LEAST_TABLE 3 /* log2 of the slots of the smallest table of a dict */
#define SMALL_SET 8
#define MULTIPLIER 0x9E3779B97F4A7C15ULL

struct waste {
	uint64_t bytes;
	uint8_t kind; /* enum mematlas_heap_python_waste_kind */
};

/* Bytes of the block at an address; 0: no block is there, or it is an object. */
static uint64_t storage(const struct heap *heap, uint64_t address)
{
	uint32_t block = address ? heap_find(heap, address) : HEAP_NONE;

	return block == HEAP_NONE || python_type_of(heap, block) ? 0 : heap->blocks.size[block];
}

/* What blocks of so many bytes could do without; blocks are multiples of 16 bytes. */
static uint64_t spare(uint64_t bytes, uint64_t needed)
{
	return bytes > needed ? (bytes - needed) & ~15ULL : 0;
}

static struct waste list_waste(const struct heap *heap, uint32_t block, uint64_t list)
{
	uint64_t size = python_word(heap, list + SEQUENCE_SIZE),
		 items = storage(heap, python_word(heap, list + LIST_ITEMS));
	uint64_t used = size <= items / 8 ? size * 8 : items;

	if (!size)
		return (struct waste){heap->blocks.size[block] + items, MEMATLAS_PYTHON_EMPTY};
	return (struct waste){spare(items, used), MEMATLAS_PYTHON_SLACK};
}

/* Bytes of the smallest table for so many entries; tables hold two thirds of their slots. */
static uint64_t least_table(uint64_t entries, uint32_t entry_size)
{
	unsigned bits = LEAST_TABLE;

	while (bits < LARGEST_TABLE && (2ULL << bits) / 3 < entries)
		bits++;
	return 32 +
	       (1ULL << bits) * (bits < 8    ? 1
				 : bits < 16 ? 2
					     : 4) +
	       (2ULL << bits) / 3 * entry_size;
}

static struct waste dict_waste(const struct heap *heap, uint32_t block, uint64_t dict)
{
	uint64_t used = python_word(heap, dict + DICT_USED),
		 keys = python_word(heap, dict + DICT_KEYS), bytes, least;
	struct python_keys table;

	if (python_word(heap, dict + DICT_VALUES) || !python_keys_at(heap, keys, &table))
		return (struct waste){0, MEMATLAS_PYTHON_NO_WASTE};
	bytes = storage(heap, keys);
	if (!used)
		return (struct waste){heap->blocks.size[block] + bytes, MEMATLAS_PYTHON_EMPTY};
	least = least_table(used, table.entry_size);
	return (struct waste){spare(bytes, least), MEMATLAS_PYTHON_SLACK};
}

static struct waste set_waste(const struct heap *heap, uint32_t block, uint64_t set)
{
	uint64_t used = python_word(heap, set + SET_USED),
		 table = python_word(heap, set + SET_TABLE), bytes, least;

	bytes = storage(heap, table);
	if (!used)
		return (struct waste){heap->blocks.size[block] + bytes, MEMATLAS_PYTHON_EMPTY};
	/* The smallest table lies in the set; a table is at most three fifths full. */
	for (least = SMALL_SET; least < 1ULL << LARGEST_TABLE && used * 5 >= (least - 1) * 3;)
		least *= 2;
	least = least == SMALL_SET ? 0 : least * 16;
	return (struct waste){spare(bytes, least), MEMATLAS_PYTHON_SLACK};
}

static uint64_t values_used(const struct heap *heap, uint64_t items, uint64_t count)
{
	uint64_t used = 0;

	for (uint64_t i = 0; i < count; i++)
		used += python_word(heap, items + i * 8) != 0;
	return used;
}

/* An own dict of an instance: its blocks, and how many attributes it has. */
static uint64_t own_dict(const struct heap *heap, uint64_t dict, uint64_t *attributes)
{
	uint64_t keys = python_word(heap, dict + DICT_KEYS), bytes = 0;
	uint32_t block = heap_find(heap, dict);
	struct python_keys table;

	if (block == HEAP_NONE || !python_type_of(heap, block))
		return 0;
	bytes = heap->blocks.size[block] + storage(heap, python_word(heap, dict + DICT_VALUES));
	if (python_keys_at(heap, keys, &table) && !table.split)
		bytes += storage(heap, keys);
	*attributes = python_word(heap, dict + DICT_USED);
	return bytes;
}

/* 3.13 and later: values behind the object. */
static uint64_t inline_bytes(const struct heap *heap, const struct python_type *type,
			     uint64_t object, uint64_t end, uint64_t *attributes)
{
	uint64_t values = object + type->basic_size, count;
	const uint8_t *head = heap_at(&heap->image, values, 8);

	if (!(type->flags & PYTHON_INLINE_VALUES) || !head || values + 8 > end)
		return 0;
	count = head[0] <= (end - values) / 8 - 1 ? head[0] : 0;
	*attributes = head[3] ? values_used(heap, values + 8, count) : 0;
	return end - values;
}

/* 3.11 and 3.12: values in a block of their own. */
static uint64_t values_bytes(const struct heap *heap, const struct python_type *type,
			     uint64_t object, uint64_t *attributes)
{
	const struct mematlas_python_layout *layout = heap->python->layout;
	uint64_t values = python_values_at(heap, object), bytes = storage(heap, values);
	uint64_t names = python_word(heap, type->address + layout->cached_keys);
	struct python_keys table;

	if (bytes && python_keys_at(heap, names, &table))
		*attributes = values_used(heap, values,
					  table.count < bytes / 8 ? table.count : bytes / 8);
	return bytes;
}

/* The attributes of an instance beside its object. `attributes` <= words of the result */
static uint64_t attribute_bytes(const struct heap *heap, const struct python_type *type,
				uint64_t object, uint64_t end, uint64_t *attributes)
{
	uint64_t dict = python_word(heap, object - 24), bytes;

	bytes = heap->python->layout->values_items
			? inline_bytes(heap, type, object, end, attributes)
			: values_bytes(heap, type, object, attributes);
	return dict & 1 ? bytes : bytes + own_dict(heap, dict, attributes);
}

static struct waste instance_waste(const struct heap *heap, uint32_t block,
				   const struct python_type *type, uint64_t object)
{
	uint64_t end = heap->blocks.address[block] + heap->blocks.size[block], used = 0, bytes;

	if (!heap->python->layout || !(type->flags & PYTHON_MANAGED_DICT))
		return (struct waste){0, MEMATLAS_PYTHON_NO_WASTE};
	bytes = attribute_bytes(heap, type, object, end, &used);
	/* Slots take a word for each attribute; blocks are multiples of 16 bytes. */
	used = (used * 8 + 15) & ~15ULL;
	bytes += type->flags & PYTHON_MANAGED_WEAKREF && heap->python->layout->version > 11
			 ? 8
			 : PRE_HEADER;
	return (struct waste){spare(bytes, used), MEMATLAS_PYTHON_DICT_OF_INSTANCE};
}

static struct waste waste_of(const struct heap *heap, uint32_t block,
			     const struct python_type *type, uint64_t object)
{
	switch (type->kind) {
	case PYTHON_LIST:
		return list_waste(heap, block, object);
	case PYTHON_DICT:
		return dict_waste(heap, block, object);
	case PYTHON_SET:
		return set_waste(heap, block, object);
	case PYTHON_OBJECT:
		return instance_waste(heap, block, type, object);
	default:
		return (struct waste){0, MEMATLAS_PYTHON_NO_WASTE};
	}
}

static uint64_t hash_bytes(const uint8_t *bytes, uint64_t size, uint64_t seed)
{
	uint64_t hash = seed * MULTIPLIER, word;

	for (; size >= 8; bytes += 8, size -= 8) {
		memcpy(&word, bytes, 8);
		hash = (hash ^ word) * MULTIPLIER;
		hash ^= hash >> 29;
	}
	word = 0;
	memcpy(&word, bytes, size);
	hash = (hash ^ word) * MULTIPLIER;
	hash ^= hash >> 32;
	return hash ? hash : 1;
}

struct text {
	uint64_t data, length, width; /* width: bytes of a character; 0: no text */
};

static struct text text_of(const struct heap *heap, const struct python_type *type, uint64_t object)
{
	const struct mematlas_python_layout *layout = heap->python->layout;
	struct text text = {object + BYTES_DATA, python_word(heap, object + SEQUENCE_SIZE), 0};
	uint32_t state;

	if (type->flags & PYTHON_IS_BYTES)
		text.width = 1;
	if (!(type->flags & PYTHON_IS_STR) || !layout)
		return text;
	state = (uint32_t)python_word(heap, object + STR_STATE);
	text.data = object + (state & STR_ASCII ? layout->string_data : layout->string_wide_data);
	text.width = state & STR_COMPACT ? state >> STR_KIND_SHIFT & 7 : 0;
	return text;
}

/* Of strings with more than one character: shorter ones are shared by the interpreter. */
static uint64_t hash_of(const struct heap *heap, const struct python_type *type, uint64_t object)
{
	struct text text = text_of(heap, type, object);
	const uint8_t *bytes;

	if (text.length < 2 || text.length > UINT32_MAX || !text.width || text.width > 4)
		return 0;
	bytes = heap_at(&heap->image, text.data, text.length * text.width);
	return bytes ? hash_bytes(bytes, text.length * text.width,
				  text.length ^ text.width << 32 ^ type->address)
		     : 0;
}

void mematlas_heap_python_waste(const struct mematlas_heap *handle, uint32_t *bytes, uint8_t *kinds,
				uint64_t *hashes)
{
	const struct heap *heap = (const struct heap *)handle;

	for (uint32_t i = 0; i < heap->blocks.count; i++) {
		const struct python_type *type = python_type_of(heap, i);
		struct waste waste = {0, MEMATLAS_PYTHON_NO_WASTE};

		hashes[i] = 0;
		if (type) {
			uint64_t object = python_object(heap, i);

			waste = waste_of(heap, i, type, object);
			hashes[i] = hash_of(heap, type, object);
		}
		bytes[i] = waste.bytes < UINT32_MAX ? (uint32_t)waste.bytes : UINT32_MAX;
		kinds[i] = waste.bytes ? waste.kind : MEMATLAS_PYTHON_NO_WASTE;
	}
}
