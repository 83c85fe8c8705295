/* Samples of the page faults this process takes. */
#ifndef MEMATLAS_TRACER_FAULTS_H
#define MEMATLAS_TRACER_FAULTS_H

#include <stdbool.h>

#include "../include/trace_format.h"

/* fault_handler.c */
void trace_faults_start(void);

/* fault_events.c */
void trace_faults_report(enum trace_faults how, const char *reason);
/* Opens the perf events, once the handler is installed, and reports the outcome. */
void trace_faults_open(void);
void trace_faults_after_fork(void);
/* Ends sampling for good. */
void trace_faults_end(const char *reason);
/* Is SIGTRAP the tracer's? Then the program must not block it. */
bool trace_faults_own_sigtrap(void);
/* TRACE_FLAG_HUGE and TRACE_FLAG_FILE of the page at `address`. Asked in the faulting thread, since the
 * page may be gone later. */
unsigned trace_faults_page_flags(const void *address);

#endif
