/* CPython's object allocator (PyMem_SetAllocator), wrapped. */
#include <string.h>

#include "python.h"
#include "python_code.h"
#include "sampler.h"

#define SMALL 512 /* pymalloc's largest block; what is larger it asks malloc() for */

/* The two real allocators. pymalloc's arenas come by a hook of their own; mimalloc maps memory anywhere
 * within its calls, and asks nobody for large blocks. */
enum real { PYMALLOC, MIMALLOC };

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

/* A thread in the middle of a call while the functions were exchanged brings the context of before:
 * the real allocators', which is NULL. */
static inline const struct allocator *real_of(const void *context)
{
	return trace_likely(context != NULL) ? context : &wrapped[DOMAIN_OBJ];
}

static TRACE_INLINE bool is_due(enum real kind, size_t size)
{
	return (kind == MIMALLOC || size <= SMALL) && trace_sample_due(size);
}

static TRACE_INLINE void *call_malloc(enum real kind, const struct allocator *real, size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *block = real->malloc(real->context, size);
	trace_arena_depth -= kind == MIMALLOC;
	return block;
}

static TRACE_INLINE void *call_calloc(enum real kind, const struct allocator *real, size_t count,
				      size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *block = real->calloc(real->context, count, size);
	trace_arena_depth -= kind == MIMALLOC;
	return block;
}

static TRACE_INLINE void *call_realloc(enum real kind, const struct allocator *real, void *block,
				       size_t size)
{
	trace_arena_depth += kind == MIMALLOC;
	void *moved = real->realloc(real->context, block, size);
	trace_arena_depth -= kind == MIMALLOC;
	return moved;
}

static __attribute__((noinline)) void *slow_malloc(enum real kind, const struct allocator *real,
						   size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = call_malloc(kind, real, size);

	report_block(block, size, before);
	return block;
}

static TRACE_INLINE void *hook_malloc(enum real kind, const void *context, size_t size)
{
	const struct allocator *real = real_of(context);

	if (is_due(kind, size))
		return slow_malloc(kind, real, size);
	return call_malloc(kind, real, size);
}

static __attribute__((noinline)) void *slow_calloc(enum real kind, const struct allocator *real,
						   size_t count, size_t size)
{
	uint64_t before = trace_nested_events;
	void *block = call_calloc(kind, real, count, size);

	report_block(block, count * size, before);
	return block;
}

static TRACE_INLINE void *hook_calloc(enum real kind, const void *context, size_t count,
				      size_t size)
{
	const struct allocator *real = real_of(context);
	size_t bytes;

	if (!__builtin_mul_overflow(count, size, &bytes) && is_due(kind, bytes))
		return slow_calloc(kind, real, count, size);
	return call_calloc(kind, real, count, size);
}

static __attribute__((noinline)) void *slow_realloc(enum real kind, const struct allocator *real,
						    void *block, size_t size, bool due)
{
	bool was_live = block && trace_free_due(block) && report->freeing(block);
	uint64_t before = trace_nested_events;
	void *moved = call_realloc(kind, real, block, size);

	if (!moved && was_live)
		report->restore(block);
	else if (due)
		report_block(moved, size, before);
	return moved;
}

/* A block of malloc()'s stays there when it shrinks to a small one; then malloc's hook has it. Only
 * exact mode could tell the two apart by the address alone, so ask what happened instead. */
static TRACE_INLINE void *hook_realloc(enum real kind, const void *context, void *block,
				       size_t size)
{
	const struct allocator *real = real_of(context);
	bool due = is_due(kind, size);

	if (due || (block && trace_free_due(block)))
		return slow_realloc(kind, real, block, size, due);
	return call_realloc(kind, real, block, size);
}

static void *python_malloc(void *context, size_t size)
{
	return hook_malloc(PYMALLOC, context, size);
}

static void *python_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(PYMALLOC, context, count, size);
}

static void *python_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(PYMALLOC, context, block, size);
}

static void *mimalloc_malloc(void *context, size_t size)
{
	return hook_malloc(MIMALLOC, context, size);
}

static void *mimalloc_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(MIMALLOC, context, count, size);
}

static void *mimalloc_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(MIMALLOC, context, block, size);
}

/* The raw domain is called by threads without a state, which the others' real allocators need. */
static const void *raw_context(const void *context)
{
	return context ? context : &wrapped[DOMAIN_RAW];
}

static void *raw_malloc(void *context, size_t size)
{
	return hook_malloc(MIMALLOC, raw_context(context), size);
}

static void *raw_calloc(void *context, size_t count, size_t size)
{
	return hook_calloc(MIMALLOC, raw_context(context), count, size);
}

static void *raw_realloc(void *context, void *block, size_t size)
{
	return hook_realloc(MIMALLOC, raw_context(context), block, size);
}

/* Its type still stands in what was a code object; no block is shorter than that. */
static inline void notice_code(const void *block)
{
	if (!trace_python.code_type || ((const void *const *)block)[1] != trace_python.code_type)
		return;
	atomic_fetch_add_explicit(&trace_python.codes_freed_at[trace_code_slot(block)], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&trace_python.codes_freed, 1, memory_order_relaxed);
}

static __attribute__((noinline)) void slow_free(const struct allocator *real, void *block)
{
	if (block) {
		notice_code(block);
		report->freeing(block);
	}
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

static bool is_ours(const struct allocator *allocator)
{
	return allocator->free == python_free;
}

static bool is_unwrapped(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	return !is_ours(&now) && !is_plain_malloc(&now);
}

/* Those freed before now have not been seen. */
static void watch_codes(void)
{
	bool seen = report->every_free && trace_python.small_blocks;

	atomic_fetch_add_explicit(&trace_python.codes_freed, 1, memory_order_relaxed);
	trace_python.code_type = seen ? trace_python_symbol("PyCode_Type") : NULL;
}

static void wrap_domain(enum domain domain, enum real kind)
{
	const struct allocator pymalloc = {&wrapped[domain], python_malloc, python_calloc,
					   python_realloc, python_free};
	const struct allocator mimalloc = {&wrapped[domain], mimalloc_malloc, mimalloc_calloc,
					   mimalloc_realloc, python_free};
	struct allocator ours = kind == MIMALLOC ? mimalloc : pymalloc;

	get_allocator(domain, &wrapped[domain]);
	set_allocator(domain, &ours);
	trace_python.hooked = true;
	trace_python.small_blocks = kind == PYMALLOC && !trace_python.free_threaded;
	if (domain == DOMAIN_OBJ)
		watch_codes();
}

/* The interpreter has no name for its allocators once anybody's hooks are in. Before 3.13 it must not be
 * asked until it is set up, and has no mimalloc. */
static enum real real_kind(void)
{
	static enum real kind;
	const char *(*current)(void) = NULL;

	if (trace_python.version >= 0x030d0000)
		current = (const char *(*)(void))trace_python_symbol(
			"_PyMem_GetCurrentAllocatorName");
	const char *name = current ? current() : NULL;
	if (name)
		kind = strncmp(name, "mimalloc", 8) == 0 ? MIMALLOC : PYMALLOC;
	else if (trace_python.free_threaded)
		kind = MIMALLOC;
	return kind;
}

/* Until 3.14 the raw domain is malloc() whatever the others are. */
static void wrap_raw(void)
{
	struct allocator ours = {&wrapped[DOMAIN_RAW], raw_malloc, raw_calloc, raw_realloc,
				 python_free};
	struct allocator now;

	get_allocator(DOMAIN_RAW, &now);
	if (trace_python.version < 0x030f0000 || is_ours(&now))
		return;
	trace_python.unlocked = true;
	wrapped[DOMAIN_RAW] = now;
	set_allocator(DOMAIN_RAW, &ours);
}

/* True: some had to be. */
static bool wrap_domains(void)
{
	bool memory = is_unwrapped(DOMAIN_MEM), objects = is_unwrapped(DOMAIN_OBJ);
	enum real kind = memory || objects ? real_kind() : PYMALLOC;

	if (memory)
		wrap_domain(DOMAIN_MEM, kind);
	if (objects)
		wrap_domain(DOMAIN_OBJ, kind);
	if (kind == MIMALLOC)
		wrap_raw();
	return memory || objects;
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
	wrap_arenas();
	wrap_domains();
}

static void unwrap_domain(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	if (is_ours(&now)) /* else somebody came after us, and still calls us */
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
	unwrap_domain(DOMAIN_RAW);
	unwrap_domain(DOMAIN_MEM);
	unwrap_domain(DOMAIN_OBJ);
	if (get && set) {
		get(&now);
		if (now.alloc == arena_alloc)
			set(&wrapped_arena);
	}
	trace_python.hooked = false;
	trace_python.code_type = NULL;
}

/* Until it is initialized, no thread but the one that does so can be in its allocators. */
bool trace_python_on_arena_map(void)
{
	static int (*initialized)(void);

	if (!report || !set_allocator)
		return false;
	if (!initialized)
		initialized = (int (*)(void))trace_python_symbol("Py_IsInitialized");
	return initialized && !initialized() && wrap_domains();
}

void trace_python_check_hooks(void)
{
	static int (*have_gil)(void);

	if (!report || !set_allocator)
		return;
	if (!have_gil)
		have_gil = (int (*)(void))trace_python_symbol("PyGILState_Check");
	if (have_gil && have_gil())
		wrap_domains();
}
