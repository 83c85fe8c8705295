/* The tracer's own memory in the traced program. */
#ifndef MEMATLAS_TRACER_MEMORY_H
#define MEMATLAS_TRACER_MEMORY_H

#include <stddef.h>

/* mmap() at any address; MAP_FAILED on failure. */
void *trace_pages(size_t size, int protection, int flags, int fd);

/* Private memory, named and published to the collector; NULL on failure. */
void *trace_map(size_t size, int protection);
/* Unmaps what trace_map() returned. */
void trace_unmap(void *memory, size_t size);
/* Unmaps all but the first `kept` bytes of what trace_map() returned. */
void trace_shorten_map(void *memory, size_t size, size_t kept);

/* Writes the ranges of all such memory into a new process file. */
void trace_publish_maps(void);

#endif
