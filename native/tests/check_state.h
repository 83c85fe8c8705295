/* CHECK_STATE(): the invariants of the collector's state hold. */
#ifndef MEMATLAS_TESTS_CHECK_STATE_H
#define MEMATLAS_TESTS_CHECK_STATE_H

#include "../collector/state.h"
#include "check.h"

#define CHECK_STATE(state)                                                                         \
	do {                                                                                       \
		const char *broken_ = state_check(state);                                          \
		if (broken_) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, broken_);       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#endif
