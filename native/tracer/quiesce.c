/* Waits until no thread uses the rings and slots of a session that is over. */
#define _GNU_SOURCE
#include "quiesce.h"

#include <linux/membarrier.h>

#include "state.h"
#include "syscall.h"
#include "thread.h"

#define MAX_WAITS 200u
#define WAIT_NS 1000000L

/* A thread stores its guard, then reads that the session goes on, without a fence in between. After this
 * call either the guard can be seen, or the thread will see that the session is over. */
static bool order_all_threads(void)
{
	return trace_syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0) == 0 &&
	       trace_syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0) == 0;
}

bool trace_quiesce(void)
{
	if (trace_session.sandboxed || !order_all_threads())
		return false;
	for (unsigned waits = 0; trace_threads_are_inside(); waits++) {
		if (waits == MAX_WAITS)
			return false;
		trace_sleep(WAIT_NS);
	}
	return true;
}
