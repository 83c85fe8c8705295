/* The session's memory as this process maps it: control, and a process file of its own. */
#ifndef MEMATLAS_TRACER_PROCESS_FILE_H
#define MEMATLAS_TRACER_PROCESS_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* Takes over the text of TRACE_SESSION_VARIABLE. False: it is none. */
bool trace_session_open(const char *text);

/* Joins the session as a new image, maps control with its settings, and a process file. `fork_serial`,
 * `fork_image`: see struct trace_request. False: the collector was told why, if it can be reached. */
bool trace_process_file_open(uint64_t fork_serial, uint64_t fork_image);

/* Unmaps the process file, which is the parent's in a forked child. */
void trace_process_file_close(void);

/* Detaches from both files, when no thread uses the rings any more. What is used without the guard stays
 * mapped as private, empty memory, and is mapped over by the next session. */
void trace_session_detach(void);
/* Leaves the mappings of both files to threads that may still be using them. */
void trace_session_abandon(void);

/* Unmaps rings and slots that no thread uses, for a program that limits its address space. */
void trace_shrink(void);

#endif
