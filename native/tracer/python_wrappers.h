/* The wrappers of CPython's allocators. */
#ifndef MEMATLAS_TRACER_PYTHON_WRAPPERS_H
#define MEMATLAS_TRACER_PYTHON_WRAPPERS_H

#include "python.h"

/* The two real allocators. pymalloc obtains arenas through a hookable allocator and large blocks from
 * malloc(); mimalloc maps memory within any call. */
enum trace_python_real { PYMALLOC, MIMALLOC };

/* CPython's types (Include/cpython/pymem.h, objimpl.h). */
enum domain { DOMAIN_RAW, DOMAIN_MEM, DOMAIN_OBJ };
struct allocator {
	void *context;
	void *(*malloc)(void *, size_t);
	void *(*calloc)(void *, size_t, size_t);
	void *(*realloc)(void *, void *, size_t);
	void (*free)(void *, void *);
};
struct arena_allocator {
	void *context;
	void *(*alloc)(void *, size_t);
	void (*free)(void *, void *, size_t);
};

/* What the wrappers call. */
struct trace_python_wrapped {
	const struct trace_python_callbacks *report; /* NULL: not hooked yet */
	struct allocator domains[3]; /* by enum domain */
	struct arena_allocator arena;
};
extern struct trace_python_wrapped trace_python_wrapped;

/* The wrapper of a domain's allocator. */
struct allocator trace_python_wrapper(enum domain domain, enum trace_python_real kind);
struct arena_allocator trace_python_arena_wrapper(void);
bool trace_python_is_wrapper(const struct allocator *allocator);

#endif
