/* Reads one frame of the interpreter. A thread reads only its own frames, so they do not change while
 * it does, with or without the GIL; their code objects live as long as the frames do. Only where a
 * signal interrupted the thread a frame may be half written: then each page is probed before it is
 * read. Inline and given the layout, so that a version's offsets can be compiled in. */
#ifndef MEMATLAS_TRACER_PYTHON_FRAME_H
#define MEMATLAS_TRACER_PYTHON_FRAME_H

#include <string.h>

#include "../include/trace_format.h"
#include "python.h"
#include "python_code.h"
#include "sampler.h"
#include "syscall.h"

#define POINTER_TAGS 7u /* 3.14 keeps the kind of a reference in the lowest bits */

struct readable {
	bool sure; /* no need to probe */
	unsigned next;
	uintptr_t pages[4]; /* found readable before */
};

static __attribute__((noinline)) bool page_is_readable(struct readable *readable, uintptr_t page)
{
	for (unsigned i = 0; i < 4; i++)
		if (readable->pages[i] == page)
			return true;
	if (!trace_page_is_readable(page))
		return false;
	readable->pages[readable->next++ & 3] = page;
	return true;
}

static TRACE_INLINE bool is_readable(struct readable *readable, const char *object, unsigned size)
{
	uintptr_t first = (uintptr_t)object & ~(uintptr_t)(TRACE_MIN_PAGE - 1);
	uintptr_t last = ((uintptr_t)object + size - 1) & ~(uintptr_t)(TRACE_MIN_PAGE - 1);

	return readable->sure || (page_is_readable(readable, first) &&
				  (first == last || page_is_readable(readable, last)));
}

static TRACE_INLINE const char *code_of(const struct trace_python_layout *layout, const char *frame)
{
	uintptr_t tagged = (uintptr_t)python_pointer(frame, layout->frame_code);

	return (const char *)(tagged & ~(uintptr_t)POINTER_TAGS);
}

static TRACE_INLINE uint8_t owner_of(const struct trace_python_layout *layout, const char *frame)
{
	return (uint8_t)frame[layout->frame_owner];
}

/* Nonzero: the frame is marked as an entry (3.11). */
static TRACE_INLINE uint8_t entry_mark(const struct trace_python_layout *layout, const char *frame)
{
	return layout->frame_is_entry ? (uint8_t)frame[layout->frame_is_entry] : 0;
}

static TRACE_INLINE uintptr_t state_of(const struct trace_python_layout *layout, const char *frame)
{
	return (uintptr_t)python_pointer(frame, layout->frame_instruction) |
	       entry_mark(layout, frame);
}

static TRACE_INLINE bool is_shim(const struct trace_python_layout *layout, const char *frame)
{
	return owner_of(layout, frame) >= layout->owned_by_c_stack;
}

static TRACE_INLINE bool is_entry(const struct trace_python_layout *layout, const char *frame,
				  const char *previous)
{
	if (layout->frame_is_entry)
		return entry_mark(layout, frame) != 0;
	return !python_is_plausible(previous) || is_shim(layout, previous);
}

#define FRAME_BYTES 96u /* all that is read of a frame */
#define CODE_BYTES 256u

static TRACE_INLINE bool is_code(const struct trace_python_layout *layout,
				 struct readable *readable, const char *code)
{
	if (!python_is_plausible(code) || !is_readable(readable, code, CODE_BYTES))
		return false;
	return readable->sure ||
	       (python_is_plausible(python_pointer(code, layout->code_linetable)) &&
		python_is_plausible(python_pointer(code, layout->code_name)) &&
		is_readable(readable, python_pointer(code, layout->code_linetable), 64) &&
		is_readable(readable, python_pointer(code, layout->code_name), 64));
}

/* Start of the bytecode that the frame runs: in the code object, or in the thread's copy, whose index is
 * in the frame. The array of copies is [count] [address ...]. */
static TRACE_INLINE const char *bytecode_of(const struct trace_python_layout *layout,
					    const char *frame, const char *code,
					    struct readable *readable)
{
	const char *unknown = python_pointer(frame, layout->frame_instruction);
	int32_t number = 0;
	int64_t count;

	if (layout->frame_bytecode)
		memcpy(&number, frame + layout->frame_bytecode, sizeof number);
	if (number <= 0)
		return code + layout->code_instructions;
	const char *copies = python_pointer(code, layout->code_bytecodes);
	if (!python_is_plausible(copies) || !is_readable(readable, copies, sizeof count))
		return unknown;
	memcpy(&count, copies, sizeof count);
	const char *place = copies + sizeof count + (uint32_t)number * sizeof(char *);
	return number < count && is_readable(readable, place, sizeof(char *))
		       ? python_pointer(place, 0)
		       : unknown;
}

#define OFFSET_LIMIT (1ll << 30)

/* Before the first instruction the frame points in front of the code: the offset is then 0. */
static TRACE_INLINE uint64_t offset_bits(int64_t offset)
{
	return offset > 0 && offset < OFFSET_LIMIT ? (uint64_t)offset : 0;
}

static TRACE_INLINE uint64_t word_of(const struct trace_python_layout *layout, const char *frame,
				     const struct trace_code_key *key, struct readable *readable,
				     struct trace_code_cache *cache)
{
	const char *bytecode = bytecode_of(layout, frame, key->code, readable);
	int64_t offset = python_pointer(frame, layout->frame_instruction) - bytecode;
	const char *previous = python_pointer(frame, layout->frame_previous);
	uint64_t id = trace_code_id(cache, key);

	if (__builtin_expect(id == 0, 0))
		id = trace_code_emit(layout, cache, key);
	return id << 32 | (is_entry(layout, frame, previous) ? TRACE_PYTHON_ENTRY : 0) |
	       offset_bits(offset);
}

static TRACE_INLINE void read_frame(const struct trace_python_layout *layout,
				    struct trace_python_chain *chain, unsigned fresh,
				    const char *frame, struct readable *readable,
				    struct trace_code_cache *cache)
{
	struct trace_python_word *is = &chain->fresh_words[fresh];
	const char *code = code_of(layout, frame);

	chain->fresh_frames[fresh] = (struct trace_python_frame){frame, state_of(layout, frame)};
	is->key.code = code;
	is->word = 0;
	is->has_word = !is_shim(layout, frame) && is_code(layout, readable, code);
	if (is->has_word) {
		is->key = trace_code_key(layout, code);
		is->word = word_of(layout, frame, &is->key, readable, cache);
	}
}

#endif
