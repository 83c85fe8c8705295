/* Whether a program file can load the tracer, for the first program of a run. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>

#include "../include/mematlas_collector.h"
#include "../tracer/program_file.h"

int mematlas_program_left(const char *path)
{
	return (int)trace_program_read(AT_FDCWD, path, 0);
}
