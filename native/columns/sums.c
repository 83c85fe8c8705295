/* Joins of keys and sums by key over columns of any width, which may have millions of rows and are
 * never widened. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "sums.h"

static bool is_ascending(const int64_t *keys, uint64_t count)
{
	for (uint64_t i = 1; i < count; i++)
		if (keys[i - 1] >= keys[i])
			return false;
	return true;
}

/* One pass over both, which is why they must ascend strictly. UINT32_MAX: not among the others. */
int64_t mematlas_keys_find(const int64_t *keys, uint64_t count, const int64_t *others,
			   uint64_t length, uint32_t *ret_index)
{
	uint64_t other = 0;
	int64_t found = 0;

	if (count > UINT32_MAX || length >= UINT32_MAX)
		return -EINVAL;
	if (!is_ascending(keys, count) || !is_ascending(others, length))
		return -EINVAL;
	for (uint64_t i = 0; i < count; i++) {
		while (other < length && others[other] < keys[i])
			other++;
		bool exists = other < length && others[other] == keys[i];
		ret_index[i] = exists ? (uint32_t)other : UINT32_MAX;
		found += exists;
	}
	return found;
}

/* Adds in the unsigned type, because a damaged recording may hold values whose sum overflows. */
int mematlas_sums_add(const void *keys, uint32_t key_bytes, uint64_t count, const uint32_t *rows,
		      const void *values, uint32_t value_bytes, uint64_t length, uint64_t capacity,
		      int64_t *sums)
{
	int64_t loaded[BLOCK];

	if (!is_key_width(key_bytes) || !is_value_width(value_bytes))
		return -EINVAL;
	for (uint64_t start = 0; start < length; start += BLOCK) {
		uint32_t some = length - start < BLOCK ? (uint32_t)(length - start) : BLOCK;

		load_values(values, value_bytes, start, some, loaded);
		for (uint32_t i = 0; i < some; i++) {
			uint64_t row = rows ? rows[start + i] : start + i;
			uint32_t key = row < count ? key_at(keys, key_bytes, row) : UINT32_MAX;

			if (key >= capacity)
				return -EINVAL;
			sums[key] = (int64_t)((uint64_t)sums[key] + (uint64_t)loaded[i]);
		}
	}
	return 0;
}

/* Rows of group k are ret_rows[ret_starts[k] .. ret_starts[k + 1]], in ascending order. */
int mematlas_rows_group(const void *keys, uint32_t key_bytes, uint64_t count, uint64_t capacity,
			uint32_t *ret_starts, uint32_t *ret_rows)
{
	if (!is_key_width(key_bytes) || count > UINT32_MAX || capacity > UINT32_MAX)
		return -EINVAL;
	memset(ret_starts, 0, (capacity + 1) * sizeof *ret_starts);
	for (uint64_t row = 0; row < count; row++) {
		uint32_t key = key_at(keys, key_bytes, row);

		if (key >= capacity)
			return -EINVAL;
		ret_starts[key]++;
	}
	/* First the end of each group, from which rows are filled in, the last one first. */
	for (uint64_t key = 0, end = 0; key <= capacity; key++) {
		end += ret_starts[key];
		ret_starts[key] = (uint32_t)end;
	}
	for (uint64_t row = count; row-- > 0;)
		ret_rows[--ret_starts[key_at(keys, key_bytes, row)]] = (uint32_t)row;
	return 0;
}
