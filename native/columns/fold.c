/* Which nodes of a trie are heavy, and what becomes of the others: in four bytes a node, however many. */
#include <errno.h>

#include "sums.h"

static uint32_t add(uint32_t sum, uint64_t more)
{
	return more > UINT32_MAX - sum ? UINT32_MAX : sum + (uint32_t)more;
}

int mematlas_trie_keep(const uint32_t *parents, uint64_t count, const uint32_t *nodes,
		       uint64_t node_rows, const uint32_t *rows, const void *figures,
		       uint32_t figure_bytes, uint64_t length, uint32_t least, uint32_t *sums,
		       uint8_t *kept)
{
	int64_t loaded[BLOCK];
	int error = mematlas_trie_check(parents, 0, count);

	if (error || !is_figure(figure_bytes))
		return error ? error : -EINVAL;
	memset(sums, 0, count * sizeof *sums);
	for (uint64_t start = 0; start < length; start += BLOCK) {
		uint32_t some = length - start < BLOCK ? (uint32_t)(length - start) : BLOCK;

		load_figures(figures, figure_bytes, start, some, loaded);
		for (uint32_t i = 0; i < some; i++) {
			uint64_t row = rows ? rows[start + i] : start + i;

			if (row >= node_rows || nodes[row] >= count)
				return -EINVAL;
			if (loaded[i] > 0)
				sums[nodes[row]] = add(sums[nodes[row]], (uint64_t)loaded[i]);
		}
	}
	for (uint64_t node = count; node-- > 1;) {
		if (!sums[node])
			continue;
		kept[node] |= sums[node] >= least;
		sums[parents[node]] = add(sums[parents[node]], sums[node]);
	}
	return 0;
}

int64_t mematlas_trie_fold(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			   uint32_t *places)
{
	uint32_t place = 0;
	int error = mematlas_trie_check(parents, 0, count);

	if (error)
		return error;
	for (uint64_t node = 0; node < count; node++)
		places[node] = !node || kept[node] ? place++ : places[parents[node]];
	return place;
}
