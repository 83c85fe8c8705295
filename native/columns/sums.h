/* Loads values and keys of any width. */
#ifndef MEMATLAS_COLUMNS_SUMS_H
#define MEMATLAS_COLUMNS_SUMS_H

#include <stdbool.h>
#include <string.h>

#include "mematlas.h"

#define BLOCK 1024u /* values loaded at once */

static inline bool is_value_width(uint32_t bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

static inline bool is_key_width(uint32_t bytes)
{
	return bytes == 2 || bytes == 4;
}

static inline uint32_t key_at(const void *keys, uint32_t bytes, uint64_t row)
{
	return bytes == 2 ? ((const uint16_t *)keys)[row] : ((const uint32_t *)keys)[row];
}

static inline void load_values(const void *values, uint32_t bytes, uint64_t start, uint32_t count,
			       int64_t *ret)
{
	for (uint32_t i = 0; bytes == 1 && i < count; i++)
		ret[i] = ((const uint8_t *)values)[start + i];
	for (uint32_t i = 0; bytes == 2 && i < count; i++)
		ret[i] = ((const uint16_t *)values)[start + i];
	for (uint32_t i = 0; bytes == 4 && i < count; i++)
		ret[i] = ((const uint32_t *)values)[start + i];
	if (bytes == 8)
		memcpy(ret, (const int64_t *)values + start, count * sizeof *ret);
}

#endif
