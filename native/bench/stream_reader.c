/* The reader of an array that is the fastest on this machine, for this array's length and pages. */
#include <string.h>

#include "choice.h"
#include "mematlas.h"
#include "page_kind.h"
#include "stream.h"

#define PART (1ul << 20) /* doubles of a trial: more than a cache of one CPU */
#define ATTEMPTS 128u /* parts that fault do not count */

static __thread const char *used;

static void settle(struct choice *choice, const struct stream_reader *const *readers,
		   const double *a, uint64_t count)
{
	uint64_t part = count < PART ? count : PART, at = 0;
	volatile double sum;

	for (unsigned i = 0; i < ATTEMPTS && !choice->settled; i++) {
		struct choice_trial trial = choice_begin(choice);
		sum = readers[trial.kernel]->read(a + at, part);
		choice_end(choice, &trial, part);
		/* The next part is not in a cache yet, as long as the array is larger than the caches. */
		at = at + 2 * part <= count ? at + part : 0;
	}
	(void)sum;
}

#define VECTORS 5

/* Loops of one width by name are work of their own. */
static const char *const vector_names[VECTORS] = {"AVX-512", "AVX2", "SSE2", "NEON", "plain"};

static unsigned readers_of(int work, const struct stream_reader *readers[CHOICE_MOST])
{
	const struct stream_loops *widths[2] = {NULL, NULL};
	int named = work - MEMATLAS_WORK_READ - 1;
	unsigned found = 0;

	if (work == MEMATLAS_WORK_READ) {
		widths[0] = stream_loops_best();
		widths[1] = stream_loops_narrower();
	} else if (named >= 0 && named < VECTORS) {
		widths[0] = stream_loops_named(vector_names[named]);
	}
	for (unsigned width = 0; width < 2 && widths[width]; width++)
		for (unsigned i = 0; i < STREAM_READERS; i++)
			readers[found++] = &widths[width]->read[i];
	return found;
}

static int work_of(const struct stream_loops *loops)
{
	int named = 0;

	if (!loops)
		return MEMATLAS_WORK_READ;
	while (named < VECTORS - 1 && strcmp(vector_names[named], loops->name) != 0)
		named++;
	return MEMATLAS_WORK_READ + 1 + named;
}

const char *stream_reader_name(int work, unsigned kernel)
{
	const struct stream_reader *readers[CHOICE_MOST];

	return kernel < readers_of(work, readers) ? readers[kernel]->name : NULL;
}

const struct stream_reader *stream_reader_for(const struct stream_loops *loops, const double *a,
					      uint64_t count)
{
	const struct stream_reader *readers[CHOICE_MOST];
	int work = work_of(loops);
	unsigned found = readers_of(work, readers);
	struct choice_key key = {
		.work = (uint16_t)work,
		.allowed = (uint16_t)((1u << found) - 1),
		.rows = choice_bits(count),
		.from_pages = (uint8_t)page_kind_of(a, count * sizeof(*a)),
	};
	struct choice *choice = choice_for(&key);
	settle(choice, readers, a, count);
	used = choice->settled ? readers[choice->best]->name : NULL;
	return readers[choice->best];
}

const char *mematlas_stream_reader(void)
{
	return used;
}
