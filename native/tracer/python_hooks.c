/* Wraps CPython's allocators (PyMem_SetAllocator) and unwraps them. */
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "python.h"
#include "python_wrappers.h"
#include "syscall.h"

#define LAYERS 4 /* of allocators above each other that are followed */

static void (*get_allocator)(enum domain, struct allocator *);
static void (*set_allocator)(enum domain, struct allocator *);

/* With PYTHONMALLOC=malloc the domain is malloc() itself, whose hook records its blocks. */
static bool is_plain_malloc(const struct allocator *allocator)
{
	struct allocator raw;

	get_allocator(DOMAIN_RAW, &raw);
	return allocator->malloc == raw.malloc;
}

static bool read_words(const void *from, void *to, size_t size)
{
	struct iovec local = {.iov_base = to, .iov_len = size};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = size};

	return from && trace_syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L, 0L) ==
			       (long)size;
}

static bool is_ours(enum domain domain, const struct allocator *allocator)
{
	(void)domain;
	return trace_python_is_wrapper(allocator);
}

/* The allocator that was found when the domain was first wrapped. */
static bool is_replaced(enum domain domain, const struct allocator *allocator)
{
	return allocator->malloc == trace_python_wrapped.domains[domain].malloc;
}

/* An allocator that calls another keeps its table where its context points: tracemalloc at the start, the
 * debug allocator behind one word. */
static bool rests_on(enum domain domain, const struct allocator *top, unsigned layers,
		     bool (*is_wanted)(enum domain, const struct allocator *))
{
	struct allocator below;
	const char *context = top->context;

	if (is_wanted(domain, top))
		return true;
	for (size_t word = 0; layers > 1 && word <= sizeof(void *); word += sizeof(void *))
		if (context && read_words(context + word, &below, sizeof below) &&
		    rests_on(domain, &below, layers - 1, is_wanted))
			return true;
	return false;
}

/* By domain: the function of an allocator that is known to call ours. */
static _Atomic(uintptr_t) above_ours[3];

static bool calls_ours(enum domain domain, const struct allocator *now)
{
	uintptr_t function = (uintptr_t)now->malloc;

	if (trace_python_is_wrapper(now))
		return true;
	if (atomic_load_explicit(&above_ours[domain], memory_order_relaxed) == function)
		return true;
	if (!rests_on(domain, now, LAYERS, is_ours))
		return false;
	atomic_store_explicit(&above_ours[domain], function, memory_order_relaxed);
	return true;
}

/* From 3.13 on, the name of CPython's own allocators; NULL while another one is set. */
static const char *current_name(void)
{
	const char *(*current)(void) = NULL;

	if (trace_python.version >= 0x030d0000)
		current = (const char *(*)(void))trace_python_symbol(
			"_PyMem_GetCurrentAllocatorName");
	return current ? current() : NULL;
}

/* The program may have set an allocator of its own that calls ours, such as tracemalloc's. Wrapped again, the
 * two would call each other without end. So a domain that was wrapped before is wrapped again only if the
 * interpreter's own allocator is back. */
static bool is_unwrapped(enum domain domain)
{
	struct allocator now;

	get_allocator(domain, &now);
	if (is_plain_malloc(&now) || calls_ours(domain, &now))
		return false;
	return !trace_python_wrapped.domains[domain].malloc || current_name() ||
	       rests_on(domain, &now, LAYERS, is_replaced);
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
	const char *name = current_name();

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
	if (trace_python.version < 0x030f0000 || calls_ours(DOMAIN_RAW, &now))
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
	bool first = !trace_python_wrapped.arena.alloc;
	if (now.alloc == ours.alloc || (!first && now.alloc != trace_python_wrapped.arena.alloc))
		return; /* wrapped, or the program has set one since, which may call ours */
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
