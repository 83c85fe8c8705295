/* Modules loaded after the tracer's start: Python embedded by dlopen(), plugins. dlopen() is not hooked, since
 * its result depends on the caller, so a change of the loader's list is noticed at the next event.
 *
 * A walk through the list holds it: dlclose() waits until no thread does. No holder waits for anything. */
#ifndef MEMATLAS_TRACER_LATE_MODULES_H
#define MEMATLAS_TRACER_LATE_MODULES_H

#include <stdbool.h>

/* Has the loader's list changed since the last look? One load, where the loader's count is known. */
bool trace_has_late_modules(void);
/* Patches late modules after an attach, and hooks a late Python. Not for signal handlers. */
void trace_look_for_late_modules(void);

/* Waits until no other thread holds the list, and a tenth of a second at most for calls of dlclose(). */
void trace_modules_hold(void);
void trace_modules_release(void);

/* Around the real dlclose(). */
void trace_modules_before_close(void);
void trace_modules_after_close(void);
/* In a forked child: the threads that held the list are not there. */
void trace_modules_after_fork(void);

#endif
