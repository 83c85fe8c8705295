/* What the kernel says of a child. */
#ifndef MEMATLAS_TESTS_CHILD_STATE_H
#define MEMATLAS_TESTS_CHILD_STATE_H

#include <string.h>

#include "check.h"

/* The state letter: R, S, D, T, Z, ... */
static inline char state_of(int pid)
{
	char path[32], line[256] = "";

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *stat = fopen(path, "r");
	CHECK(stat && fgets(line, sizeof line, stat));
	fclose(stat);
	return strrchr(line, ')')[2];
}

#endif
