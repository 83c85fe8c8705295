/* Modules in the loader's list, and by address. */
#define _GNU_SOURCE
#include "modules.h"

#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "state.h"

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

/* glibc's struct r_debug_extended (link.h), since 2.35: then r_version is 2 where dlmopen() was called. */
struct namespace {
	struct r_debug base;
	const struct namespace *next;
};

int (*trace_find_object)(void *address, struct trace_object *object);
static const struct r_debug *loader =
	&_r_debug; /* set to the loader's own by trace_modules_start() */
static const struct link_map *_Atomic own;
static const struct link_map *start_end; /* the last module loaded at the start */
static uintptr_t vdso; /* its base; 0: none */

const struct link_map *trace_first_module(void)
{
	return loader->r_map;
}

const struct link_map *trace_own_module(void)
{
	return atomic_load_explicit(&own, memory_order_acquire);
}

const struct link_map *trace_namespace(unsigned number)
{
	const struct namespace *at = (const struct namespace *)loader;

	if (number && loader->r_version < 2)
		return NULL;
	while (at && number--)
		at = at->next;
	return at ? at->base.r_map : NULL;
}

bool trace_is_loader(const struct link_map *module)
{
	return module->l_addr == loader->r_ldbase;
}

/* The kernel's functions have names of the C library's, which the C library calls behind its own. */
bool trace_is_vdso(const struct link_map *module)
{
	return vdso && module->l_addr == vdso;
}

/* A program that refers to _r_debug has a copy, to which names are bound, and which the loader does not keep up
 * to date. DT_DEBUG, which debuggers read, leads to the loader's own. */
static const struct r_debug *find_loader(void)
{
	const struct link_map *program = _r_debug.r_map;

	for (const ElfW(Dyn) *entry = program->l_ld; entry->d_tag != DT_NULL; entry++) {
		const struct r_debug *named = (const void *)entry->d_un.d_ptr;
		if (entry->d_tag == DT_DEBUG && named && named->r_map == program)
			return named;
	}
	return &_r_debug;
}

static const struct link_map *find_own(void)
{
	const struct link_map *found = NULL;

	for (const struct link_map *module = loader->r_map; module; module = module->l_next) {
		start_end = module;
		if (module->l_ld == _DYNAMIC)
			found = module;
	}
	return found;
}

void trace_modules_start(void)
{
	struct trace_symbol found;

	if (trace_own_module())
		return;
	vdso = getauxval(AT_SYSINFO_EHDR);
	loader = find_loader();
	const struct link_map *module = find_own();
	if (trace_symbol_from(loader->r_map, "_dl_find_object", &found))
		trace_find_object = (int (*)(void *, struct trace_object *))found.address;
	atomic_store_explicit(&own, module, memory_order_release);
}

/* The loader's list has preloaded libraries before the loader itself, and later ones after it. */
static bool precedes_loader(void)
{
	const struct link_map *module = trace_own_module();

	for (; module; module = module->l_prev)
		if (trace_is_loader(module))
			return false;
	return true;
}

bool trace_is_preloaded(void)
{
	static _Atomic int known; /* 0: not yet; 1: yes; -1: no */

	if (!atomic_load_explicit(&known, memory_order_relaxed)) {
		trace_modules_start();
		trace_session.own_start = (uintptr_t)__ehdr_start;
		trace_session.own_end = (uintptr_t)etext;
		atomic_store(&known, precedes_loader() ? 1 : -1);
	}
	return atomic_load_explicit(&known, memory_order_relaxed) > 0;
}

/* Attached later, this library knows of the executable only. */
bool trace_is_start_module(const struct link_map *module)
{
	const struct link_map *at = loader->r_map;

	if (module == at || !trace_is_preloaded())
		return module == at;
	while (at && at != module && at != start_end)
		at = at->l_next;
	return at == module;
}

/* For glibc before 2.35: that module whose base is next below. The base of an executable that is not
 * position-independent is 0. */
static const struct link_map *nearest_below(uintptr_t address)
{
	const struct link_map *found = NULL;

	for (const struct link_map *module = loader->r_map; module; module = module->l_next)
		if (module->l_addr <= address && (!found || module->l_addr > found->l_addr))
			found = module;
	return found;
}

const struct link_map *trace_module_of(const void *address)
{
	struct trace_object object;

	if (!trace_find_object)
		return nearest_below((uintptr_t)address);
	return trace_find_object((void *)(uintptr_t)address, &object) == 0 ? object.link_map : NULL;
}

bool trace_same_module(const void *a, const void *b)
{
	struct trace_object object;

	if (!trace_find_object) {
		const struct link_map *module = trace_module_of(b);
		return module && trace_module_of(a) == module;
	}
	if (trace_find_object((void *)(uintptr_t)b, &object) != 0)
		return false;
	return (const char *)a >= (const char *)object.map_start &&
	       (const char *)a < (const char *)object.map_end;
}

bool trace_loader_is_idle(void)
{
	return __atomic_load_n(&loader->r_state, __ATOMIC_ACQUIRE) == RT_CONSISTENT;
}

/* The loader tells _dl_find_object() of a module after the last step of dlopen() that can fail. */
bool trace_module_is_ready(const struct link_map *module)
{
	struct trace_object object;

	return !trace_find_object ||
	       (trace_find_object(module->l_ld, &object) == 0 && object.link_map == module);
}

static bool is_searched(const struct link_map *module)
{
	return module->l_ld != _DYNAMIC && !trace_is_vdso(module);
}

static bool search(const struct link_map *first, const struct link_map *last, const char *name,
		   struct trace_symbol *found)
{
	for (; first; first = first == last ? NULL : first->l_next)
		if (is_searched(first) && trace_symbol_in(first, name, found))
			return true;
	return false;
}

bool trace_symbol_from(const struct link_map *first, const char *name, struct trace_symbol *found)
{
	return search(first, NULL, name, found);
}

static bool has_name(const struct link_map *module, const char *name)
{
	struct trace_dynamic dynamic;
	const char *file = strrchr(module->l_name, '/');

	if (trace_read_dynamic(module, &dynamic) && dynamic.name && strcmp(dynamic.name, name) == 0)
		return true;
	return strcmp(file ? file + 1 : module->l_name, name) == 0;
}

static const struct link_map *find_by_name(const char *name)
{
	const struct link_map *module = loader->r_map;

	while (module && !has_name(module, name))
		module = module->l_next;
	return module;
}

#define MAX_DEPENDENCIES 128u

/* A module and what it depends on, in the order of the search: breadth first. count <= MAX_DEPENDENCIES */
struct scope {
	const struct link_map *modules[MAX_DEPENDENCIES];
	unsigned count;
};

static void add_module(struct scope *scope, const struct link_map *module)
{
	for (unsigned i = 0; i < scope->count; i++)
		if (scope->modules[i] == module)
			return;
	if (module && scope->count < MAX_DEPENDENCIES)
		scope->modules[scope->count++] = module;
}

static void add_dependencies(struct scope *scope, const struct link_map *module)
{
	struct trace_dynamic dynamic;

	if (!trace_read_dynamic(module, &dynamic))
		return;
	for (const ElfW(Dyn) *entry = module->l_ld; entry->d_tag != DT_NULL; entry++)
		if (entry->d_tag == DT_NEEDED)
			add_module(scope, find_by_name(dynamic.strings + entry->d_un.d_val));
}

static bool search_scope(const struct link_map *module, const char *name,
			 struct trace_symbol *found)
{
	struct scope scope = {.count = 0};

	add_module(&scope, module);
	for (unsigned i = 0; i < scope.count; i++) {
		if (is_searched(scope.modules[i]) && trace_symbol_in(scope.modules[i], name, found))
			return true;
		add_dependencies(&scope, scope.modules[i]);
	}
	return false;
}

bool trace_symbol_for(const void *caller, const char *name, struct trace_symbol *found)
{
	const struct link_map *first = trace_is_preloaded() ? trace_own_module() : loader->r_map;

	return search(first, start_end, name, found) ||
	       search_scope(trace_module_of(caller), name, found) ||
	       (start_end && search(start_end->l_next, NULL, name, found));
}
