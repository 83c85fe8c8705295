/* The tries and rows of a recording, in columns. Plain declarations only: compiled as C and read by cffi. */

/* A trie is an array of the parents of its nodes. Each parent comes before its children; node 0 is
 * the root and its own parent: parents[n] < n for n > 0. */
/* Checks the nodes from number `first` on. -EINVAL: not such an array. */
int mematlas_trie_check(const uint32_t *parents, uint64_t first, uint64_t count);
/* Numbers of nodes above each node. -EINVAL: no trie. */
int mematlas_trie_depths(const uint32_t *parents, uint64_t count, uint32_t *ret_depths);
/* For each node the word (2 or 4 bytes) of least rank among its own and those above it, but for the
 * root's; of equal ranks the innermost. The root gets the word `capacity`. `ranks` has a rank for
 * each word below `capacity`, and as the last one the largest rank, which is that of `capacity`.
 * -EINVAL: no trie, another width, or a word without a rank. */
int mematlas_trie_least(const uint32_t *parents, const void *words, uint32_t bytes, uint64_t count,
			const int32_t *ranks, uint32_t capacity, void *ret_words);
/* The number of the innermost marked node on the path to each node, the node itself included;
 * `marked_count` where there is none. `marked` is ascending. -EINVAL: no trie, or not ascending. */
int mematlas_trie_nearest(const uint32_t *parents, uint64_t count, const uint32_t *marked,
			  uint32_t marked_count, uint32_t *ret_nearest);
/* Adds each node's sum to its parent's, children first; with `kept`, only those of nodes where it
 * is 0. */
int mematlas_trie_add_up(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			 int64_t *sums);
/* Sets kept[n] of each node below the root whose value, including all nodes below it, is at least
 * `least`. `nodes` has the node of each row; `rows` and `values` are as for mematlas_sums_add().
 * `sums` is scratch memory for `count` sums, which stop at 2^32 - 1. -EINVAL: no trie, another
 * width, or no such node. */
int mematlas_trie_keep(const uint32_t *parents, uint64_t count, const uint32_t *nodes,
		       uint64_t node_rows, const uint32_t *rows, const void *values,
		       uint32_t value_bytes, uint64_t length, uint32_t least, uint32_t *sums,
		       uint8_t *kept);
/* Numbers the root and the kept nodes; the index of any other node is that of the nearest kept node
 * above. Returns how many numbers there are. */
int64_t mematlas_trie_fold(const uint32_t *parents, const uint8_t *kept, uint64_t count,
			   uint32_t *ret_index);
/* Replaces each of `rows` nodes by the first one towards the root whose word is not passed over:
 * passed[word] is not 0, for words below `capacity`. The root is never passed. -EINVAL: no trie, another
 * width, or no such node. */
int mematlas_trie_climb(const uint32_t *parents, const void *words, uint32_t bytes, uint64_t count,
			const uint8_t *passed, uint32_t capacity, uint32_t *nodes, uint64_t rows);
/* Replaces each of `rows` nodes by the first one towards the root that has the word which
 * mematlas_trie_least() found for it. -EINVAL as above. */
int mematlas_trie_own(const uint32_t *parents, const void *words, const void *least, uint32_t bytes,
		      uint64_t count, uint32_t *nodes, uint64_t rows);
/* Writes the root and those nodes of `order` that are joined to it by others of `order`, in preorder; of
 * siblings the last of `order` comes first. `first` and `next` are scratch memory for `count` nodes.
 * Returns how many there are. -EINVAL: no trie, no such node, or one that comes twice. */
int64_t mematlas_trie_preorder(const uint32_t *parents, uint64_t count, const uint32_t *order,
			       uint64_t length, uint32_t *first, uint32_t *next, uint32_t *ret);
/* Distinct values in order of first occurrence, and the index of each value in them. Returns how
 * many are distinct. -ENOSPC: more than `capacity`, the length of `ret_distinct`; -ENOMEM; -EINVAL:
 * `capacity` is 2^31 or more. */
int64_t mematlas_unique_inverse(const uint64_t *values, uint64_t count, uint64_t capacity,
				uint32_t *ret_inverse, uint64_t *ret_distinct);
/* Extracts a column of 4 or 8 bytes, little-endian, from rows that are stored byte by byte: the
 * first byte of each row, then the second of each, and so on. `offset` is the column's first byte
 * in a row. -EINVAL: another width. */
int mematlas_rows_column(const uint8_t *turned, uint64_t rows, uint32_t offset, uint32_t bytes,
			 void *ret_column);

/* Lines at ascending byte offsets in the code of a Python function, from its line table. `format` is enum
 * trace_linetable. INT64_MIN: the instruction has no line, or the table has another format or ends
 * before. -EINVAL: the offsets do not ascend. */
int mematlas_linetable_lines(uint32_t format, const uint8_t *table, uint64_t size,
			     int64_t first_line, const uint32_t *offsets, uint64_t count,
			     int64_t *ret_lines);

/* A packed column. It begins with `words` values of 8 bytes, the dictionary. Then follow planes
 * with the low bytes of each row's number minus `base`: the first byte of all rows, then the second
 * of all, `width` in all. The high bytes of a number are 0, but in `odd` rows (exceptions). For
 * those follow planes of the gaps between them, and planes of their high bytes.
 *
 * size == 8 * words + width * rows + odd * (gap_width + odd_width)
 * number(row) == base + low(row) + high(row) * 256^width
 * width + odd_width <= 8; gap_width <= 4; gap_width != 0 and odd_width != 0 just if odd != 0
 * words == 0 unless way == MEMATLAS_PACKING_WORDS */
enum mematlas_packing_way {
	MEMATLAS_PACKING_BITS,   /* the number is the value */
	MEMATLAS_PACKING_WHOLE,  /* the value is a double, and the same as the number */
	MEMATLAS_PACKING_STEPS, /* delta encoding of 32 bits, the sign in bit 0 (zigzag) */
	MEMATLAS_PACKING_BEHIND, /* of 32 bits: first + row - value */
	MEMATLAS_PACKING_WORDS /* dictionary encoding: index of the value */
};
struct mematlas_packing {
	uint8_t way, width;
	uint8_t gap_width;
	uint8_t odd_width;
	uint32_t first;
	uint32_t words;
	uint32_t odd;
	uint64_t base;
};
/* Packs `count` values of `bytes` (4 or 8, aligned) in the way asked for or, if that takes fewer
 * bytes, as bits. Returns the size, at most 8 * count, which `ret_packed` must have. -EINVAL: this
 * way is not for such values; -ENOMEM. */
int64_t mematlas_column_pack(const void *values, uint64_t count, uint32_t bytes, uint32_t way,
			     uint32_t first, struct mematlas_packing *ret, uint8_t *ret_packed);
/* The size of a packed column of so many rows. -EINVAL: the description is malformed. */
int64_t mematlas_column_size(const struct mematlas_packing *packing, uint64_t rows);
enum mematlas_column_type { MEMATLAS_COLUMN_WHOLE, MEMATLAS_COLUMN_DOUBLE };
/* Unpacks to whole numbers of 1, 2, 4 or 8 bytes, or to doubles. `words`, if not NULL, replaces the
 * column's dictionary. -EINVAL: malformed; -ERANGE: a value is too large. */
int mematlas_column_unpack(const struct mematlas_packing *packing, const uint8_t *packed,
			   uint64_t length, uint64_t rows, const uint64_t *words, uint32_t type,
			   uint32_t bytes, void *ret_column);
/* The odd rows, ascending, and their values, of a column of bits or whole numbers in which all
 * other values are 0. -EINVAL: malformed, or another column. */
int mematlas_column_odd(const struct mematlas_packing *packing, const uint8_t *packed,
			uint64_t length, uint64_t rows, uint32_t *ret_rows, uint64_t *ret_values);
/* The stable order of rows of `size` by their first 8 bytes, which are two numbers of 32 bits.
 * Returns 1; 0, and writes nothing, if the rows are in that order already. -ENOMEM; -EINVAL. */
int mematlas_rows_order(const uint8_t *rows, uint64_t count, uint32_t size, uint32_t *ret_order);
/* Splits rows, in `order` if that is not NULL, into columns, one after the other. bytes[c] is the
 * width of column c. */
void mematlas_rows_split(const uint8_t *rows, uint64_t count, const uint32_t *order,
			 const uint8_t *bytes, uint32_t columns, uint8_t *ret_columns);

/* Finds keys among others. The index is UINT32_MAX where a key is missing. Returns how many were
 * found. -EINVAL: either does not strictly ascend. */
int64_t mematlas_keys_find(const int64_t *keys, uint64_t count, const int64_t *others,
			   uint64_t length, uint32_t *ret_index);
/* Adds values to sums[key], for the rows listed, or for all where `rows` is NULL. Keys have 2 or 4
 * bytes;
 * values are unsigned of 1, 2 or 4 bytes, or signed of 8. -EINVAL: other widths, or a key >=
 * `capacity`. */
int mematlas_sums_add(const void *keys, uint32_t key_bytes, uint64_t count, const uint32_t *rows,
		      const void *values, uint32_t value_bytes, uint64_t length, uint64_t capacity,
		      int64_t *sums);
/* Groups rows by key, in ascending order in each group: the rows of a key are
 * ret_rows[ret_starts[key]] up to ret_starts[key + 1]. `ret_starts` has capacity + 1 elements.
 * -EINVAL as above. */
int mematlas_rows_group(const void *keys, uint32_t key_bytes, uint64_t count, uint64_t capacity,
			uint32_t *ret_starts, uint32_t *ret_rows);

/* A growing trie of labels. Node 0 is the root; nodes are numbered in the order in which they are
 * added. */
struct mematlas_tree;
int mematlas_tree_create(struct mematlas_tree **ret);
void mematlas_tree_destroy(struct mematlas_tree *tree);
/* The child with that label, which is added if it is missing. -ENOMEM; -EINVAL: no such parent. */
int64_t mematlas_tree_child(struct mematlas_tree *tree, uint32_t parent, uint32_t label);
/* Adds a trie below node `under`; ret_nodes[n] is the node that its node n became. A node stands
 * for the labels [starts[word], starts[word + 1]), outermost first. -ENOMEM; -EINVAL: no trie. */
int mematlas_tree_merge(struct mematlas_tree *tree, uint32_t under, const uint32_t *parents,
			const uint32_t *words, uint64_t count, const uint32_t *starts,
			const uint32_t *labels, uint32_t *ret_nodes);
/* Returns the number of nodes. Writes their parents and labels where those are not NULL. */
uint64_t mematlas_tree_read(const struct mematlas_tree *tree, uint32_t *ret_parents,
			    uint32_t *ret_labels);

/* What the samples of a profile in pprof's format are made of. locations[n] is the location of node
 * n, all > 0; the root's stands for a stack without a path. suffix_starts has suffix_count + 1
 * entries: suffix s is the encoded labels [suffix_starts[s], suffix_starts[s + 1]) of `suffixes`. */
struct mematlas_pprof {
	const uint32_t *parents;
	const uint32_t *locations;
	uint64_t nodes;
	const int64_t *values; /* `types` of each row */
	uint32_t types;
	const uint8_t *suffixes;
	const uint32_t *suffix_starts;
	uint32_t suffix_count;
};
/* Writes as many samples as fit: the locations of the path of stacks[row], leaf first, the values
 * and the labels suffix_of[row]. Returns the bytes written; `ret_rows` is the number of samples.
 * -ENOSPC: not one fits; -EINVAL: no trie, or no such stack or suffix. */
int64_t mematlas_pprof_samples(const struct mematlas_pprof *profile, const uint32_t *stacks,
			       const uint8_t *suffix_of, uint64_t rows, uint8_t *out,
			       uint64_t capacity, uint64_t *ret_rows);
