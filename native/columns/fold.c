/* Which nodes of a trie are heavy, and the nearest kept node above each other one. Four bytes a
 * node. */
#include <errno.h>

#include "sums.h"

/* Only whether a sum reaches `least` matters, so 32 bits do. */
static uint32_t add_saturated(uint32_t sum, uint64_t more)
{
	return more > UINT32_MAX - sum ? UINT32_MAX : sum + (uint32_t)more;
}

/* Negative values are left out: a node is heavy by what it holds. -EINVAL: a row or node out of
 * range. */
static int add_values(const uint32_t *nodes, uint64_t node_rows, const uint32_t *rows,
		      const int64_t *values, uint64_t start, uint32_t length, uint64_t count,
		      uint32_t *sums)
{
	for (uint32_t i = 0; i < length; i++) {
		uint64_t row = rows ? rows[start + i] : start + i;

		if (row >= node_rows || nodes[row] >= count)
			return -EINVAL;
		if (values[i] > 0)
			sums[nodes[row]] = add_saturated(sums[nodes[row]], (uint64_t)values[i]);
	}
	return 0;
}

/* Children come after their parents, so from the last node down each sum is complete when it is
 * passed on. */
int mematlas_trie_keep(const uint32_t *parents, uint64_t count, const uint32_t *nodes,
		       uint64_t node_rows, const uint32_t *rows, const void *values,
		       uint32_t value_bytes, uint64_t length, uint32_t least, uint32_t *sums,
		       uint8_t *kept)
{
	int64_t loaded[BLOCK];
	int error = mematlas_trie_check(parents, 0, count);

	if (error || !is_value_width(value_bytes))
		return error ? error : -EINVAL;
	memset(sums, 0, count * sizeof *sums);
	for (uint64_t start = 0; !error && start < length; start += BLOCK) {
		uint32_t some = length - start < BLOCK ? (uint32_t)(length - start) : BLOCK;

		load_values(values, value_bytes, start, some, loaded);
		error = add_values(nodes, node_rows, rows, loaded, start, some, count, sums);
	}
	for (uint64_t node = count; !error && node-- > 1;) {
		if (!sums[node])
			continue;
		kept[node] |= sums[node] >= least;
		sums[parents[node]] = add_saturated(sums[parents[node]], sums[node]);
	}
	return error;
}

/* Numbers the kept nodes anew, in their order; the root is always kept. Returns how many there
 * are. */
int64_t mematlas_trie_fold(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			   uint32_t *ret_index)
{
	uint32_t next = 0;
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++)
		ret_index[node] = !node || kept[node] ? next++ : ret_index[parents[node]];
	return next;
}
