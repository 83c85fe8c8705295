/* Layouts by version. Since 3.13 the interpreter contains its own table (_Py_DebugOffsets). */
#include <string.h>

#include "python.h"
#include "python_layout.h"

/* Start of each part of _Py_DebugOffsets (Include/internal/pycore_debug_offsets.h) by version, in 8-byte
 * words, since parts grow. New fields come last in a part; 3.15 adds some to the thread's behind
 * those read here. */
struct parts {
	uint32_t minor;
	unsigned thread_state, frame, code, bytes, unicode;
};
static const struct parts parts[] = {
	{13, 19, 28, 34, 64, 67},
	{14, 22, 31, 39, 74, 77},
	{15, 22, 39, 47, 86, 89},
};
#define OFFSETS_VERSION 1
#define OFFSETS_FREE_THREADED 2
#define OFFSETS_WORDS 93
#define COMPACT_MORE 16 /* PyCompactUnicodeObject beyond PyASCIIObject: UTF-8 pointer and length */

/* Are values[1..count] between `low` and values[0], the size of the structure? */
static bool are_within(const uint64_t *values, unsigned count, uint64_t low)
{
	for (unsigned i = 1; i <= count; i++)
		if (values[i] < low || values[i] >= values[0])
			return false;
	return true;
}

static bool are_plausible_strings(const uint64_t *bytes, const uint64_t *unicode)
{
	return bytes[2] < bytes[0] && bytes[1] >= 16 && unicode[0] < 256 &&
	       unicode[1] < unicode[0] && unicode[2] >= 16;
}

/* Checks offsets against sizes: a release candidate or a distribution may have moved fields. */
static bool is_plausible_table(const uint64_t *words, const struct parts *at, bool apart)
{
	const uint64_t *frame = words + at->frame, *code = words + at->code;
	const uint64_t *bytes = words + at->bytes, *unicode = words + at->unicode;

	if (!are_within(frame, 5, 0) || !are_within(code, 9, 16))
		return false;
	if (apart && (frame[7] >= frame[0] || code[10] >= code[0]))
		return false;
	return frame[0] < 512 && code[0] < 1024 && are_plausible_strings(bytes, unicode) &&
	       words[at->thread_state + 4] < words[at->thread_state];
}

static const struct trace_python_layout *read_offsets(uint32_t version, const struct parts *at,
						      const void *runtime)
{
	static struct trace_python_layout layout;
	uint64_t words[OFFSETS_WORDS];

	memcpy(words, runtime, sizeof words);
	/* Since 3.14 free-threaded builds give each thread a copy of the bytecode, and keep a string's
	 * interned flag in a byte of its own. */
	bool apart = words[OFFSETS_FREE_THREADED] && at->minor >= 14;
	if (memcmp(words, "xdebugpy", 8) != 0 || words[OFFSETS_VERSION] != version ||
	    !is_plausible_table(words, at, apart))
		return NULL;
	const uint64_t *frame = words + at->frame, *code = words + at->code;
	const uint64_t *bytes = words + at->bytes, *unicode = words + at->unicode;
	layout = (struct trace_python_layout){
		.minor = at->minor,
		.thread_frame = (uint16_t)words[at->thread_state + 4],
		.frame_previous = (uint16_t)frame[1],
		.frame_code = (uint16_t)frame[2],
		.frame_instruction = (uint16_t)frame[3],
		.frame_owner = (uint16_t)frame[5],
		.frame_bytecode = apart ? (uint16_t)frame[7] : 0,
		.code_file = (uint16_t)code[1],
		.code_name = (uint16_t)code[3],
		.code_linetable = (uint16_t)code[4],
		.code_first_line = (uint16_t)code[5],
		.code_instructions = (uint16_t)code[9],
		.code_bytecodes = apart ? (uint16_t)code[10] : 0,
		.bytes_size = (uint16_t)bytes[1],
		.bytes_data = (uint16_t)bytes[2],
		.string_state = (uint16_t)unicode[1],
		.string_kind_bit = apart ? 8 : 2,
		.string_length = (uint16_t)unicode[2],
		.string_ascii_data = (uint16_t)unicode[3],
		.string_compact_data = (uint16_t)(unicode[3] + COMPACT_MORE),
		.owned_by_c_stack = 3, /* in 3.14: 3 the interpreter's own frames, 4 the C stack */
	};
	return &layout;
}

const struct trace_python_layout *trace_python_layout(uint32_t version, const void *runtime)
{
	if (version >> 16 == 0x030b)
		return &trace_python_3_11;
	if (version >> 16 == 0x030c)
		return &trace_python_3_12;
	for (unsigned i = 0; runtime && i < sizeof parts / sizeof *parts; i++)
		if (version >> 16 == (0x0300 | parts[i].minor))
			return read_offsets(version, &parts[i], runtime);
	return NULL;
}
