/* Unwinding through code without .eh_frame, by frame pointers. */
#ifndef MEMATLAS_TRACER_UNWIND_JIT_H
#define MEMATLAS_TRACER_UNWIND_JIT_H

#include "unwind.h"

/* Does a call instruction precede the address? Signal-safe. */
bool trace_is_return_address(uintptr_t pc);

/* Returns the rule of a frame on the stack [low, high) without .eh_frame; UNWIND_UNKNOWN: none holds. */
uint64_t trace_jit_rule(const struct trace_point *at, uintptr_t low, uintptr_t high);

#endif
