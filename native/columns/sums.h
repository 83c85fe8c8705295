/* Figures and numbers of any width, loaded. */
#ifndef MEMATLAS_STACKS_FIGURES_H
#define MEMATLAS_STACKS_FIGURES_H

#include <stdbool.h>
#include <string.h>

#include "mematlas.h"

#define BLOCK 1024u /* figures at a time */

static inline bool is_figure(uint32_t bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

static inline uint32_t number_at(const void *numbers, uint32_t bytes, uint64_t row)
{
	return bytes == 2 ? ((const uint16_t *)numbers)[row] : ((const uint32_t *)numbers)[row];
}

static inline void load_figures(const void *figures, uint32_t bytes, uint64_t start, uint32_t count,
				int64_t *ret)
{
	for (uint32_t i = 0; bytes == 1 && i < count; i++)
		ret[i] = ((const uint8_t *)figures)[start + i];
	for (uint32_t i = 0; bytes == 2 && i < count; i++)
		ret[i] = ((const uint16_t *)figures)[start + i];
	for (uint32_t i = 0; bytes == 4 && i < count; i++)
		ret[i] = ((const uint32_t *)figures)[start + i];
	if (bytes == 8)
		memcpy(ret, (const int64_t *)figures + start, count * sizeof *ret);
}

#endif
