/* Wraps CPython's allocators (PyMem_SetAllocator) and unwraps them. */
#include <string.h>

#include "python.h"
#include "python_wrappers.h"

static void (*get_allocator)(enum domain, struct allocator *);
static void (*set_allocator)(enum domain, struct allocator *);

/* With PYTHONMALLOC=malloc the domain is malloc() itself, whose hook records its blocks. */
static bool is_plain_malloc(const struct allocator *allocator)
{
	struct allocator raw;

	get_allocator(DOMAIN_RAW, &raw);
	return allocator->malloc == raw.malloc;
}

static bool is_unwrapped(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	return !trace_python_is_wrapper(&now) && !is_plain_malloc(&now);
}

/* Frees of code objects before this call were not seen. */
static void watch_code_frees(void)
{
	bool seen = trace_python_wrapped.report->every_free && trace_python.small_blocks;

	atomic_fetch_add_explicit(&trace_python.codes_freed, 1, memory_order_relaxed);
	trace_python.code_type = seen ? trace_python_symbol("PyCode_Type") : NULL;
}

static void wrap_domain(enum domain domain, enum trace_python_real kind)
{
	struct allocator ours = trace_python_wrapper(domain, kind);

	get_allocator(domain, &trace_python_wrapped.domains[domain]);
	set_allocator(domain, &ours);
	trace_python.hooked = true;
	trace_python.small_blocks = kind == PYMALLOC && !trace_python.free_threaded;
	if (domain == DOMAIN_OBJ)
		watch_code_frees();
}

/* The interpreter has no name for its allocators once they are wrapped, so the last answer is kept.
 * Before 3.13 the call is unsafe until the interpreter is set up, and there is no mimalloc. */
static enum trace_python_real real_kind(void)
{
	static enum trace_python_real kind;
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

/* Up to 3.14 the raw domain is always malloc(). */
static void wrap_raw(void)
{
	struct allocator ours = trace_python_wrapper(DOMAIN_RAW, MIMALLOC);
	struct allocator now;

	get_allocator(DOMAIN_RAW, &now);
	if (trace_python.version < 0x030f0000 || trace_python_is_wrapper(&now))
		return;
	trace_python.unlocked = true;
	trace_python_wrapped.domains[DOMAIN_RAW] = now;
	set_allocator(DOMAIN_RAW, &ours);
}

/* True: a domain was not wrapped yet. */
static bool wrap_domains(void)
{
	bool memory = is_unwrapped(DOMAIN_MEM), objects = is_unwrapped(DOMAIN_OBJ);
	enum trace_python_real kind = memory || objects ? real_kind() : PYMALLOC;

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
	struct arena_allocator ours = trace_python_arena_wrapper();
	if (now.alloc == ours.alloc)
		return;
	trace_python_wrapped.arena = now;
	set(&ours);
}

/* An interpreter loaded late has its arenas wrapped with its domains. */
static bool wrap_all(void)
{
	bool any = wrap_domains();

	if (any)
		wrap_arenas();
	return any;
}

void trace_python_register(const struct trace_python_callbacks *callbacks)
{
	trace_python_wrapped.report = callbacks;
}

void trace_python_hook_late(void)
{
	get_allocator = (void (*)(enum domain, struct allocator *))trace_python_symbol(
		"PyMem_GetAllocator");
	set_allocator = (void (*)(enum domain, struct allocator *))trace_python_symbol(
		"PyMem_SetAllocator");
}

void trace_python_hook(void)
{
	trace_python_hook_late();
	if (!get_allocator || !set_allocator)
		return;
	wrap_arenas();
	wrap_domains();
}

static void unwrap_domain(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	if (trace_python_is_wrapper(
		    &now)) /* else another wrapper was set later, and still calls ours */
		set_allocator(domain, &trace_python_wrapped.domains[domain]);
}

/* Blocks allocated through the wrappers belong to the real allocators, so they stay valid. */
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
		if (now.alloc == trace_python_arena_wrapper().alloc)
			set(&trace_python_wrapped.arena);
	}
	trace_python.hooked = false;
	trace_python.code_type = NULL;
}

/* Until the interpreter is initialized, only the initializing thread can be in its allocators. */
bool trace_python_on_arena_map(const void *caller)
{
	static int (*initialized)(void);
	uintptr_t at = (uintptr_t)caller;

	if (!trace_python_wrapped.report || !get_allocator || !set_allocator ||
	    at < trace_python.code_start || at >= trace_python.code_end)
		return false;
	if (!initialized)
		initialized = (int (*)(void))trace_python_symbol("Py_IsInitialized");
	return initialized && !initialized() && wrap_all();
}

bool trace_python_check_hooks(void)
{
	static int (*have_gil)(void);

	if (!trace_python_wrapped.report || !get_allocator || !set_allocator)
		return false;
	if (!have_gil)
		have_gil = (int (*)(void))trace_python_symbol("PyGILState_Check");
	return have_gil && have_gil() && wrap_all();
}
