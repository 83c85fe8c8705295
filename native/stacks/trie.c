/* Tries whose nodes come after their parents: one pass down or up does what recursion would. */
#include <errno.h>

#include "mematlas.h"

static int check(const uint32_t *parents, uint64_t count)
{
	if (count > UINT32_MAX)
		return -EINVAL;
	for (uint64_t node = 0; node < count; node++)
		if (parents[node] >= (node ? node : 1))
			return -EINVAL;
	return 0;
}

int mematlas_trie_depths(const uint32_t *parents, uint64_t count, uint32_t *depths)
{
	int error = check(parents, count);

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++)
		depths[node] = node ? depths[parents[node]] + 1 : 0;
	return 0;
}

int mematlas_trie_least(const uint32_t *parents, const int32_t *ranks, uint64_t count,
			uint32_t *holders)
{
	int error = check(parents, count);

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++) {
		uint32_t above = node ? holders[parents[node]] : 0;

		holders[node] = ranks[node] <= ranks[above] ? (uint32_t)node : above;
	}
	return 0;
}

int mematlas_trie_add_up(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			 int64_t *sums)
{
	int error = check(parents, count);

	if (error)
		return error;
	for (uint64_t node = count; node-- > 1;)
		if (!kept || !kept[node])
			sums[parents[node]] =
				(int64_t)((uint64_t)sums[parents[node]] + (uint64_t)sums[node]);
	return 0;
}
