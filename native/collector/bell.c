#define _GNU_SOURCE
#include "bell.h"

#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REST_NS 100000L /* so that a process that rings without end costs little */
#define RECHECK_NS 100000000L /* between looks whether the thread shall end */

/* What was seen is read before the collector is woken, so that no ring is lost between the two. A traced process may
 * write to the word and move waiters to another futex, so no wake-up is certain. */
static void *run(void *argument)
{
	static const struct timespec recheck = {.tv_nsec = RECHECK_NS};
	struct bell *bell = argument;
	uint32_t seen = __atomic_load_n(bell->word, __ATOMIC_ACQUIRE);

	while (!bell->ends) {
		uint32_t now = __atomic_load_n(bell->word, __ATOMIC_ACQUIRE);
		if (now == seen) {
			syscall(SYS_futex, bell->word, FUTEX_WAIT, now, &recheck, NULL, 0);
			continue;
		}
		seen = now;
		eventfd_write(bell->wakes, 1);
		nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
	}
	return NULL;
}

/* Signals are for the program's other threads. */
int bell_start(struct bell *bell, uint32_t *word, int wakes)
{
	sigset_t all, before;

	bell->word = word;
	bell->wakes = wakes;
	__atomic_store_n(
		word, 0,
		__ATOMIC_RELEASE); /* backs the page: no process shall be the first to write */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&bell->thread, NULL, run, bell);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	bell->is_running = !error;
	return -error;
}

void bell_stop(struct bell *bell)
{
	if (!bell->is_running)
		return;
	bell->ends = true;
	__atomic_add_fetch(bell->word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, bell->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	pthread_join(bell->thread, NULL);
	bell->is_running = false;
}
