/* The address space of rings and of the slots of their threads. It is mapped in groups as threads come,
 * since most programs have few and some have a limit. Each group is as large as all before it.
 *
 *   group 0 has rings 0..3; group g > 0 has rings 4 << g-1 .. (4 << g) - 1 */
#ifndef MEMATLAS_TRACER_GROUPS_H
#define MEMATLAS_TRACER_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "thread.h"

/* Maps the first group, out of the process file that is open at `fd`. False: no address space. */
bool trace_groups_start(int fd);
/* Maps the group of that ring, if it is not mapped yet. The ring before it has been claimed. */
bool trace_groups_extend(uint32_t ring);
/* Unmaps all groups: no thread may be using them. */
void trace_groups_release(void);
/* Leaves all groups to threads that may still be using them; they are never unmapped. */
void trace_groups_abandon(void);
/* Unmaps what is there for rings from `rings` on, which no thread uses. */
void trace_groups_shorten(uint32_t rings);

/* The words of a ring and the slot of its thread; its group is mapped. */
uint64_t *trace_group_words(uint32_t ring);
struct trace_thread *trace_group_slot(uint32_t ring);

#endif
