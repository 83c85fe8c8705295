/* Symbols of loaded modules, read from the modules' own tables. dlsym() and its relatives take the loader's
 * locks, and allocate where a name is missing, which a hook inside the program's allocator cannot afford. */
#ifndef MEMATLAS_TRACER_SYMBOLS_H
#define MEMATLAS_TRACER_SYMBOLS_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_symbol {
	void *address;
	size_t size;
};

/* The dynamic section of a module; NULL: the module has no such entry.
 *
 *   symbols && strings, if trace_read_dynamic() returned true */
struct trace_dynamic {
	const ElfW(Sym) * symbols;
	const char *strings;
	const uint32_t *gnu_hash, *hash;
	const uint16_t *versions;
	const ElfW(Rela) * relocations[2]; /* of the procedure linkage table, and the others */
	size_t relocation_counts[2];
	const char *name; /* DT_SONAME */
};

/* False: no symbols. */
bool trace_read_dynamic(const struct link_map *module, struct trace_dynamic *dynamic);
/* Finds the definition that dlsym() would find in this module: the default version of the name. */
bool trace_symbol_in(const struct link_map *module, const char *name, struct trace_symbol *found);
/* The address of the stub that stands for a function of another module in a program that is not
 * position-independent: pointers to the function have this value. 0: none. */
uintptr_t trace_symbol_stub(const struct link_map *module, const char *name);

#endif
