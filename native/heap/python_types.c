/* Types: an object whose type's type ... is its own type is one. No symbol is needed. */
#include "python.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_BITS 16
#define MOST_TYPES (1U << 20)
#define MOST_METATYPES 4
#define MOST_BASES 32
#define MOST_SIZE (1ULL << 24)
#define LONGEST_NAME 256

static bool is_plausible(uint64_t address)
{
	return address >= 4096 && (address & 7) == 0 && address >> 47 == 0;
}

bool python_name_is(const struct heap *heap, uint64_t type, const char *name)
{
	size_t size = strlen(name) + 1;
	const void *found = heap_at(&heap->image, python_field(heap, type, TYPE_NAME), size);

	return found && memcmp(found, name, size) == 0;
}

/* Is the object at this address `type`, or a class derived from it? */
static bool is_metatype(const struct heap *heap, uint64_t address)
{
	for (int i = 0; i < MOST_METATYPES; i++) {
		uint64_t type;

		if (!is_plausible(address) ||
		    !heap_at(&heap->image, address, TYPE_END + heap->python->shift) ||
		    !(python_field(heap, address, TYPE_FLAGS) & PYTHON_IS_TYPE))
			return false;
		type = python_field(heap, address, 8);
		if (type == address)
			return python_name_is(heap, address, "type");
		address = type;
	}
	return false;
}

static bool is_name(const struct heap *heap, uint64_t address)
{
	const struct mematlas_heap_range *range = heap_range(&heap->image, address);
	const uint8_t *name;
	uint64_t left;

	if (!range)
		return false;
	name = range->bytes + (address - range->start);
	left = range->size - (address - range->start);
	for (uint64_t i = 0; i < left && i < LONGEST_NAME; i++) {
		if (!name[i])
			return i > 0;
		if (name[i] <= ' ' || name[i] == 0x7F)
			return false;
	}
	return false;
}

struct kind_name {
	const char *name;
	uint8_t kind;
};
static const struct kind_name kinds[] = {
	{"int", PYTHON_OPAQUE},
	{"bool", PYTHON_OPAQUE},
	{"float", PYTHON_OPAQUE},
	{"complex", PYTHON_OPAQUE},
	{"bytes", PYTHON_OPAQUE},
	{"NoneType", PYTHON_OPAQUE},
	{"ellipsis", PYTHON_OPAQUE},
	{"datetime.timedelta", PYTHON_OPAQUE},
	{"datetime.date", PYTHON_OPAQUE},
	{"str", PYTHON_STR},
	{"dict", PYTHON_DICT},
	{"frozendict", PYTHON_DICT},
	{"list", PYTHON_LIST},
	{"tuple", PYTHON_TUPLE},
	{"set", PYTHON_SET},
	{"frozenset", PYTHON_SET},
	{"collections.deque", PYTHON_DEQUE},
	{"type", PYTHON_TYPE},
	{"code", PYTHON_CODE},
	{"generator", PYTHON_GENERATOR},
	{"coroutine", PYTHON_GENERATOR},
	{"async_generator", PYTHON_GENERATOR},
	{"frame", PYTHON_FRAME},
	{"weakref", PYTHON_WEAKREF},
	{"weakref.ReferenceType", PYTHON_WEAKREF},
	{"weakproxy", PYTHON_WEAKREF},
	{"weakref.ProxyType", PYTHON_WEAKREF},
	{"weakcallableproxy", PYTHON_WEAKREF},
	{"weakref.CallableProxyType", PYTHON_WEAKREF},
	{"bytearray", PYTHON_BUFFER},
	{"array.array", PYTHON_BUFFER},
};

static bool own_kind(const struct heap *heap, uint64_t type, uint8_t *kind)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (python_name_is(heap, type, kinds[i].name)) {
			*kind = kinds[i].kind;
			return true;
		}
	return false;
}

/* The kind of the nearest base that has one. Classes of Python code are heap types, and any of them
 * may be called `list`: only types of C count, which deque and array are in some versions as
 * heap types of a module. */
static void read_kind(const struct heap *heap, struct python_type *type)
{
	uint64_t base = type->address;

	type->kind = PYTHON_OBJECT;
	type->base_size = PYTHON_HEAD;
	for (int i = 0; i < MOST_BASES && is_plausible(base); i++) {
		bool of_module = !(python_field(heap, base, TYPE_FLAGS) & PYTHON_HEAP_TYPE) ||
				 python_name_is(heap, base, "collections.deque") ||
				 python_name_is(heap, base, "array.array");

		if (of_module && own_kind(heap, base, &type->kind)) {
			type->base_size = python_field(heap, base, TYPE_BASIC_SIZE);
			break;
		}
		base = python_field(heap, base, TYPE_BASE);
	}
	if (type->base_size > type->basic_size)
		type->base_size = type->basic_size;
}

/* Bytes before an object. Without the GIL, the collector finds its objects in the allocator. */
static uint8_t depth_of(const struct heap *heap, uint64_t flags)
{
	uint8_t depth = flags & PYTHON_COLLECTED && !heap->python->shift ? 16 : 0;

	return flags & (PYTHON_MANAGED_DICT | PYTHON_MANAGED_WEAKREF) ? depth + 16 : depth;
}

static bool read_type(const struct heap *heap, uint64_t address, struct python_type *type)
{
	if (!is_plausible(address) ||
	    !heap_at(&heap->image, address, TYPE_END + heap->python->shift) ||
	    !is_metatype(heap, python_field(heap, address, 8)) ||
	    !is_name(heap, python_field(heap, address, TYPE_NAME)))
		return false;
	*type = (struct python_type){
		.address = address,
		.flags = python_field(heap, address, TYPE_FLAGS),
		.basic_size = python_field(heap, address, TYPE_BASIC_SIZE),
		.item_size = python_field(heap, address, TYPE_ITEM_SIZE),
		.weak_list = python_field(heap, address, TYPE_WEAK_LIST_OFFSET),
		.dict_offset = (int64_t)python_field(heap, address, TYPE_DICT_OFFSET),
	};
	if (type->basic_size < PYTHON_HEAD || type->basic_size > MOST_SIZE ||
	    type->item_size > MOST_SIZE)
		return false;
	type->depth = depth_of(heap, type->flags);
	read_kind(heap, type);
	return true;
}

static uint32_t slot_of(const struct heap_python *python, uint64_t address)
{
	uint32_t slot = (uint32_t)((address >> 3) * 0x9E3779B97F4A7C15ULL >> 40) & python->mask;

	while (python->slots[slot] && python->types[python->slots[slot] - 1].address != address)
		slot = (slot + 1) & python->mask;
	return slot;
}

/* Slots stay at most half full. */
static int grow(struct heap_python *python)
{
	uint32_t capacity = python->capacity ? python->capacity * 2 : 256;
	struct python_type *types;
	uint32_t *slots;

	if (capacity > MOST_TYPES)
		return -ENOMEM;
	types = realloc(python->types, capacity * sizeof *types);
	if (!types)
		return -ENOMEM;
	python->types = types;
	slots = calloc((size_t)capacity * 2, sizeof *slots);
	if (!slots)
		return -ENOMEM;
	free(python->slots);
	python->slots = slots;
	python->mask = capacity * 2 - 1;
	python->capacity = capacity;
	for (uint32_t i = 0; i < python->count; i++)
		slots[slot_of(python, types[i].address)] = i + 1;
	return 0;
}

struct python_type *python_known_type(const struct heap_python *python, uint64_t address)
{
	uint32_t found = python->count ? python->slots[slot_of(python, address)] : 0;

	return found ? &python->types[found - 1] : NULL;
}

static struct python_type *add_type(struct heap *heap, const struct python_type *type)
{
	struct heap_python *python = heap->python;
	uint32_t slot;

	if (python->count == python->capacity && grow(python) < 0)
		return NULL;
	slot = slot_of(python, type->address);
	python->types[python->count] = *type;
	python->slots[slot] = ++python->count;
	return &python->types[python->count - 1];
}

struct python_type *python_type_at(struct heap *heap, uint64_t address)
{
	struct heap_python *python = heap->python;
	uint64_t *miss =
		&python->not_types[(address >> 3) * 0x9E3779B97F4A7C15ULL >> (64 - CACHE_BITS)];
	struct python_type type, *known;

	if (*miss == address)
		return NULL;
	known = python_known_type(python, address);
	if (known)
		return known;
	if (read_type(heap, address, &type))
		return add_type(heap, &type);
	*miss = address;
	return NULL;
}

const struct python_type *python_type_of(const struct heap *heap, uint32_t block)
{
	const struct heap_python *python = heap->python;
	uint32_t number = heap->blocks.type[block];
	uint32_t found = python && number < python->numbers ? python->by_number[number] : 0;

	return found ? &python->types[found - 1] : NULL;
}

unsigned python_debug_header(const struct heap *heap, uint32_t block)
{
	static const uint8_t fence[7] = {0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD};
	unsigned skip = 0;

	/* Large objects have two: pymalloc passes them on to PyMem_RawMalloc(), which has its own. */
	for (int i = 0; i < 2; i++) {
		const uint8_t *head =
			heap_at(&heap->image, heap->blocks.address[block] + skip, PYTHON_DEBUG);

		if (!head || (head[8] != 'o' && head[8] != 'm' && head[8] != 'r') ||
		    memcmp(head + 9, fence, sizeof fence) != 0)
			break;
		skip += PYTHON_DEBUG;
	}
	return skip;
}

uint64_t python_object(const struct heap *heap, uint32_t block)
{
	const struct python_type *type = python_type_of(heap, block);

	return heap->blocks.address[block] + python_debug_header(heap, block) +
	       (type ? type->depth : 0);
}

bool heap_is_reference(const struct heap *heap, uint32_t block, uint64_t word)
{
	const struct python_type *type = heap->python ? python_type_of(heap, block) : NULL;

	return !type || word - heap->blocks.address[block] >= type->depth;
}
