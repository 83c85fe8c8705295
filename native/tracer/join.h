/* Joins the session that $MEMATLAS_SESSION names, or the one attach names. Called by hooks only: nothing
 * below them starts a session. */
#ifndef MEMATLAS_TRACER_JOIN_H
#define MEMATLAS_TRACER_JOIN_H

#include "record.h"
#include "state.h"

/* Joins on the first call. False: the program runs untraced. */
bool trace_start(void);
/* Joins while the program runs. Returns 0 or -errno. */
int trace_join(const char *session);
/* Leaves the session again. */
void trace_quit(void);
/* Returns what the session had mapped to the program, once its hooks are removed. */
void trace_give_back(void);

static inline bool trace_ready(void)
{
	int state = atomic_load_explicit(&trace_state, memory_order_acquire);

	return trace_likely(state == TRACE_JOINED) || (state == TRACE_UNSTARTED && trace_start());
}

/* As trace_sample(), where the session may not be joined yet. */
static inline bool trace_sample_ready(size_t size)
{
	if (trace_unlikely(!trace_thread_fast())) {
		trace_ready();
		return trace_sample_slow(size);
	}
	trace_tls.left = -1;
	return true;
}

#endif
