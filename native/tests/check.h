/* CHECK() for C tests. Exit 77 means skipped: print the reason first. */
#ifndef MEMATLAS_TESTS_CHECK_H
#define MEMATLAS_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__,           \
				#condition);                                                       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* Checks what other processes or threads bring about: within a minute, however busy the machine is. */
#define WAIT_FOR(condition)                                                                        \
	do {                                                                                       \
		for (int wait_ = 0; wait_ < 60000 && !(condition); wait_++)                        \
			usleep(1000);                                                              \
		CHECK(condition);                                                                  \
	} while (0)

#define SKIP(reason)                                                                               \
	do {                                                                                       \
		printf("skipped: %s\n", reason);                                                   \
		exit(77);                                                                          \
	} while (0)

#endif
