/* A recording's tries and rows, in columns. Plain declarations, as in mematlas_api.h. */

/* A trie is the parents of its nodes, each before its children; node 0 is the root, its own parent.
 * -EINVAL: it is none. */
int mematlas_trie_check(const uint32_t *parents, uint64_t first, uint64_t count); /* of the nodes from `first` on */
int mematlas_trie_depths(const uint32_t *parents, uint64_t count, uint32_t *ret_depths);
/* Gives each node the word, of 2 or 4 bytes, of least rank from it up to below the root, the innermost of equals;
 * the root has `room`. There are ranks of the words below `room`, and one of it, which none exceeds. */
int mematlas_trie_least(const uint32_t *parents, const void *words, uint32_t bytes, uint64_t count,
			const int32_t *ranks, uint32_t capacity, void *ret_words);
/* Adds each node's sum to its parent's, children first; with `kept` only those of nodes where it is 0. */
int mematlas_trie_add_up(const uint32_t *parents, const uint8_t *kept, uint64_t count, int64_t *sums);
/* Sets in `kept` the nodes below the root that have at least `least`, or 2^32 - 1: figures of rows, as of mematlas_sums_add,
 * whose nodes are given, each added to all nodes above. `sums`: room for one a node. -EINVAL: other widths, no such
 * node, or as above. */
int mematlas_trie_keep(const uint32_t *parents, uint64_t count, const uint32_t *nodes, uint64_t node_rows,
		       const uint32_t *rows, const void *figures, uint32_t figure_bytes, uint64_t length,
		       uint32_t least, uint32_t *sums, uint8_t *kept);
/* Numbers the root and the kept nodes, and gives each other node the number of the nearest above. Returns how many
 * numbers there are. */
int64_t mematlas_trie_fold(const uint32_t *parents, const uint8_t *kept, uint64_t count, uint32_t *ret_places);
/* Numbers words in the order in which they are met; returns how many differ. -ENOSPC: more than `room`,
 * for which `ret_distinct` has space; -ENOMEM, -EINVAL (room of 2^31). */
int64_t mematlas_unique_inverse(const uint64_t *words, uint64_t count, uint64_t capacity,
			      uint32_t *ret_numbers, uint64_t *ret_distinct);
/* Joins a column of 4 or 8 bytes, little-endian, from rows whose first bytes come first, then their
 * second ones, and so on; `place` is its first byte in a row. -EINVAL: another width. */
int mematlas_rows_column(const uint8_t *turned, uint64_t rows, uint32_t place, uint32_t bytes,
			 void *ret_column);

/* A column packed. Of each row's number, what is below 256^width stands in planes: the first byte of every
 * row, then the second of every row, and so on. What is above is 0 but for `odd` rows: planes of the gaps
 * between these, then planes of it. `base` is added to all. Before the planes stand `words` of 8 bytes. */
enum mematlas_packing_way {
	MEMATLAS_PACKING_BITS,   /* the number is the value */
	MEMATLAS_PACKING_WHOLE,  /* the value is a double, and the number */
	MEMATLAS_PACKING_STEPS,  /* the difference of 32 bits from the row before, its sign in bit 0 */
	MEMATLAS_PACKING_BEHIND, /* of 32 bits, how far the value is behind `first` plus the row's own number */
	MEMATLAS_PACKING_WORDS   /* which of the words the value is */
};
struct mematlas_packing {
	uint8_t way, width; /* of planes; 0 to 8 bytes */
	uint8_t gap_width;  /* of gaps: 1 to 4 bytes, 0 without odd rows */
	uint8_t odd_width;  /* of what is above: 1 to 8 bytes, 0 without odd rows; with `width` 8 at most */
	uint32_t first;
	uint32_t words;
	uint32_t odd;
	uint64_t base;
};
/* Packs so many values of `bytes` (4 or 8, and aligned to that) in the way asked for or, if that is narrower,
 * as bits. Returns how many bytes it took, 8 a row at most, which `ret_packed` has space for. -EINVAL: no such
 * column; -ENOMEM. */
int64_t mematlas_column_pack(const void *values, uint64_t count, uint32_t bytes, uint32_t way, uint32_t first,
			     struct mematlas_packing *ret, uint8_t *ret_packed);
/* How many bytes such a column of so many rows takes packed. -EINVAL: there is none. */
int64_t mematlas_column_size(const struct mematlas_packing *packing, uint64_t rows);
enum mematlas_column_type { MEMATLAS_COLUMN_WHOLE, MEMATLAS_COLUMN_DOUBLE };
/* Unpacks a column to whole numbers of 1, 2, 4 or 8 bytes, or to doubles. With `words` a value is what they
 * have for its number, instead of the column's own. -EINVAL: it is malformed; -ERANGE: a value is too large. */
int mematlas_column_unpack(const struct mematlas_packing *packing, const uint8_t *packed, uint64_t length,
			   uint64_t rows, const uint64_t *words, uint32_t type, uint32_t bytes,
			   void *ret_column);
/* Gives the odd rows of a column, ascending, and of each the value, of a column whose others are all 0. Errors
 * as above, and -EINVAL if they are not, or the way is not bits or whole. */
int mematlas_column_odd(const struct mematlas_packing *packing, const uint8_t *packed, uint64_t length,
			uint64_t rows, uint32_t *ret_rows, uint64_t *ret_values);
/* The order in which rows of `size` ascend by their first 8 bytes (two numbers of 32 bits), equal ones as
 * they are. Returns 0, and no order, if they do already; else 1. -ENOMEM. */
int mematlas_rows_order(const uint8_t *rows, uint64_t count, uint32_t size, uint32_t *ret_order);
/* Takes rows apart, in that order where it is not NULL: all values of the first column, then all of the
 * second, and so on. `bytes` has how many a value of each has. */
void mematlas_rows_split(const uint8_t *rows, uint64_t count, const uint32_t *order, const uint8_t *bytes,
			 uint32_t columns, uint8_t *ret_columns);

/* Finds keys among others, both ascending and each once: where they are, UINT32_MAX where there is none.
 * Returns how many were found. -EINVAL: not so ascending. */
int64_t mematlas_keys_find(const int64_t *keys, uint64_t count, const int64_t *others, uint64_t length,
			   uint32_t *ret_places);
/* Adds figures up by numbers of 2 or 4 bytes, those of the rows named, or of all where `rows` is NULL. Figures
 * are whole numbers of 1, 2 or 4 bytes, or, of 8, with a sign. -EINVAL: other widths, or a number not below `room`. */
int mematlas_sums_add(const void *numbers, uint32_t number_bytes, uint64_t count, const uint32_t *rows,
			 const void *figures, uint32_t figure_bytes, uint64_t length, uint64_t capacity, int64_t *sums);
/* Lists rows by number, those of each in ascending order; `ret_starts` has room + 1 places. -EINVAL as above. */
int mematlas_rows_group(const void *numbers, uint32_t number_bytes, uint64_t count, uint64_t capacity,
			uint32_t *ret_starts, uint32_t *ret_rows);

/* A trie that grows, of labels; node 0 is the root, children are numbered in the order in which they are met. */
struct mematlas_tree;
int mematlas_tree_create(struct mematlas_tree **ret);
void mematlas_tree_destroy(struct mematlas_tree *tree);
/* The child of that label, made if there was none. -ENOMEM; -EINVAL: no such parent. */
int64_t mematlas_tree_child(struct mematlas_tree *tree, uint32_t parent, uint32_t label);
/* Adds another trie below node `under`, and tells which node each of its own has become. A node stands for
 * the labels [starts[word], starts[word + 1]), outermost first. As above; -EINVAL: it is no trie. */
int mematlas_tree_merge(struct mematlas_tree *tree, uint32_t under, const uint32_t *parents,
			const uint32_t *words, uint64_t count, const uint32_t *starts,
			const uint32_t *labels, uint32_t *ret_nodes);
/* Returns how many nodes there are; gives their parents and labels where those are not NULL. */
uint64_t mematlas_tree_read(const struct mematlas_tree *tree, uint32_t *ret_parents, uint32_t *ret_labels);
