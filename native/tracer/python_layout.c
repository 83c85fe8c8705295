/* One row a version. From 3.13 on the interpreter carries its own table (_Py_DebugOffsets). */
#include <string.h>

#include "python.h"

static const struct trace_python_layout measured[] = {
	{
		.minor = 11,
		.thread_frame = 56,
		.cframe_frame = 8,
		.frame_code = 32,
		.frame_previous = 48,
		.frame_instruction = 56,
		.frame_owner = 69,
		.frame_is_entry = 68,
		.code_file = 112,
		.code_name = 128, /* co_qualname */
		.code_linetable = 136,
		.code_first_line = 72,
		.code_instructions = 184,
		.string_length = 16,
		.string_state = 32,
		.string_ascii_data = 48,
		.string_compact_data = 72,
		.bytes_size = 16,
		.bytes_data = 32,
		.owned_by_c_stack = 255,
	},
};

/* Beginning of 3.13's _Py_DebugOffsets, in 8-byte words. */
enum {
	OFFSETS_VERSION = 1,
	OFFSETS_FREE_THREADED = 2,
	OFFSETS_THREAD_STATE = 19,
	OFFSETS_FRAME = 28,
	OFFSETS_CODE = 34,
	OFFSETS_BYTES = 70,
	OFFSETS_UNICODE = 73,
	OFFSETS_WORDS = 77
};

static const struct trace_python_layout *read_offsets(const void *runtime)
{
	static struct trace_python_layout layout;
	uint64_t words[OFFSETS_WORDS];

	memcpy(words, runtime, sizeof words);
	if (memcmp(words, "xdebugpy", 8) != 0 || words[OFFSETS_VERSION] >> 16 != 0x030d ||
	    words[OFFSETS_FREE_THREADED])
		return NULL;
	layout = (struct trace_python_layout){
		.minor = 13,
		.thread_frame = (uint16_t)words[OFFSETS_THREAD_STATE + 4],
		.frame_previous = (uint16_t)words[OFFSETS_FRAME + 1],
		.frame_code = (uint16_t)words[OFFSETS_FRAME + 2],
		.frame_instruction = (uint16_t)words[OFFSETS_FRAME + 3],
		.frame_owner = (uint16_t)words[OFFSETS_FRAME + 5],
		.code_file = (uint16_t)words[OFFSETS_CODE + 1],
		.code_name = (uint16_t)words[OFFSETS_CODE + 3],
		.code_linetable = (uint16_t)words[OFFSETS_CODE + 4],
		.code_first_line = (uint16_t)words[OFFSETS_CODE + 5],
		.code_instructions = (uint16_t)words[OFFSETS_CODE + 9],
		.bytes_size = (uint16_t)words[OFFSETS_BYTES + 1],
		.bytes_data = (uint16_t)words[OFFSETS_BYTES + 2],
		.string_state = (uint16_t)words[OFFSETS_UNICODE + 1],
		.string_length = (uint16_t)words[OFFSETS_UNICODE + 2],
		.string_ascii_data = (uint16_t)words[OFFSETS_UNICODE + 3],
		.string_compact_data = (uint16_t)(words[OFFSETS_UNICODE + 3] + 16),
		.owned_by_c_stack = 3,
	};
	return &layout;
}

const struct trace_python_layout *trace_python_layout(uint32_t version, const void *runtime)
{
	for (unsigned i = 0; i < sizeof measured / sizeof *measured; i++)
		if (version >> 16 == (0x0300 | measured[i].minor))
			return &measured[i];
	return runtime && version >> 16 == 0x030d ? read_offsets(runtime) : NULL;
}
