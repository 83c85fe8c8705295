/* The end of a session in a program that runs on: its rings and slots are unmapped only once no thread
 * can be using them. */
#ifndef MEMATLAS_TRACER_QUIESCE_H
#define MEMATLAS_TRACER_QUIESCE_H

#include <stdbool.h>

/* Waits until no other thread uses rings or slots. The session is over and its generation has passed, so
 * no thread begins to. False: one still does, or the kernel cannot tell. */
bool trace_quiesce(void);

#endif
