/* Keys joined and figures added up, of any width: columns of millions of rows are never widened. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "sums.h"

int64_t mematlas_keys_find(const int64_t *keys, uint64_t count, const int64_t *others,
			   uint64_t length, uint32_t *places)
{
	uint64_t other = 0;
	int64_t found = 0;

	if (count > UINT32_MAX || length >= UINT32_MAX)
		return -EINVAL;
	for (uint64_t i = 1; i < length; i++)
		if (others[i - 1] >= others[i])
			return -EINVAL;
	for (uint64_t i = 0; i < count; i++) {
		if (i && keys[i - 1] >= keys[i])
			return -EINVAL;
		while (other < length && others[other] < keys[i])
			other++;
		bool there = other < length && others[other] == keys[i];
		places[i] = there ? (uint32_t)other : UINT32_MAX;
		found += there;
	}
	return found;
}

int mematlas_sums_add(const void *numbers, uint32_t number_bytes, uint64_t count,
		      const uint32_t *rows, const void *figures, uint32_t figure_bytes,
		      uint64_t length, uint64_t capacity, int64_t *sums)
{
	int64_t loaded[BLOCK];

	if (number_bytes != 2 && number_bytes != 4)
		return -EINVAL;
	if (!is_figure(figure_bytes))
		return -EINVAL;
	for (uint64_t start = 0; start < length; start += BLOCK) {
		uint32_t some = length - start < BLOCK ? (uint32_t)(length - start) : BLOCK;

		load_figures(figures, figure_bytes, start, some, loaded);
		for (uint32_t i = 0; i < some; i++) {
			uint64_t row = rows ? rows[start + i] : start + i;
			uint32_t number =
				row < count ? number_at(numbers, number_bytes, row) : UINT32_MAX;

			if (number >= capacity)
				return -EINVAL;
			sums[number] = (int64_t)((uint64_t)sums[number] + (uint64_t)loaded[i]);
		}
	}
	return 0;
}

int mematlas_rows_group(const void *numbers, uint32_t number_bytes, uint64_t count,
			uint64_t capacity, uint32_t *starts, uint32_t *rows)
{
	if ((number_bytes != 2 && number_bytes != 4) || count > UINT32_MAX || capacity > UINT32_MAX)
		return -EINVAL;
	memset(starts, 0, (capacity + 1) * sizeof *starts);
	for (uint64_t row = 0; row < count; row++) {
		uint32_t number = number_at(numbers, number_bytes, row);

		if (number >= capacity)
			return -EINVAL;
		starts[number]++;
	}
	for (uint64_t number = 0, end = 0; number <= capacity; number++) {
		end += starts[number];
		starts[number] =
			(uint32_t)end; /* the end of its rows; they are put in from there */
	}
	for (uint64_t row = count; row-- > 0;)
		rows[--starts[number_at(numbers, number_bytes, row)]] = (uint32_t)row;
	return 0;
}
