/* Descriptors of the tracer in the traced program's table. */
#ifndef MEMATLAS_TRACER_DESCRIPTOR_H
#define MEMATLAS_TRACER_DESCRIPTOR_H

#include <stdbool.h>
#include <sys/resource.h>

#include "syscall.h"

static inline void trace_close_descriptor(const int *fd)
{
	if (*fd >= 0)
		trace_syscall(SYS_close, *fd);
}

/* Closes the descriptor at the end of its scope. */
#define SCOPED_FD __attribute__((cleanup(trace_close_descriptor))) int

/* Lets the tracer have some descriptors beyond the program's limit, until the limit is restored, at once.
 * False: it cannot be raised, or another thread has raised it. */
bool trace_raise_descriptors(struct rlimit *before);
void trace_restore_descriptors(const struct rlimit *before);

/* Moves a descriptor above the program's limit, if that is low and can be raised for a moment: a program that
 * closes every descriptor it could have then misses this one. Returns the new descriptor, or the old one
 * if it cannot be moved; `inherited`: by programs that the process executes. */
int trace_move_descriptor(int fd, bool inherited);
/* Is a descriptor where it takes none that the program could have had? */
bool trace_descriptor_is_out_of_the_way(int fd);

#endif
