/* One row a version. From 3.13 on the interpreter carries its own table (_Py_DebugOffsets). */
#include <string.h>

#include "python.h"
#include "python_layout.h"

/* Where the parts of _Py_DebugOffsets (Include/internal/pycore_debug_offsets.h) begin in each
 * version, in 8-byte words: the table grows in its middle. Within a part new fields come last, but
 * for 3.15's in the thread's, behind what is read here. */
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
#define COMPACT_MORE 16 /* PyCompactUnicodeObject beyond PyASCIIObject: its UTF-8 form and length */

/* A release candidate or a distribution's patch might have moved something: sizes tell. */
static bool is_plausible_table(const uint64_t *words, const struct parts *at, bool apart)
{
	const uint64_t *frame = words + at->frame, *code = words + at->code;
	const uint64_t *bytes = words + at->bytes, *unicode = words + at->unicode;

	for (unsigned i = 1; i <= 5; i++)
		if (frame[i] >= frame[0])
			return false;
	for (unsigned i = 1; i <= 9; i++)
		if (code[i] >= code[0] || code[i] < 16)
			return false;
	if (apart && (frame[7] >= frame[0] || code[10] >= code[0]))
		return false;
	return frame[0] < 512 && code[0] < 1024 && bytes[2] < bytes[0] && bytes[1] >= 16 &&
	       unicode[1] < unicode[0] && unicode[2] >= 16 && unicode[0] < 256 &&
	       words[at->thread_state + 4] < words[at->thread_state];
}

static const struct trace_python_layout *read_offsets(uint32_t version, const struct parts *at,
						      const void *runtime)
{
	static struct trace_python_layout layout;
	uint64_t words[OFFSETS_WORDS];

	memcpy(words, runtime, sizeof words);
	/* Since 3.14 a free-threaded build gives each thread a copy of the bytecode, and says in a
	 * byte of its own whether a string is interned. */
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
		.owned_by_c_stack =
			3, /* 3.14 puts the interpreter's own frames there, and C's at 4 */
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
