/* What becomes of the program's mappings, told to the collector. Each function takes and keeps the guard
 * itself, and errno. `caller` is the return address of the hook. */
#ifndef MEMATLAS_TRACER_MAPPINGS_H
#define MEMATLAS_TRACER_MAPPINGS_H

#include <stddef.h>
#include <stdint.h>

/* After mmap(). */
void trace_mapping_made(void *start, size_t length, int protection, int flags, int fd,
			const void *caller);
/* Before munmap() or shmdt(), whose length is 0: the whole mapping that begins at `start`. */
void trace_mapping_ends(const void *start, size_t length);
/* Before a call that may give memory back in a way of its own: mremap(), brk(), a fixed mmap(). */
void trace_mapping_shrinks(void);
/* After mremap(). */
void trace_mapping_moved(const void *start, size_t length, const void *moved, size_t new_length);
/* After mprotect(). */
void trace_protection_changed(const void *start, size_t length, int protection);
/* Before madvise(): afterwards another thread may have touched the pages anew. */
void trace_advised(const void *start, size_t length, int advice);
/* After madvise() with an advice that makes pages resident. */
void trace_populated(const void *start, size_t length);
/* After the program moved its break. */
void trace_break_moved(uintptr_t before, uintptr_t now, const void *caller);
/* After shmat(). */
void trace_segment_attached(void *start, int segment);

#endif
