/* Words of a stack that may be broken. */
#ifndef MEMATLAS_TRACER_UNWIND_WORD_H
#define MEMATLAS_TRACER_UNWIND_WORD_H

#include "state.h"
#include "syscall.h"

#define UNWIND_NO_PAGE 1 /* no page starts there */

struct stack_bounds {
	uintptr_t low, high;  /* the thread's stack; 0: unknown */
	uintptr_t page;       /* last one found readable outside of it */
};

/* Reads a stack word. The thread's own stack is readable; anywhere else (a coroutine's stack, a signal
 * stack, a broken frame) the page is probed first. */
__attribute__((no_sanitize("address"))) static inline bool read_word(struct stack_bounds *bounds,
								     uintptr_t address,
								     uintptr_t *value)
{
	if (trace_unlikely(address & 7))
		return false;
	if (trace_unlikely(address < bounds->low || address >= bounds->high)) {
		if ((address & ~(uintptr_t)(TRACE_MIN_PAGE - 1)) != bounds->page) {
			if (trace_session.sandboxed || !trace_page_is_readable(address))
				return false;
			bounds->page = address & ~(uintptr_t)(TRACE_MIN_PAGE - 1);
		}
	}
	*value = *(const uintptr_t *)address;
	return true;
}

#endif
