/* The C interface: mematlas_api.h and mematlas_stacks.h with what a C or C++ compiler needs around it. */
#ifndef MEMATLAS_H
#define MEMATLAS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "mematlas_api.h"
#include "mematlas_stacks.h"
#ifdef __cplusplus
}
#endif

#endif
