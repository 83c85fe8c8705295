/* Code objects of the interpreter. Each is written to the ring once and has an ID from then on. */
#ifndef MEMATLAS_TRACER_PYTHON_CODE_H
#define MEMATLAS_TRACER_PYTHON_CODE_H

#include <string.h>

#include "python.h"

static inline const char *python_pointer(const char *object, unsigned offset)
{
	const char *value;

	memcpy(&value, object + offset, sizeof value);
	return value;
}

static inline bool python_is_plausible(const char *pointer)
{
	return (uintptr_t)pointer > 4096 && ((uintptr_t)pointer & 7) == 0 &&
	       (uintptr_t)pointer >> TRACE_ADDRESS_BITS == 0;
}

static inline uint64_t trace_code_slot(const void *object)
{
	return ((uintptr_t)object >> 4) * 0x9e3779b97f4a7c15ull >> 52;
}

/* Reads the object, emits it and returns its new ID. */
uint32_t trace_code_emit(const struct trace_python_layout *layout, struct trace_code_cache *cache,
			 const struct trace_code_key *key);

static inline struct trace_code_key trace_code_key(const struct trace_python_layout *layout,
						   const char *object)
{
	struct trace_code_key key = {.code = object,
				     .linetable = python_pointer(object, layout->code_linetable),
				     .name = python_pointer(object, layout->code_name)};

	memcpy(&key.first_line, object + layout->code_first_line, sizeof key.first_line);
	key.freed = atomic_load_explicit(&trace_python.codes_freed_at[trace_code_slot(object)],
					 memory_order_relaxed);
	return key;
}

static inline bool trace_code_equals(const struct trace_code_key *a, const struct trace_code_key *b)
{
	return (a->code == b->code) & (a->linetable == b->linetable) & (a->name == b->name) &
	       (a->first_line == b->first_line) & (a->freed == b->freed);
}

/* Returns the ID of a code object; 0: not emitted yet, or another object is at its address by now. */
static inline uint32_t trace_code_id(const struct trace_code_cache *cache,
				     const struct trace_code_key *key)
{
	uint64_t slot = trace_code_slot(key->code);

	for (unsigned way = 0; way < 2; way++) {
		if (trace_code_equals(&cache->slots[slot ^ way].key, key))
			return cache->slots[slot ^ way].id;
	}
	return 0;
}

#endif
