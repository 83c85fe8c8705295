/* The storage of containers: blocks without a head of their own, named by what holds them. */
#include "python.h"

#include <string.h>

struct marker {
	struct heap *heap;
	uint32_t numbers[MEMATLAS_PYTHON_PART_END];
};

/* Only a block that nothing else has explained becomes a part. */
static void mark(struct marker *marker, uint64_t address, int part)
{
	struct heap_blocks *blocks = &marker->heap->blocks;
	uint32_t block = address ? heap_find(marker->heap, address) : HEAP_NONE;

	if (block == HEAP_NONE || blocks->type[block] ||
	    blocks->origin[block] == MEMATLAS_HEAP_PYMALLOC_TORN ||
	    blocks->origin[block] == MEMATLAS_HEAP_TORN)
		return;
	blocks->type[block] = marker->numbers[part];
	blocks->layout[block] = MEMATLAS_HEAP_OPAQUE;
}

static void mark_dict(struct marker *marker, uint64_t dict)
{
	uint64_t keys = python_word(marker->heap, dict + DICT_KEYS),
		 values = python_word(marker->heap, dict + DICT_VALUES);
	struct python_keys table;

	if (!python_keys_at(marker->heap, keys, &table))
		return;
	if (values && marker->heap->python->layout)
		mark(marker, values, MEMATLAS_PYTHON_VALUES);
	if (!table.split)
		mark(marker, keys, MEMATLAS_PYTHON_KEYS);
}

static void mark_deque(struct marker *marker, uint64_t deque)
{
	uint64_t block = python_word(marker->heap, deque + DEQUE_LEFT),
		 last = python_word(marker->heap, deque + DEQUE_RIGHT);
	uint32_t hops = 0;

	while (heap_find(marker->heap, block) != HEAP_NONE &&
	       hops++ <= marker->heap->blocks.count) {
		mark(marker, block, MEMATLAS_PYTHON_DEQUE_BLOCK);
		if (block == last)
			break;
		block = python_word(marker->heap, block + 8 + DEQUE_ITEMS * 8);
	}
	/* Blocks kept for later hold stale words. */
	for (uint64_t i = 0, kept = python_word(marker->heap, deque + DEQUE_FREE_COUNT);
	     i < kept && i < 16; i++)
		mark(marker, python_word(marker->heap, deque + DEQUE_FREE_BLOCKS + i * 8),
		     MEMATLAS_PYTHON_DEQUE_BLOCK);
}

static void mark_instance(struct marker *marker, const struct python_type *type, uint64_t object)
{
	const struct mematlas_python_layout *layout = marker->heap->python->layout;

	if (!layout || layout->version > 12)
		return;
	mark(marker, python_values_at(marker->heap, object), MEMATLAS_PYTHON_VALUES);
	mark(marker, python_word(marker->heap, type->address + layout->cached_keys),
	     MEMATLAS_PYTHON_SHARED_KEYS);
}

/* Numbers and text only: arrays of objects are read by words. */
static void mark_ndarray(struct marker *marker, uint64_t array)
{
	const char *kind =
		heap_at(&marker->heap->image, python_word(marker->heap, array + 56) + 24, 1);

	if (kind && *kind && strchr("biufcmMSU?", *kind))
		mark(marker, python_word(marker->heap, array + 16), MEMATLAS_PYTHON_BUFFER);
}

static void mark_str(struct marker *marker, uint64_t string)
{
	const struct mematlas_python_layout *layout = marker->heap->python->layout;
	uint32_t state = (uint32_t)python_word(marker->heap, string + STR_STATE);

	if (layout && !(state & STR_COMPACT && state & STR_ASCII))
		mark(marker, python_word(marker->heap, string + layout->string_utf8),
		     MEMATLAS_PYTHON_UTF8);
}

static void mark_of_kind(struct marker *marker, const struct python_type *type, uint64_t object)
{
	switch (type->kind) {
	case PYTHON_DICT:
		mark_dict(marker, object);
		break;
	case PYTHON_LIST:
		mark(marker, python_word(marker->heap, object + LIST_ITEMS), MEMATLAS_PYTHON_ITEMS);
		break;
	case PYTHON_SET:
		if (python_word(marker->heap, object + SET_TABLE) != object + SET_SMALL_TABLE)
			mark(marker, python_word(marker->heap, object + SET_TABLE),
			     MEMATLAS_PYTHON_SET_TABLE);
		break;
	case PYTHON_DEQUE:
		mark_deque(marker, object);
		break;
	case PYTHON_STR:
		mark_str(marker, object);
		break;
	case PYTHON_BUFFER: /* ob_bytes of a bytearray is behind ob_alloc, ob_item of an array is not */
		mark(marker, python_word(marker->heap, object + 24), MEMATLAS_PYTHON_BUFFER);
		mark(marker, python_word(marker->heap, object + 32), MEMATLAS_PYTHON_BUFFER);
		break;
	case PYTHON_TYPE:
		if (marker->heap->python->layout)
			mark(marker,
			     python_word(marker->heap,
					 object + marker->heap->python->layout->cached_keys),
			     MEMATLAS_PYTHON_SHARED_KEYS);
		break;
	default:
		break;
	}
}

int python_mark_parts(struct heap *heap)
{
	struct marker marker = {.heap = heap};

	for (int part = 0; part < MEMATLAS_PYTHON_PART_END; part++) {
		int64_t number = heap_type(heap, MEMATLAS_HEAP_TYPE_PYTHON_PART, (uint64_t)part);

		if (number < 0)
			return (int)number;
		marker.numbers[part] = (uint32_t)number;
	}
	for (uint32_t i = 0; i < heap->blocks.count; i++) {
		const struct python_type *type = python_type_of(heap, i);
		uint64_t object;

		if (!type)
			continue;
		object = python_object(heap, i);
		mark_of_kind(&marker, type, object);
		if (type->flags & PYTHON_MANAGED_DICT)
			mark_instance(&marker, type, object);
		if (type->kind == PYTHON_OBJECT &&
		    python_name_is(heap, type->address, "numpy.ndarray"))
			mark_ndarray(&marker, object);
	}
	return 0;
}
