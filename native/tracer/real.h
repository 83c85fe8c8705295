/* The functions behind the hooks. Each pointer starts at a stub that looks all of them up, so a call
 * through it is right from the first instruction on. */
#ifndef MEMATLAS_TRACER_REAL_H
#define MEMATLAS_TRACER_REAL_H

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "hook_table.h"

#define TRACE_REAL_MEMBER(result, name, parameters, stub, patched) result(*name) parameters;
struct trace_real {
	TRACE_HOOKS(TRACE_REAL_MEMBER)
};
#undef TRACE_REAL_MEMBER

extern struct trace_real trace_real;
extern long (*trace_real_syscall)(long, ...);

void trace_resolve(void);
/* Returns the function behind the hook of that name, or NULL. */
void *trace_next(const char *name);
/* Was `block` allocated before the real allocator was known? Such a block is never freed. */
bool trace_is_bootstrap(const void *block);

#endif
