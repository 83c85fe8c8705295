/* Choices between kernels that an earlier process made, checked before they are used. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>

#include "choice.h"
#include "mematlas.h"
#include "page_kind.h"
#include "stream.h"
#include "transpose.h"

/* Costs of exactly the allowed kernels, the least of them that of `best`. */
static bool has_sound_costs(const struct mematlas_kernel_choice *entry)
{
	for (int i = 0; i < MEMATLAS_KERNELS; i++) {
		bool allowed = entry->allowed >> i & 1;
		double cost = entry->cost[i];
		if (allowed && (!isfinite(cost) || cost <= 0 || cost < entry->cost[entry->best]))
			return false;
		if (!allowed && cost != 0)
			return false;
	}
	return true;
}

static bool has_sound_class(const struct mematlas_kernel_choice *entry)
{
	return entry->rows <= 64 && entry->columns <= 64 && entry->from_step <= 64 &&
	       entry->to_step <= 64 && entry->from_pages <= KIND_HUGE &&
	       entry->to_pages <= KIND_HUGE;
}

static bool is_sound(const struct mematlas_kernel_choice *entry)
{
	if (entry->best >= MEMATLAS_KERNELS || !(entry->allowed >> entry->best & 1))
		return false;
	for (int i = 0; i < MEMATLAS_KERNELS; i++)
		if (entry->allowed >> i & 1 && !mematlas_kernel_name(entry->work, i))
			return false;
	return has_sound_class(entry) && has_sound_costs(entry);
}

int mematlas_kernel_choice_add(const struct mematlas_kernel_choice *choice)
{
	struct mematlas_kernel_choice entry = *choice;

	if (!is_sound(&entry))
		return -EINVAL;
	entry.measured_here = 0;
	choice_put(&entry);
	return 0;
}

const char *mematlas_kernel_name(int work, int kernel)
{
	if (kernel < 0 || kernel >= MEMATLAS_KERNELS)
		return NULL;
	if (work == MEMATLAS_WORK_HALVES)
		return kernel < LEAF_KERNELS ? leaf_kernels[kernel].name : NULL;
	if (work == MEMATLAS_WORK_TILES)
		return kernel < TILE_KERNELS ? tile_kernels[kernel].name : NULL;
	return stream_reader_name(work, (unsigned)kernel);
}
