/* The session's files as this process maps them: "control", and a process file of its own. */
#ifndef MEMATLAS_TRACER_PROCESS_FILE_H
#define MEMATLAS_TRACER_PROCESS_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* Maps "control" of the session in that directory and reads the settings. */
bool trace_session_open(const char *directory);

/* Creates and maps a process file. `fork_serial`, `fork_parent`: see struct trace_process. False: a
 * reason is left beside the file. */
bool trace_process_file_open(uint64_t fork_serial, int32_t fork_parent);

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
