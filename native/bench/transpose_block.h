/* Transposes of blocks of doubles for one width of vectors. transpose_block.c includes this file once per
 * width, so it has no include guard, with these macros:
 *
 *   NAME(x)                         the identifier x for this width
 *   NAME_TEXT                       the public name
 *   TARGET                          attributes of functions
 *   TURN(from, step, to, to_step, put)
 *                                   8 x 8 doubles, each column of the source stored as one line by `put`
 *   PUT(p, v), PUT_ALIGNED(p, v), BYPASS(p, v)
 *   COPY_LINE(to, from)             64 bytes from a buffer, by a non-temporal store
 */

/* In strips, columns outside, so that a row of the target gets the lines of a strip one after the other, and
 * the same rows again by the next strip, while their pages are still open in the memory. */
TARGET static void NAME(direct)(const struct matrix *m, const struct kernel *kernel,
				const char *next)
{
	for (uint64_t top = 0; top < m->rows; top += kernel->strip) {
		uint64_t end = m->rows - top < kernel->strip ? m->rows : top + kernel->strip;
		for (uint64_t c = 0; c < m->columns; c += 8)
			for (uint64_t r = top; r < end; r += 8) {
				uint64_t at = r * m->from_row + c * 8;
				const char *from = m->from + at;
				char *to = m->to + c * m->to_row + r * 8;
				if (kernel->ahead == NEXT_TILE)
					prefetch_rows((uintptr_t)next + at, m->from_row, TO_L2);
				if (kernel->bypass)
					TURN(from, m->from_row, to, m->to_row, BYPASS);
				else
					TURN(from, m->from_row, to, m->to_row, PUT);
			}
	}
}

/* Through a buffer, so that the target's lines are written in order, whichever cache sets its rows
 * share. Rows a power of two apart share few sets, hence a prefetch of no more than the next part. */
TARGET static void NAME(buffered)(const struct matrix *m, const struct kernel *kernel,
				  const char *next)
{
	_Alignas(64) double tile[MOST_IN_TILE];
	const uint64_t pitch = m->rows * 8;

	for (uint64_t r = 0; r < m->rows; r += 8) {
		const char *row = m->from + r * m->from_row;
		uintptr_t ahead = (uintptr_t)next + r * m->from_row;
		if (kernel->ahead == NEXT_ROWS && r + 8 < m->rows)
			ahead = (uintptr_t)row + 8 * m->from_row;
		for (uint64_t c = 0; c < m->columns; c += 8) {
			if (kernel->ahead == NEXT_ROWS)
				prefetch_rows(ahead + c * 8, m->from_row, TO_L1);
			else
				prefetch_rows(ahead + c * 8, m->from_row, TO_L2);
			TURN(row + c * 8, m->from_row, (char *)&tile[c * m->rows + r], pitch,
			     PUT_ALIGNED);
		}
	}
	for (uint64_t c = 0; c < m->columns; c++)
		for (uint64_t r = 0; r < m->rows; r += 8) {
			char *to = m->to + c * m->to_row + r * 8;
			if (kernel->bypass)
				COPY_LINE(to, &tile[c * m->rows + r]);
			else
				memcpy(to, &tile[c * m->rows + r], 64);
		}
}

static const struct block_vectors NAME(blocks) = {NAME_TEXT, NAME(direct), NAME(buffered)};

#undef NAME
#undef NAME_TEXT
#undef TARGET
#undef TURN
#undef PUT
#undef PUT_ALIGNED
#undef BYPASS
#undef COPY_LINE
