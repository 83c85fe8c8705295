/* The reader of an array that is the fastest on this machine, for this array's length and pages. */
#include "choice.h"
#include "mematlas.h"
#include "stream.h"

#define PART (1ul << 20) /* doubles of a trial: more than a cache of one CPU */
#define ATTEMPTS 64u /* parts that fault do not count */
#define KEY_OF_READ 16u /* no method of transposes */

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

const struct stream_reader *stream_reader_for(const struct stream_loops *loops, const double *a,
					      uint64_t count)
{
	const struct stream_reader *readers[CHOICE_MOST];
	const struct stream_loops *widths[] = {loops ? loops : stream_loops_best(),
					       loops ? NULL : stream_loops_narrower()};
	unsigned found = 0;

	for (unsigned width = 0; width < 2 && widths[width]; width++)
		for (unsigned i = 0; i < STREAM_READERS; i++)
			readers[found++] = &widths[width]->read[i];
	struct choice_key key = {.rows = count,
				 .from_row = (uintptr_t)a,
				 .to_row = loops ? (uintptr_t)loops : 0,
				 .method = KEY_OF_READ,
				 .allowed = (1u << found) - 1};
	struct choice *choice = choice_for(&key);
	settle(choice, readers, a, count);
	used = choice->settled ? readers[choice->best]->name : NULL;
	return readers[choice->best];
}

const char *mematlas_stream_reader(void)
{
	return used;
}
