/* Modules in the loader's list, and by address. Read without the loader's locks. */
#ifndef MEMATLAS_TRACER_MODULES_H
#define MEMATLAS_TRACER_MODULES_H

#include <stdbool.h>

#include "symbols.h"

/* glibc's struct dl_find_object (dlfcn.h). */
struct trace_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame; /* PT_GNU_EH_FRAME */
	unsigned long long reserved[8];
};

/* The loader's lock-free look-up, _dl_find_object(), since glibc 2.35. NULL: with an older glibc modules come
 * from /proc/PID/maps. */
extern int (*trace_find_object)(void *address, struct trace_object *object);

/* Finds this library and the loader's look-up; to be called before any other function here. */
void trace_modules_start(void);
/* Was this library preloaded, rather than loaded at run time? Finds its own text on the first call. */
bool trace_is_preloaded(void);

/* The first module of the program: its executable. Others follow in l_next, the order of the search for
 * symbols among those that were loaded at the start. */
const struct link_map *trace_first_module(void);
const struct link_map *trace_own_module(void);
/* Was the module surely loaded at the program's start? */
bool trace_is_start_module(const struct link_map *module);
/* The first module of each namespace of dlmopen(), the program's own first; NULL: no more. */
const struct link_map *trace_namespace(unsigned number);
/* Modules that no symbol of the program is bound to, or that must not be hooked. */
bool trace_is_loader(const struct link_map *module);
bool trace_is_vdso(const struct link_map *module);
/* The module whose code `address` is. */
const struct link_map *trace_module_of(const void *address);
bool trace_same_module(const void *a, const void *b);

/* Is the loader between two changes of its list? */
bool trace_loader_is_idle(void);
/* Has the loader relocated the module? From then on only dlclose() removes the module. */
bool trace_module_is_ready(const struct link_map *module);

/* The first definition in `first` and the modules behind it, except in this library. */
bool trace_symbol_from(const struct link_map *first, const char *name, struct trace_symbol *found);
/* The definition that a module with code at `caller` is bound to: among the modules of the start, then in
 * the module and what it depends on. */
bool trace_symbol_for(const void *caller, const char *name, struct trace_symbol *found);

#endif
