/* The references an object holds, its class among them: CPython counts that reference, and a class
 * made in a function is often held by its instances alone. Types of C are immortal or static, and
 * no edges. Left out: the links of the collector, which would hang everything on everything, and
 * lists of weak references. */
#include "python.h"

#include <string.h>

#define CODE_WEAK_LIST 144
#define WEAKREF_CALLBACK 24

/* A reference leads to the start of an object. A word that leads into one is a link of an intrusive
 * list or a copy of a pointer into a buffer, and holds nothing. */
static void visit_word(const struct python_reader *reader, uint64_t word)
{
	uint32_t block = heap_find(reader->heap, word);

	if (block == HEAP_NONE)
		return;
	if (!python_type_of(reader->heap, block) || python_object(reader->heap, block) == word)
		reader->visit(reader->to, word);
}

void python_visit_words(const struct python_reader *reader, uint64_t start, uint64_t end)
{
	const struct python_type *type = reader->type;
	uint64_t weak = type->weak_list < type->basic_size && type->weak_list
				? reader->object + type->weak_list
				: 0;

	if (end > reader->end)
		end = reader->end;
	for (uint64_t at = start; at + 8 <= end; at += 8)
		if (at != weak)
			visit_word(reader, python_word(reader->heap, at));
}

static void read_str(const struct python_reader *reader)
{
	uint32_t state = (uint32_t)python_word(reader->heap, reader->object + STR_STATE);
	const struct mematlas_python_layout *layout = reader->heap->python->layout;

	if (layout && !(state & STR_COMPACT && state & STR_ASCII))
		python_visit_words(reader, reader->object + STR_STATE + 8,
				   reader->object + layout->string_wide_data +
					   (state & STR_COMPACT ? 0 : 8));
}

static void read_type(const struct python_reader *reader)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	uint64_t type = reader->object;

	python_visit_words(reader, type + PYTHON_HEAD, type + TYPE_WEAK_LIST);
	if (!layout) {
		python_visit_words(reader, type + TYPE_WEAK_LIST + 8, reader->end);
		return;
	}
	/* Up to the module and the name. Behind them are uncounted references of the specializer. */
	python_visit_words(reader, type + TYPE_WEAK_LIST + 8, type + layout->cached_keys + 24);
	python_read_shared_keys(reader, python_word(reader->heap, type + layout->cached_keys));
}

/* The caches of the instructions hold uncounted references: only the head is read. */
static void read_code(const struct python_reader *reader)
{
	uint64_t code = reader->object;

	python_visit_words(reader, code + PYTHON_HEAD, code + CODE_WEAK_LIST);
	python_visit_words(reader, code + CODE_WEAK_LIST + 8, code + reader->type->base_size);
}

static uint64_t item_count(const struct python_reader *reader)
{
	int64_t size = (int64_t)python_word(reader->heap, reader->object + PYTHON_HEAD);

	return size < 0 ? (uint64_t)-size : (uint64_t)size;
}

/* What is behind the part that the kind reads: slots, and the dict of an object of variable size. */
static void read_tail(const struct python_reader *reader)
{
	const struct python_type *type = reader->type;
	uint64_t count, end, start = reader->object + type->base_size;

	if (!type->item_size) {
		python_visit_words(reader, start, reader->object + type->basic_size);
		return;
	}
	count = item_count(reader);
	if (count > (reader->end - reader->object) / type->item_size)
		return;
	end = reader->object + ((type->basic_size + count * type->item_size + 7) & ~7ULL);
	if (type->kind == PYTHON_OBJECT)
		python_visit_words(reader, start, end);
	else if (type->dict_offset < 0 && !(type->flags & PYTHON_MANAGED_DICT))
		python_visit_words(reader, end - 8, end);
}

static void read_weakref(const struct python_reader *reader)
{
	visit_word(reader, python_word(reader->heap, reader->object + WEAKREF_CALLBACK));
}

static void read_words(const struct python_reader *reader)
{
	python_visit_words(reader, reader->object + PYTHON_HEAD,
			   reader->object + reader->type->base_size);
}

static void read_nothing(const struct python_reader *reader)
{
	(void)reader;
}

static void (*const kinds[])(const struct python_reader *reader) = {
	[PYTHON_OBJECT] = read_nothing,
	[PYTHON_OPAQUE] = read_nothing,
	[PYTHON_STR] = read_str,
	[PYTHON_DICT] = python_read_dict,
	[PYTHON_LIST] = python_read_list,
	[PYTHON_TUPLE] = python_read_tuple,
	[PYTHON_SET] = python_read_set,
	[PYTHON_DEQUE] = python_read_deque,
	[PYTHON_TYPE] = read_type,
	[PYTHON_CODE] = read_code,
	[PYTHON_GENERATOR] = python_read_generator,
	[PYTHON_FRAME] = python_read_frame_object,
	[PYTHON_WEAKREF] = read_weakref,
	[PYTHON_BUFFER] = read_words,
};

static bool open_reader(struct python_reader *reader, const struct heap *heap, uint32_t block,
			heap_visitor *visit, void *to)
{
	*reader = (struct python_reader){
		.heap = heap,
		.type = python_type_of(heap, block),
		.object = python_object(heap, block),
		.end = heap->blocks.address[block] + heap->blocks.size[block],
		.visit = visit,
		.to = to,
	};
	return reader->type != NULL;
}

void python_read_namespace(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to)
{
	struct python_reader reader;

	if (open_reader(&reader, heap, block, visit, to))
		python_read_keys(&reader, true);
}

void python_read_table(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to)
{
	struct python_reader reader;

	if (open_reader(&reader, heap, block, visit, to))
		python_read_keys(&reader, false);
}

void python_read(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to)
{
	struct python_reader reader;
	const struct python_type *type;

	if (!open_reader(&reader, heap, block, visit, to))
		return;
	type = reader.type;
	if (type->flags & PYTHON_HEAP_TYPE)
		visit(to, type->address);
	kinds[type->kind](&reader);
	/* Types and frames of code end behind what their kind has read. */
	if (type->kind != PYTHON_TYPE && type->kind != PYTHON_CODE &&
	    type->kind != PYTHON_GENERATOR && type->kind != PYTHON_FRAME)
		read_tail(&reader);
	if (type->flags & PYTHON_MANAGED_DICT)
		python_read_instance(&reader);
}

/* An object that is kept for reuse holds the next one that is, and its stale words nothing. */
void python_read_kept(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to)
{
	uint64_t start = heap->blocks.address[block];

	for (uint64_t at = 0; at + 8 <= heap->blocks.size[block]; at += 8) {
		uint64_t word = python_word(heap, start + at);
		uint32_t next = heap_find(heap, word);

		if (next != HEAP_NONE && heap->blocks.layout[next] == MEMATLAS_HEAP_PYTHON_KEPT)
			visit(to, word);
	}
}
