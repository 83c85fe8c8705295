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
/* The program has asked for huge pages: more of its faults are sampled from now on. Under the guard. */
void trace_faults_huge(void);
#define TRACE_FAULTS_HUGE 0x48u /* data of that event's samples; no PERF_COUNT_SW_* */
/* For how many faults a sample stands, by its event's data and the flags of its page; 0: none is meant. */
unsigned trace_faults_weight(unsigned long data, unsigned flags);
/* TRACE_FLAG_HUGE and TRACE_FLAG_FILE of the page at `address`. Asked in the faulting thread, since the
 * page may be gone later. */
unsigned trace_faults_page_flags(const void *address);

#endif
