/* Types by content: C++ classes by their vtable and type_info, texts that fill their block. No symbol is
 * read. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

#define LONGEST_NAME 4096U
#define SLOTS 65536U /* of vtables looked at; a program has a few thousand */
#define MOST_PROBES 16U

struct vtable {
	uint64_t address;
	uint32_t type; /* HEAP_NONE: not looked at; 0: no vtable */
};

static bool of_file(const struct heap *heap, uint64_t address)
{
	const struct mematlas_heap_range *range = heap_range(&heap->image, address);

	return range && (range->kind == MEMATLAS_HEAP_CODE || range->kind == MEMATLAS_HEAP_DATA);
}

static bool is_name(const struct heap *heap, uint64_t address)
{
	const struct mematlas_heap_range *range = heap_range(&heap->image, address);
	uint64_t most = range->size - (address - range->start);
	const uint8_t *text = range->bytes + (address - range->start);

	most = most < LONGEST_NAME ? most : LONGEST_NAME;
	for (uint64_t i = 0; i < most; i++) {
		if (!text[i])
			return i > 0;
		if (text[i] <= ' ' || text[i] >= 127)
			return false;
	}
	return false;
}

/* Before a vtable stand the offset to the top of the object, 0 for a whole one, and its type_info, whose
 * second word leads to the name. */
static int64_t look_at_vtable(struct heap *heap, uint64_t vtable)
{
	uint64_t top, info, name;

	if (vtable % 8 || !of_file(heap, vtable) || !heap_word(&heap->image, vtable - 16, &top) ||
	    top || !heap_word(&heap->image, vtable - 8, &info) || !of_file(heap, info) ||
	    !heap_word(&heap->image, info + 8, &name) || !of_file(heap, name) ||
	    !is_name(heap, name))
		return 0;
	return heap_type(heap, MEMATLAS_HEAP_TYPE_CPP, name);
}

static int64_t type_of_vtable(struct heap *heap, struct vtable *slots, uint64_t vtable)
{
	uint32_t slot = (uint32_t)(vtable * 0x9E3779B97F4A7C15ULL >> 48);
	int64_t type;

	for (uint32_t probe = 0; probe < MOST_PROBES; probe++, slot = (slot + 1) % SLOTS) {
		if (slots[slot].type != HEAP_NONE && slots[slot].address == vtable)
			return slots[slot].type;
		if (slots[slot].type == HEAP_NONE)
			break;
	}
	type = look_at_vtable(heap, vtable);
	if (type >= 0 && slots[slot].type == HEAP_NONE)
		slots[slot] = (struct vtable){.address = vtable, .type = (uint32_t)type};
	return type;
}

static bool is_control(uint8_t byte)
{
	return byte == 127 || (byte < ' ' && byte != '\n' && byte != '\t' && byte != '\r');
}

/* Bytes of the UTF-8 sequence that a byte begins; 0: none, or a control character. */
static uint32_t sequence(uint8_t byte)
{
	if (byte < 0x80)
		return is_control(byte) ? 0 : 1;
	if (byte < 0xC2 || byte >= 0xF5)
		return 0;
	return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

static bool is_utf8(const uint8_t *text, uint64_t length)
{
	for (uint64_t i = 0; i < length;) {
		uint32_t more = sequence(text[i++]);

		if (!more)
			return false;
		while (--more)
			if (i == length || (text[i++] & 0xC0) != 0x80)
				return false;
	}
	return true;
}

/* A text and its end, with no more behind than malloc rounds up. Eight bytes of text are no pointer. */
static bool is_text(const uint8_t *bytes, uint64_t size)
{
	const uint8_t *end = memchr(bytes, 0, size);
	uint64_t length = end ? (uint64_t)(end - bytes) : 0;

	return length >= 8 && (size <= 24 || length + 17 > size) && is_utf8(bytes, length);
}

/* A word behind a text that leads to a block: the text may be a field before a pointer. */
static bool has_pointer_behind(const struct heap *heap, uint32_t block)
{
	uint64_t size = heap->blocks.size[block], word;
	const uint8_t *bytes = heap_at(&heap->image, heap->blocks.address[block], size);
	uint64_t at = bytes ? (strnlen((const char *)bytes, size) + 8) & ~7ULL : size;

	for (; at + 8 <= size; at += 8) {
		memcpy(&word, bytes + at, 8);
		if (heap_find(heap, word) != HEAP_NONE)
			return true;
	}
	return false;
}

static int64_t type_of(struct heap *heap, struct vtable *slots, uint32_t block)
{
	uint64_t size = heap->blocks.size[block], word;
	const uint8_t *bytes = heap_at(&heap->image, heap->blocks.address[block], size);
	int64_t type;

	if (!bytes || size < 8)
		return 0;
	memcpy(&word, bytes, 8);
	if (!word)
		return 0;
	type = type_of_vtable(heap, slots, word);
	if (!type && is_text(bytes, size))
		type = heap_type(heap, MEMATLAS_HEAP_TYPE_CONTENT, MEMATLAS_HEAP_TEXT);
	return type;
}

/* Sizes of blocks are told apart to 1 KiB, then in eighths of a power of two. */
static uint64_t size_class(uint64_t size)
{
	uint64_t step = 8;

	while (size > step * 128)
		step *= 2;
	return (size + step - 1) / step * step;
}

/* 1: the block got a type. */
static int set_type(struct heap *heap, struct vtable *slots, uint32_t block)
{
	int64_t type;

	if (heap->blocks.type[block] || heap->blocks.layout[block] != MEMATLAS_HEAP_WORDS)
		return 0;
	type = type_of(heap, slots, block);
	if (!type)
		type = heap_type(heap, MEMATLAS_HEAP_TYPE_SIZE,
				 size_class(heap->blocks.size[block]));
	if (type < 0)
		return (int)type;
	heap->blocks.type[block] = (uint32_t)type;
	if (heap->types[type].kind == MEMATLAS_HEAP_TYPE_CONTENT &&
	    !has_pointer_behind(heap, block))
		heap->blocks.layout[block] = MEMATLAS_HEAP_OPAQUE;
	return 1;
}

int64_t mematlas_heap_type_by_content(struct mematlas_heap *handle)
{
	struct heap *heap = (struct heap *)handle;
	struct vtable *slots = malloc(SLOTS * sizeof *slots);
	int64_t typed = 0;
	int result = slots ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < SLOTS && slots; i++)
		slots[i].type = HEAP_NONE;
	for (uint32_t block = 0; block < heap->blocks.count && result >= 0; block++) {
		result = set_type(heap, slots, block);
		typed += result > 0;
	}
	free(slots);
	return result < 0 ? result : typed;
}
