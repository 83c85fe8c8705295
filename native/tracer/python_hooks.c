/* CPython's object allocator (PyMem_SetAllocator), wrapped. */
#include <string.h>

#include "python.h"
#include "sampler.h"

#define SMALL 512 /* pymalloc's largest block; what is larger it asks malloc() for */

/* Python's own types (Include/cpython/pymem.h, objimpl.h). */
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

static const struct trace_python_callbacks *report;
static struct allocator wrapped[3];
static struct arena_allocator wrapped_arena;
static void (*get_allocator)(enum domain, struct allocator *);
static void (*set_allocator)(enum domain, struct allocator *);

/* A block the real allocator passed on to malloc() has been recorded there. */
static TRACE_INLINE void report_block(void *block, size_t size, uint64_t events_before)
{
	if (block && trace_nested_events == events_before)
		report->allocated(__builtin_frame_address(0), block, size);
}

static __attribute__((noinline)) void *slow_malloc(const struct allocator *real, size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = real->malloc(real->context, size);

	report_block(block, size, before);
	return block;
}

/* A thread in the middle of a call while the functions were exchanged brings the context of before:
 * pymalloc's, which is NULL. */
static inline const struct allocator *real_of(const void *context)
{
	return trace_likely(context != NULL) ? context : &wrapped[DOMAIN_OBJ];
}

static void *python_malloc(void *context, size_t size)
{
	const struct allocator *real = real_of(context);

	if (size <= SMALL && trace_sample_due(size))
		return slow_malloc(real, size);
	return real->malloc(real->context, size);
}

static __attribute__((noinline)) void *slow_calloc(const struct allocator *real, size_t count,
						   size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = real->calloc(real->context, count, size);

	report_block(block, count * size, before);
	return block;
}

static void *python_calloc(void *context, size_t count, size_t size)
{
	const struct allocator *real = real_of(context);

	if (count <= SMALL && size <= SMALL && count * size <= SMALL &&
	    trace_sample_due(count * size))
		return slow_calloc(real, count, size);
	return real->calloc(real->context, count, size);
}

static __attribute__((noinline)) void *slow_realloc(const struct allocator *real, void *block,
						    size_t size, bool due)
{
	bool was_live = block && trace_free_due(block) && report->freeing(block);
	uint64_t before = trace_nested_events;
	void *moved = real->realloc(real->context, block, size);

	if (!moved && was_live)
		report->restore(block);
	else if (due)
		report_block(moved, size, before);
	return moved;
}

/* A block of malloc()'s stays there when it shrinks to a small one; then malloc's hook has it. Only
 * exact mode could tell the two apart by the address alone, so ask what happened instead. */
static void *python_realloc(void *context, void *block, size_t size)
{
	const struct allocator *real = real_of(context);
	bool due = size <= SMALL && trace_sample_due(size);

	if (due || (block && trace_free_due(block)))
		return slow_realloc(real, block, size, due);
	return real->realloc(real->context, block, size);
}

static __attribute__((noinline)) void slow_free(const struct allocator *real, void *block)
{
	if (block)
		report->freeing(block);
	real->free(real->context, block);
}

static void python_free(void *context, void *block)
{
	const struct allocator *real = real_of(context);

	if (trace_free_due(block))
		slow_free(real, block);
	else
		real->free(real->context, block);
}

static void *arena_alloc(void *context, size_t size)
{
	(void)context;
	trace_arena_depth++;
	void *arena = wrapped_arena.alloc(wrapped_arena.context, size);
	trace_arena_depth--;
	return arena;
}

static void arena_free(void *context, void *arena, size_t size)
{
	(void)context;
	wrapped_arena.free(wrapped_arena.context, arena, size);
}

/* With PYTHONMALLOC=malloc the domain is malloc() itself: nothing to add. */
static bool is_plain_malloc(const struct allocator *allocator)
{
	struct allocator raw;

	get_allocator(DOMAIN_RAW, &raw);
	return allocator->malloc == raw.malloc;
}

static void wrap_domain(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	if (now.malloc == python_malloc || is_plain_malloc(&now))
		return;
	wrapped[domain] = now;
	struct allocator ours = {&wrapped[domain], python_malloc, python_calloc, python_realloc,
				 python_free};
	set_allocator(domain, &ours);
	trace_python.hooked = true;
}

static void wrap_arenas(void)
{
	void (*get)(struct arena_allocator *) = (void (*)(
		struct arena_allocator *))trace_python_symbol("PyObject_GetArenaAllocator");
	void (*set)(struct arena_allocator *) = (void (*)(
		struct arena_allocator *))trace_python_symbol("PyObject_SetArenaAllocator");
	struct arena_allocator now;

	if (!get || !set)
		return;
	get(&now);
	if (now.alloc == arena_alloc)
		return;
	wrapped_arena = now;
	set(&(struct arena_allocator){NULL, arena_alloc, arena_free});
}

void trace_python_hook(const struct trace_python_callbacks *callbacks)
{
	report = callbacks;
	get_allocator = (void (*)(enum domain, struct allocator *))trace_python_symbol(
		"PyMem_GetAllocator");
	set_allocator = (void (*)(enum domain, struct allocator *))trace_python_symbol(
		"PyMem_SetAllocator");
	if (!get_allocator || !set_allocator)
		return;
	trace_python.locked = !trace_python_symbol("_Py_DecRefShared");
	wrap_arenas();
	wrap_domain(DOMAIN_MEM);
	wrap_domain(DOMAIN_OBJ);
}

static void unwrap_domain(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	if (now.malloc == python_malloc) /* else somebody came after us, and still calls us */
		set_allocator(domain, &wrapped[domain]);
}

/* With the interpreter's lock held. What was allocated meanwhile is the real allocators' own. */
void trace_python_unhook(void)
{
	void (*get)(struct arena_allocator *) = (void (*)(
		struct arena_allocator *))trace_python_symbol("PyObject_GetArenaAllocator");
	void (*set)(struct arena_allocator *) = (void (*)(
		struct arena_allocator *))trace_python_symbol("PyObject_SetArenaAllocator");
	struct arena_allocator now;

	if (!trace_python.hooked || !get_allocator || !set_allocator)
		return;
	unwrap_domain(DOMAIN_MEM);
	unwrap_domain(DOMAIN_OBJ);
	if (get && set) {
		get(&now);
		if (now.alloc == arena_alloc)
			set(&wrapped_arena);
	}
	trace_python.hooked = false;
}

void trace_python_check_hooks(void)
{
	static int (*have_gil)(void);

	if (!report || !set_allocator)
		return;
	if (!have_gil)
		have_gil = (int (*)(void))trace_python_symbol("PyGILState_Check");
	if (have_gil && have_gil()) {
		wrap_domain(DOMAIN_MEM);
		wrap_domain(DOMAIN_OBJ);
	}
}
