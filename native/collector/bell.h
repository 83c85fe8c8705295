/* Wakes the collector when a process asks for a look. A traced process has no descriptor of the session that it could
 * write to, so it wakes a futex, and a thread of the collector waits for that. */
#ifndef MEMATLAS_COLLECTOR_BELL_H
#define MEMATLAS_COLLECTOR_BELL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* is_running => word, in memory that outlives the thread, and thread are set */
struct bell {
	uint32_t *word; /* anybody of the session may change it: only its changes mean anything */
	int wakes; /* eventfd */
	bool is_running;
	_Atomic bool ends;
	pthread_t thread;
};

/* Returns 0 or -errno. */
int bell_start(struct bell *bell, uint32_t *word, int wakes);
void bell_stop(struct bell *bell);

#endif
