/* The C interface, a header for each folder of native/, with what a C or C++ compiler needs around them. */
#ifndef MEMATLAS_H
#define MEMATLAS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "mematlas_alloc.h"
#include "mematlas_attach.h"
#include "mematlas_bench.h"
#include "mematlas_collector.h"
#include "mematlas_columns.h"
#include "mematlas_heap.h"
#include "mematlas_proc.h"
#include "mematlas_snapshot.h"
#include "mematlas_syscalls.h"
#ifdef __cplusplus
}
#endif

#endif
