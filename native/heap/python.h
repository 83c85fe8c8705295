/* CPython's objects in a heap: which object a block holds, and what the object holds.
 * Everything is found by content. The layouts that no type object states are in rows. */
#ifndef MEMATLAS_HEAP_PYTHON_H
#define MEMATLAS_HEAP_PYTHON_H

#include "heap.h"

#define PYTHON_HEAD 16U /* count and type */
#define PYTHON_NO_GIL_SHIFT 16U /* how much longer an object's head is without the GIL */
#define PYTHON_DEBUG 16U /* before a block of PYTHONMALLOC=debug: size, domain, 7 bytes 0xFD */

/* Bits of tp_flags */
#define PYTHON_INLINE_VALUES (1ULL << 2)
#define PYTHON_MANAGED_WEAKREF (1ULL << 3)
#define PYTHON_MANAGED_DICT (1ULL << 4)
#define PYTHON_HEAP_TYPE (1ULL << 9)
#define PYTHON_COLLECTED (1ULL << 14)
#define PYTHON_IS_INT (1ULL << 24)
#define PYTHON_IS_LIST (1ULL << 25)
#define PYTHON_IS_TUPLE (1ULL << 26)
#define PYTHON_IS_BYTES (1ULL << 27)
#define PYTHON_IS_STR (1ULL << 28)
#define PYTHON_IS_DICT (1ULL << 29)
#define PYTHON_IS_TYPE (1ULL << 31)

/* Offsets of a type object, the same from 3.11 to 3.15. */
enum python_type_field {
	TYPE_SIZE = 16,
	TYPE_NAME = 24,
	TYPE_BASIC_SIZE = 32,
	TYPE_ITEM_SIZE = 40,
	TYPE_FLAGS = 168,
	TYPE_WEAK_LIST_OFFSET = 208,
	TYPE_BASE = 256,
	TYPE_DICT = 264,
	TYPE_DICT_OFFSET = 288,
	TYPE_WEAK_LIST = 368,
	TYPE_END = 400
};

/* Offsets of built-in objects, the same from 3.11 to 3.15. */
enum python_object_field {
	SEQUENCE_SIZE = 16,
	LIST_ITEMS = 24,
	DICT_USED = 16,
	DICT_KEYS = 32,
	DICT_VALUES = 40,
	SET_USED = 24,
	SET_MASK = 32,
	SET_TABLE = 40,
	SET_SMALL_TABLE = 64,
	DEQUE_LEFT = 24,
	DEQUE_RIGHT = 32,
	DEQUE_LEFT_INDEX = 40,
	DEQUE_FREE_COUNT = 72,
	DEQUE_FREE_BLOCKS = 80,
	STR_STATE = 32,
	BYTES_DATA = 32
};
#define DEQUE_ITEMS 64U /* of a block: link, items, link */

/* Bits of a string's state; the lowest two tell whether it is interned. */
#define STR_INTERNED 3U
#define STR_KIND_SHIFT 2
#define STR_COMPACT (1U << 5)
#define STR_ASCII (1U << 6)

#define LARGEST_TABLE 40U /* of a dict or set: log2 of the slots or bytes */

extern const struct mematlas_python_layout python_layouts[];
extern const size_t python_layout_count;

/* How an object's own part is read. */
enum python_kind {
	PYTHON_OBJECT, /* words up to tp_basicsize */
	PYTHON_OPAQUE, /* int, bytes, float: no pointers */
	PYTHON_STR,
	PYTHON_DICT,
	PYTHON_LIST,
	PYTHON_TUPLE,
	PYTHON_SET,
	PYTHON_DEQUE,
	PYTHON_TYPE,
	PYTHON_CODE,
	PYTHON_GENERATOR,
	PYTHON_FRAME,
	PYTHON_WEAKREF,
	PYTHON_BUFFER /* bytearray, array.array: an object with a block of data */
};

/* base_size <= basic_size: the part that `kind` reads */
struct python_type {
	uint64_t address;
	uint64_t flags;
	uint64_t basic_size, item_size, base_size;
	uint64_t
		weak_list; /* offset of the list of weak references, which holds nothing; 0: none */
	int64_t dict_offset; /* < 0: from the end */
	uint32_t number; /* among the heap's types */
	uint8_t kind; /* enum python_kind */
	uint8_t depth; /* bytes of the collector and of the pre-header before an object */
};

struct heap_python {
	const struct mematlas_python_layout *layout; /* NULL: of no known version, read by words */
	struct python_type *types;
	uint32_t *slots; /* open hash by address: index + 1 */
	uint32_t *by_number; /* index + 1 by the number of a heap's type; 0: no Python type */
	uint32_t count, capacity, mask, numbers;
	uint64_t *not_types; /* direct-mapped cache of addresses that hold no type */
	/* PYTHON_NO_GIL_SHIFT: an interpreter without the GIL, whose objects have types and are read
	 * by words alone; else 0 */
	uint32_t shift;
};

/* The word at an address; 0: it is not in the image. */
static inline uint64_t python_word(const struct heap *heap, uint64_t address)
{
	uint64_t word = 0;

	heap_word(&heap->image, address, &word);
	return word;
}

/* The word of an object at an offset of builds with the GIL. */
static inline uint64_t python_field(const struct heap *heap, uint64_t object, uint64_t offset)
{
	return python_word(heap, object + heap->python->shift + offset);
}

/* python_types.c. The type at an address; NULL: no type is there. */
struct python_type *python_type_at(struct heap *heap, uint64_t address);
/* The same among those that were met. */
struct python_type *python_known_type(const struct heap_python *python, uint64_t address);
/* The type of the object in a block; NULL: the block holds none. */
const struct python_type *python_type_of(const struct heap *heap, uint32_t block);
/* The address of the object in a block that holds one. */
uint64_t python_object(const struct heap *heap, uint32_t block);
/* 16 where a block has the header of the debug hooks, else 0. */
unsigned python_debug_header(const struct heap *heap, uint32_t block);
bool python_name_is(const struct heap *heap, uint64_t type, const char *name);

/* python_parts.c. The storage of containers: blocks without a head of their own. */
int python_mark_parts(struct heap *heap);

/* python_read.c. Calls `visit` with the references an object holds. */
void python_read(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);

void python_read_namespace(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);
void python_read_kept(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);
void python_read_table(const struct heap *heap, uint32_t block, heap_visitor *visit, void *to);

/* python_interned.c. Sets the layout of the dicts of interned strings, one an interpreter. */
void python_mark_interned(struct heap *heap);

/* A structure that lies in an object or in static data, and who is told of its references. */
struct python_reader {
	const struct heap *heap;
	const struct python_type *type;
	uint64_t object;
	uint64_t end; /* of the block */
	heap_visitor *visit;
	void *to;
};
/* Visits words that are references to objects, or pointers to blocks that hold none. */
void python_visit_words(const struct python_reader *reader, uint64_t start, uint64_t end);
/* python_containers.c */
void python_read_dict(const struct python_reader *reader);
void python_read_list(const struct python_reader *reader);
void python_read_tuple(const struct python_reader *reader);
void python_read_set(const struct python_reader *reader);
void python_read_deque(const struct python_reader *reader);
void python_read_instance(const struct python_reader *reader);
void python_read_keys(const struct python_reader *reader, bool names);
void python_read_shared_keys(const struct python_reader *reader, uint64_t keys);
/* python_frames.c */
void python_read_frame(const struct python_reader *reader, uint64_t frame);
void python_read_generator(const struct python_reader *reader);
void python_read_frame_object(const struct python_reader *reader);

/* Table of a dict. entries + count * entry_size <= end of the block */
struct python_keys {
	uint64_t address;
	uint64_t entries, count;
	uint32_t entry_size; /* 24: hash, key, value; 16: key, value */
	bool split; /* values are elsewhere */
};
bool python_keys_at(const struct heap *heap, uint64_t address, struct python_keys *ret);
/* Address of the block that holds an instance's values in 3.11 and 3.12; 0: there is none. */
uint64_t python_values_at(const struct heap *heap, uint64_t object);

#endif
