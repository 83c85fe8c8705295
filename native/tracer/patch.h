/* Hooks for a program that runs already: its modules' GOT entries are pointed at the hooks. The caller holds
 * the list of modules (late_modules.h), trace_patch_is_active() apart. */
#ifndef MEMATLAS_TRACER_PATCH_H
#define MEMATLAS_TRACER_PATCH_H

#include <stdbool.h>

struct trace_hook {
	const char *name;
	void *function;
};

/* Patches all loaded modules. `hooks` stays valid. False: no memory. */
bool trace_patch_start(const struct trace_hook *hooks, unsigned count);
bool trace_patch_is_active(void);
/* Patches modules that are loaded and not patched yet. */
void trace_patch_modules(void);
/* After dlclose(): drops the entries of modules that are gone, whose memory may belong to someone else. */
void trace_patch_closed(void);
/* Restores every entry. */
void trace_patch_end(void);

#endif
