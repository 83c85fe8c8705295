/* The C interface: all declarations, for a C or C++ compiler. */
#ifndef MEMATLAS_H
#define MEMATLAS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "mematlas_alloc.h"
#include "mematlas_api.h"
#include "mematlas_bench.h"
#include "mematlas_stacks.h"
#ifdef __cplusplus
}
#endif

#endif
