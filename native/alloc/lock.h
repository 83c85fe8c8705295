/* A mutex held until the end of the scope, on every path out of it. */
#ifndef MEMATLAS_ALLOC_LOCK_H
#define MEMATLAS_ALLOC_LOCK_H

#include <pthread.h>

static inline pthread_mutex_t *lock_acquire(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	return mutex;
}

static inline void lock_release(pthread_mutex_t **mutex)
{
	pthread_mutex_unlock(*mutex);
}

#define LOCK_SCOPE(mutex)                                                                          \
	pthread_mutex_t *lock_scope __attribute__((cleanup(lock_release), unused)) =               \
		lock_acquire(mutex)

#endif
