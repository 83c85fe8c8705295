/* popen() gives its shell an environment by `environ`. */
#ifndef MEMATLAS_TRACER_HOOKS_POPEN_H
#define MEMATLAS_TRACER_HOOKS_POPEN_H

/* In a forked child: takes back what another thread's popen() has made of `environ`. */
void trace_popen_after_fork(void);

#endif
