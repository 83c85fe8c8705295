/* A child that ptrace stops, and that ends with the test. */
#ifndef MEMATLAS_TESTS_STOPPED_CHILD_H
#define MEMATLAS_TESTS_STOPPED_CHILD_H

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"
#include "mematlas.h"

#define TIMEOUT_S 20.0

static inline struct mematlas_remote *stop(int pid)
{
	struct mematlas_remote *remote;
	int error = mematlas_remote_attach(pid, pid, TIMEOUT_S, &remote);

	if (error == -EPERM)
		SKIP("ptrace is refused");
	CHECK(error == 0);
	return remote;
}

static inline void end(int pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

#endif
