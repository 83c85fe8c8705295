/* The loops for one width of vectors. stream_loops.c includes this file once per width, so it has
 * no include guard, with these macros:
 *
 *   NAME(x)         the identifier x for this width
 *   NAME_TEXT       the public name
 *   TARGET          attributes of functions
 *   VECTOR, WIDTH   the type, and the doubles in a vector
 *   LOAD(p), STORE(p, v), STORE_ALIGNED(p, v), BYPASS(p, v)
 *   SPREAD(x), SUM(a, b), PRODUCT(a, b), FENCE()
 */

/* Doubles before the first aligned vector, for BYPASS and STORE_ALIGNED. */
TARGET static uint64_t NAME(head)(const double *at, uint64_t count)
{
	uint64_t off = (uintptr_t)at / sizeof(double) % WIDTH;
	uint64_t head = off ? WIDTH - off : 0;

	return head < count ? head : count;
}

/* `streams` parts of the array at once. How many keep enough cache lines in flight depends on the CPU, as
 * does whether a prefetch `ahead` bytes helps. */
TARGET static inline __attribute__((always_inline)) double NAME(read_streams)(
	const double *a, uint64_t count, const unsigned streams, const unsigned ahead)
{
	const unsigned vectors = 8 / streams; /* of each stream, with a sum for each */
	const uint64_t step = vectors * WIDTH;
	const uint64_t length = count / streams / step * step;
	VECTOR sum[8];
	double lanes[WIDTH], total = 0;

	for (unsigned i = 0; i < 8; i++)
		sum[i] = SPREAD(0.0);
	for (uint64_t i = 0; i < length; i += step)
		for (unsigned stream = 0; stream < streams; stream++)
			for (unsigned v = 0; v < vectors; v++) {
				const double *at = a + stream * length + i + v * WIDTH;
				VECTOR *into = &sum[stream * vectors + v];

				if (ahead)
					__builtin_prefetch((const void *)((uintptr_t)at + ahead));
				*into = SUM(*into, LOAD(at));
			}
	for (unsigned i = 1; i < 8; i++)
		sum[0] = SUM(sum[0], sum[i]);
	STORE(lanes, sum[0]);
	for (unsigned lane = 0; lane < WIDTH; lane++)
		total += lanes[lane];
	for (uint64_t i = streams * length; i < count; i++)
		total += a[i];
	return total;
}

TARGET static double NAME(read_1)(const double *a, uint64_t count)
{
	return NAME(read_streams)(a, count, 1, 0);
}

TARGET static double NAME(read_2)(const double *a, uint64_t count)
{
	return NAME(read_streams)(a, count, 2, 0);
}

TARGET static double NAME(read_4)(const double *a, uint64_t count)
{
	return NAME(read_streams)(a, count, 4, 0);
}

TARGET static double NAME(read_ahead)(const double *a, uint64_t count)
{
	return NAME(read_streams)(a, count, 1, 4096);
}

#define LOOP(name, put, end, vector, single)                                                       \
	TARGET static void NAME(name)(double *a, const double *b, const double *c, uint64_t count) \
	{                                                                                          \
		uint64_t i = 0, head = NAME(head)(a, count);                                       \
		VECTOR factor = SPREAD(STREAM_FACTOR);                                             \
                                                                                                   \
		(void)b, (void)c, (void)factor;                                                    \
		for (; i < head; i++)                                                              \
			a[i] = single;                                                             \
		for (; i + 4 * WIDTH <= count; i += 4 * WIDTH)                                     \
			for (unsigned part = 0; part < 4; part++) {                                \
				uint64_t at = i + part * WIDTH;                                    \
                                                                                                   \
				put(a + at, vector);                                               \
			}                                                                          \
		for (; i < count; i++)                                                             \
			a[i] = single;                                                             \
		end;                                                                               \
	}

#define LOOPS(kind, put, end)                                                                      \
	LOOP(write_##kind, put, end, factor, STREAM_FACTOR)                                        \
	LOOP(copy_##kind, put, end, LOAD(b + at), b[i])                                            \
	LOOP(scale_##kind, put, end, PRODUCT(factor, LOAD(b + at)), STREAM_FACTOR *b[i])           \
	LOOP(add_##kind, put, end, SUM(LOAD(b + at), LOAD(c + at)), b[i] + c[i])                   \
	LOOP(triad_##kind, put, end, SUM(LOAD(b + at), PRODUCT(factor, LOAD(c + at))),             \
	     b[i] + STREAM_FACTOR * c[i])

LOOPS(store, STORE_ALIGNED, (void)0)
LOOPS(bypass, BYPASS, FENCE())

#define TABLE(kind)                                                                                \
	{0,                                                                                        \
	 NAME(write_##kind),                                                                       \
	 NAME(copy_##kind),                                                                        \
	 NAME(scale_##kind),                                                                       \
	 NAME(add_##kind),                                                                         \
	 NAME(triad_##kind)}

static const struct stream_loops NAME(loops) = {
	.name = NAME_TEXT,
	.read = {{NAME_TEXT " in one stream", NAME(read_1)},
		 {NAME_TEXT " in two streams", NAME(read_2)},
		 {NAME_TEXT " in four streams", NAME(read_4)},
		 {NAME_TEXT " in one stream, prefetched", NAME(read_ahead)}},
	.store = TABLE(store),
	.bypass = TABLE(bypass),
};

#undef LOOP
#undef LOOPS
#undef TABLE
#undef NAME
#undef NAME_TEXT
#undef TARGET
#undef VECTOR
#undef WIDTH
#undef LOAD
#undef STORE
#undef STORE_ALIGNED
#undef BYPASS
#undef SPREAD
#undef SUM
#undef PRODUCT
#undef FENCE
