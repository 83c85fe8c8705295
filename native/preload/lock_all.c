/* libmematlas_lock.so: locks a program's memory once it is loaded. Locks do not outlive exec, so
 * `mematlas exec --lock-all` cannot take them itself. Acts in the one process named by
 * MEMATLAS_LOCK_ALL; whatever that one starts goes unlocked, as with mlockall(2). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void complain(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

__attribute__((constructor)) static void lock_all(void)
{
	const char *wanted = getenv("MEMATLAS_LOCK_ALL");

	if (wanted == NULL || strtol(wanted, NULL, 10) != getpid())
		return;
	/* On fault: otherwise every later mapping is populated whole, or fails. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
		return;
	complain("mematlas: memory could not be locked: RLIMIT_MEMLOCK is too low, and there is no "
		 "CAP_IPC_LOCK; pass --memlock\n");
	_exit(4);
}
