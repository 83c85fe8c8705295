/* SIGTRAP: when the program handles it, page faults are no longer sampled. While they are, a request to
 * block SIGTRAP succeeds without blocking it, since a sample that is delayed has no stack. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>

#include "faults.h"
#include "real.h"
#include "state.h"

TRACE_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
	if (number != SIGTRAP || !trace_faults_own_sigtrap())
		return trace_real.sigaction(number, action, before);
	if (action)
		trace_faults_end("the program handles SIGTRAP itself");
	else if (before)
		*before = (struct sigaction){.sa_handler = SIG_DFL};
	return action ? trace_real.sigaction(number, action, before) : 0;
}

TRACE_EXPORT sighandler_t signal(int number, sighandler_t handler)
{
	if (number == SIGTRAP && trace_faults_own_sigtrap())
		trace_faults_end("the program handles SIGTRAP itself");
	return trace_real.signal(number, handler);
}

/* Returns the set to block, without SIGTRAP while faults are sampled. */
static const sigset_t *without_sigtrap(int how, const sigset_t *set, sigset_t *copy)
{
	if (!set || how == SIG_UNBLOCK || !trace_faults_own_sigtrap() ||
	    sigismember(set, SIGTRAP) != 1)
		return set;
	*copy = *set;
	sigdelset(copy, SIGTRAP);
	return copy;
}

TRACE_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *before)
{
	sigset_t copy;

	return trace_real.sigprocmask(how, without_sigtrap(how, set, &copy), before);
}

TRACE_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
	sigset_t copy;

	return trace_real.pthread_sigmask(how, without_sigtrap(how, set, &copy), before);
}
