/* Reads a line of the status of a thread. */
#include "status.h"

#include <stdio.h>
#include <string.h>

#include "../cleanup.h"

void status_read(int pid, int tid, const char *key, char *ret, size_t size)
{
	char path[64], line[256];

	*ret = 0;
	snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
	CLEANUP_FILE FILE *file = fopen(path, "re");
	while (file && !*ret && fgets(line, sizeof line, file))
		if (strncmp(line, key, strlen(key)) == 0)
			snprintf(ret, size, "%s", line + strlen(key));
}
