/* The C interface: mematlas_api.h with what a C compiler needs around it. */
#ifndef MEMATLAS_H
#define MEMATLAS_H

#include <stddef.h>
#include <stdint.h>

#include "mematlas_api.h"

#endif
