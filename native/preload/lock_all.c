/* libmematlas_lock.so: locks a program's memory once the program is loaded. exec drops memory locks, so
 * `mematlas exec --lock-all` cannot set them before it. Acts only in the process whose PID is in
 * MEMATLAS_LOCK_ALL; its children stay unlocked, as with mlockall(2). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void print_error(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

__attribute__((constructor)) static void lock_all(void)
{
	const char *wanted = getenv("MEMATLAS_LOCK_ALL");

	if (wanted == NULL || strtol(wanted, NULL, 10) != getpid())
		return;
	/* Without MCL_ONFAULT every later mapping is populated at once, or fails. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
		return;
	print_error("mematlas: cannot lock memory: RLIMIT_MEMLOCK is too low and CAP_IPC_LOCK is "
		    "missing; pass --memlock\n");
	_exit(4);
}
