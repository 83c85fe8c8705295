/* Scope guards. A marked variable is released when its scope ends, on every path. */
#ifndef MEMATLAS_CLEANUP_H
#define MEMATLAS_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))
#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)

static inline void cleanup_free(void *pointer_to_pointer)
{
	free(*(void **)pointer_to_pointer);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* The value of a guarded pointer, for a caller who owns it from now on. */
#define CLEANUP_KEEP(pointer)                                                                      \
	({                                                                                         \
		__typeof__(pointer) kept_ = (pointer);                                             \
		(pointer) = NULL;                                                                  \
		kept_;                                                                             \
	})

#endif
