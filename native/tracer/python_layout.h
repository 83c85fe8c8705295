/* Layouts of versions without _Py_DebugOffsets. In a header, so that code can be compiled for one. */
#ifndef MEMATLAS_TRACER_PYTHON_LAYOUT_H
#define MEMATLAS_TRACER_PYTHON_LAYOUT_H

#include "python.h"

static const struct trace_python_layout trace_python_3_11 = {
	.minor = 11,
	.thread_frame = 56,
	.thread_id = 152,
	.cframe_frame = 8,
	.cframe_previous = 16,
	.has_cframe = true,
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
	.string_kind_bit = 2,
	.string_ascii_data = 48,
	.string_compact_data = 72,
	.bytes_size = 16,
	.bytes_data = 32,
	.owned_by_c_stack = 255,
};

static const struct trace_python_layout trace_python_3_12 = {
	.minor = 12,
	.thread_frame = 56,
	.cframe_frame = 0,
	.cframe_previous = 8,
	.has_cframe = true,
	.frame_code = 0,
	.frame_previous = 8,
	.frame_instruction = 56,
	.frame_owner = 70,
	.code_file = 112,
	.code_name = 128,
	.code_linetable = 136,
	.code_first_line = 68,
	.code_instructions = 192,
	.string_length = 16,
	.string_state = 32,
	.string_kind_bit = 2,
	.string_ascii_data = 40,
	.string_compact_data = 56,
	.bytes_size = 16,
	.bytes_data = 32,
	.owned_by_c_stack = 3,
};

#endif
