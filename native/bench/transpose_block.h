/* Transposes of blocks of doubles for one width of vectors. transpose.c includes this file once per
 * width, so it has no include guard, with these macros:
 *
 *   NAME(x)                         the identifier x for this width
 *   TARGET                          attributes of functions
 *   TURN(from, step, to, to_step, put)
 *                                   8 x 8 doubles, each column of the source stored as one line by `put`
 *   PUT(p, v), PUT_ALIGNED(p, v), BYPASS(p, v)
 *   COPY_LINE(to, from)             64 bytes from a buffer, by a non-temporal store
 */

/* Columns outside, so that a row of the target gets its lines one after the other. */
TARGET static void NAME(direct)(const struct matrix *m, bool bypass)
{
	for (uint64_t c = 0; c < m->columns; c += 8)
		for (uint64_t r = 0; r < m->rows; r += 8) {
			const char *from = m->from + r * m->from_row + c * 8;
			char *to = m->to + c * m->to_row + r * 8;
			if (bypass)
				TURN(from, m->from_row, to, m->to_row, BYPASS);
			else
				TURN(from, m->from_row, to, m->to_row, PUT);
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
		const char *ahead = next + r * m->from_row;
		if (kernel->ahead == NEXT_ROWS)
			ahead = r + 8 < m->rows ? row + 8 * m->from_row : next;
		for (uint64_t c = 0; c < m->columns; c += 8) {
			for (unsigned i = 0; i < 8; i++)
				if (kernel->ahead == NEXT_ROWS)
					_mm_prefetch(ahead + i * m->from_row + c * 8, _MM_HINT_T0);
				else
					_mm_prefetch(ahead + i * m->from_row + c * 8, _MM_HINT_T1);
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

#undef NAME
#undef TARGET
#undef TURN
#undef PUT
#undef PUT_ALIGNED
#undef BYPASS
#undef COPY_LINE
