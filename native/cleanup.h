/* Scope guards. A marked variable is released when its scope ends, on every path. */
#ifndef MEMATLAS_CLEANUP_H
#define MEMATLAS_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))
#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)
#define CLEANUP_FILE CLEANUP(cleanup_file)
#define CLEANUP_DIRECTORY CLEANUP(cleanup_directory)

static inline void cleanup_free(void *pointer_to_pointer)
{
	free(*(void **)pointer_to_pointer);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_file(FILE *const *file)
{
	if (*file)
		fclose(*file);
}

static inline void cleanup_directory(DIR *const *directory)
{
	if (*directory)
		closedir(*directory);
}

/* The value of a guarded pointer, for a caller who owns it from now on. */
#define CLEANUP_KEEP(pointer)                                                                      \
	({                                                                                         \
		__typeof__(pointer) kept_ = (pointer);                                             \
		(pointer) = NULL;                                                                  \
		kept_;                                                                             \
	})

#endif
