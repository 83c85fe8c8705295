/* Which object each block holds: its head lies 0, 16 or 32 bytes behind the block's start. */
#include "python.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_ENTRIES (1U << 16)

void heap_python_destroy(struct heap_python *python)
{
	if (!python)
		return;
	free(python->types);
	free(python->slots);
	free(python->by_number);
	free(python->not_types);
	free(python);
}

/* A live object's count is not 0 and has 32 bits; CPython 3.14 has flags above bit 48. A pointer
 * fails this. */
static bool is_count(uint64_t word)
{
	return (uint32_t)word != 0 && (word >> 32 & 0xFFFF) == 0;
}

/* Of the objects that the interpreter keeps for reuse the count is 0, or overwritten by the link to
 * the next. Only types of C have such lists. */
static bool is_kept(const struct heap *heap, const struct python_type *type, uint64_t count,
		    uint64_t size)
{
	uint64_t next;
	uint32_t block;

	if (type->flags & PYTHON_HEAP_TYPE || size < type->depth + type->basic_size)
		return false;
	if (!count)
		return true;
	block = heap_find(heap, count);
	return block != HEAP_NONE && heap_word(&heap->image, count + 8, &next) &&
	       next == type->address;
}

struct head {
	struct python_type *type;
	bool kept;
};

/* Without the GIL, the owner's count has 32 bits behind the thread and some flags; that of other threads
 * follows, above two bits of state. Objects kept for reuse have neither. */
static bool is_counted(const uint8_t *head)
{
	uint32_t local;
	int64_t shared;

	memcpy(&local, head + 12, sizeof local);
	memcpy(&shared, head + 16, sizeof shared);
	return local || shared >> 2;
}

static struct head read_long_head(struct heap *heap, uint32_t block)
{
	const uint32_t bytes = PYTHON_HEAD + PYTHON_NO_GIL_SHIFT;
	uint64_t start = heap->blocks.address[block], size = heap->blocks.size[block];
	uint64_t skip = python_debug_header(heap, block);

	if (heap->blocks.origin[block] != MEMATLAS_HEAP_MIMALLOC_OBJECTS)
		return (struct head){NULL, false};
	for (uint64_t depth = 0; depth <= 16 && skip + depth + bytes <= size; depth += 16) {
		const uint8_t *head = heap_at(&heap->image, start + skip + depth, bytes);
		struct python_type *type;
		uint64_t word;

		if (!head)
			break;
		memcpy(&word, head + PYTHON_NO_GIL_SHIFT + 8, sizeof word);
		type = python_type_at(heap, word);
		if (type && type->depth == depth)
			return (struct head){type, !is_counted(head)};
	}
	return (struct head){NULL, false};
}

/* The shallowest head is tried first: at 32, a tuple of one class looks like an instance of it. */
static struct head read_head(struct heap *heap, uint32_t block)
{
	uint64_t start = heap->blocks.address[block], size = heap->blocks.size[block];
	unsigned skip = python_debug_header(heap, block);

	for (unsigned depth = 0; depth <= 32; depth += 16) {
		unsigned at = skip + depth;
		uint64_t words[2];
		const void *head;
		struct python_type *type;

		if (at + PYTHON_HEAD > size)
			break;
		head = heap_at(&heap->image, start + at, PYTHON_HEAD);
		if (!head)
			break;
		memcpy(words, head, sizeof words);
		type = python_type_at(heap, words[1]);
		if (!type || type->depth != depth)
			continue;
		if (is_count(words[0]))
			return (struct head){type, false};
		if (is_kept(heap, type, words[0], size - skip))
			return (struct head){type, true};
	}
	return (struct head){NULL, false};
}

static int remember(struct heap *heap, struct python_type *type)
{
	struct heap_python *python = heap->python;
	int64_t number = heap_type(heap, MEMATLAS_HEAP_TYPE_PYTHON, type->address);
	uint32_t *grown, wanted;

	if (number < 0)
		return (int)number;
	type->number = (uint32_t)number;
	if (python->shift) /* nothing but its name is known */
		return 0;
	if (number >= python->numbers) {
		wanted = (uint32_t)number * 2 + 256;
		grown = realloc(python->by_number, wanted * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		memset(grown + python->numbers, 0, (wanted - python->numbers) * sizeof *grown);
		python->by_number = grown;
		python->numbers = wanted;
	}
	python->by_number[number] = (uint32_t)(type - python->types) + 1;
	return 0;
}

/* Number 0 is "unknown" and no Python type. */
static int set_type(struct heap *heap, uint32_t block, struct python_type *type)
{
	int error = type->number ? 0 : remember(heap, type);

	if (error < 0)
		return error;
	heap->blocks.type[block] = type->number;
	if (type->kind == PYTHON_OPAQUE && !(type->flags & PYTHON_HEAP_TYPE))
		heap->blocks.layout[block] = MEMATLAS_HEAP_OPAQUE;
	else if (!heap->python->shift)
		heap->blocks.layout[block] = MEMATLAS_HEAP_PYTHON;
	return 0;
}

static int set_kept(struct heap *heap, uint32_t block)
{
	int64_t number = heap_type(heap, MEMATLAS_HEAP_TYPE_PYTHON_PART, MEMATLAS_PYTHON_FREE_LIST);

	if (number < 0)
		return (int)number;
	heap->blocks.type[block] = (uint32_t)number;
	if (!heap->python->shift)
		heap->blocks.layout[block] = MEMATLAS_HEAP_PYTHON_KEPT;
	return 0;
}

/* The sizes of the types `type` and `code` differ in each minor version. Classes may be in blocks of
 * an allocator that is not known: `type` is then met as the type of a type alone. */
static void choose_layout(struct heap *heap)
{
	struct heap_python *python = heap->python;
	uint64_t heap_size = 0, code_size = 0, type;

	for (uint32_t i = 0; i < python->count; i++) {
		uint64_t address = python->types[i].address;

		if (python->types[i].kind == PYTHON_CODE)
			code_size = python->types[i].basic_size;
		if (!heap_size && heap_word(&heap->image, address + 8, &type) &&
		    python_name_is(heap, type, "type"))
			heap_word(&heap->image, type + TYPE_BASIC_SIZE, &heap_size);
	}
	for (size_t i = 0; i < python_layout_count; i++)
		if (python_layouts[i].heap_type == heap_size &&
		    python_layouts[i].code_size == code_size)
			python->layout = &python_layouts[i];
}

static bool is_torn(const struct heap *heap, uint32_t block)
{
	return heap->blocks.origin[block] == MEMATLAS_HEAP_PYMALLOC_TORN ||
	       heap->blocks.origin[block] == MEMATLAS_HEAP_TORN;
}

static int classify(struct heap *heap, struct mematlas_heap_python *ret)
{
	int error = 0;

	for (uint32_t i = 0; i < heap->blocks.count && !error; i++) {
		struct head head;

		if (heap->blocks.type[i] || is_torn(heap, i))
			continue;
		head = heap->python->shift ? read_long_head(heap, i) : read_head(heap, i);
		if (!head.type)
			continue;
		error = head.kept ? set_kept(heap, i) : set_type(heap, i, head.type);
		ret->objects += !head.kept;
		ret->kept += head.kept;
	}
	return error;
}

static bool has_long_heads(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->blocks.count; i++)
		if (heap->blocks.origin[i] == MEMATLAS_HEAP_MIMALLOC_OBJECTS)
			return true;
	return false;
}

static int classify_all(struct heap *heap, struct mematlas_heap_python *ret)
{
	struct heap_python *python = heap->python;
	int error = classify(heap, ret);

	if (error || ret->objects || !has_long_heads(heap))
		return error;
	memset(python->not_types, 0, CACHE_ENTRIES * sizeof *python->not_types);
	python->shift = PYTHON_NO_GIL_SHIFT;
	return classify(heap, ret);
}

int64_t mematlas_heap_python(struct mematlas_heap *handle, struct mematlas_heap_python *ret)
{
	struct heap *heap = (struct heap *)handle;
	struct heap_python *python = heap->python;
	int error;

	memset(ret, 0, sizeof *ret);
	if (python)
		return -EEXIST;
	python = calloc(1, sizeof *python);
	if (!python)
		return -ENOMEM;
	heap->python = python;
	python->not_types = calloc(CACHE_ENTRIES, sizeof *python->not_types);
	if (!python->not_types)
		return -ENOMEM;
	error = classify_all(heap, ret);
	if (error < 0)
		return error;
	ret->head = PYTHON_HEAD + python->shift;
	ret->types = python->count;
	if (python->shift)
		return (int64_t)ret->objects;
	choose_layout(heap);
	ret->version = python->layout ? python->layout->version : 0;
	error = python_mark_parts(heap);
	if (error < 0)
		return error;
	python_mark_interned(heap);
	heap->readers[MEMATLAS_HEAP_PYTHON] = python_read;
	heap->readers[MEMATLAS_HEAP_PYTHON_NAMESPACE] = python_read_namespace;
	heap->readers[MEMATLAS_HEAP_PYTHON_UNCOUNTED] = python_read_table;
	heap->readers[MEMATLAS_HEAP_PYTHON_KEPT] = python_read_kept;
	return (int64_t)ret->objects;
}

void mematlas_heap_python_objects(const struct mematlas_heap *handle, uint64_t *ret)
{
	const struct heap *heap = (const struct heap *)handle;

	for (uint32_t i = 0; i < heap->blocks.count; i++)
		ret[i] = python_type_of(heap, i) ? python_object(heap, i) : 0;
}

const struct mematlas_python_layout *mematlas_heap_python_layout(const struct mematlas_heap *handle)
{
	const struct heap_python *python = ((const struct heap *)handle)->python;

	return python ? python->layout : NULL;
}

int mematlas_heap_python_namespace(struct mematlas_heap *handle, uint64_t dict)
{
	struct heap *heap = (struct heap *)handle;
	uint32_t block = heap_find(heap, dict);
	const struct python_type *type = block == HEAP_NONE ? NULL : python_type_of(heap, block);

	if (!type || type->kind != PYTHON_DICT || python_object(heap, block) != dict)
		return -ENOENT;
	heap->blocks.layout[block] = MEMATLAS_HEAP_PYTHON_NAMESPACE;
	return 0;
}
