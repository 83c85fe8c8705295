/* smaps is no snapshot: pages that move while it is read count twice, or not at all. Then the sum is more than the
 * process ever had, or less than it had before and after. */
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../proc/page_size.h"
#include "torn.h"

#define PART 32 /* of the RSS, that a program may change meanwhile */
#define LEAST (256u << 10)
#define CPU_BATCH 32 /* pages that each CPU may count before it adds them, at least */
#define THREAD_BATCH 64 /* likewise each thread, before Linux 6.2 */

static bool counts_by_thread(void)
{
	struct utsname names;
	unsigned major, minor;

	return uname(&names) == 0 && sscanf(names.release, "%u.%u", &major, &minor) == 2 &&
	       (major < 6 || (major == 6 && minor < 2));
}

struct lag lag_read(void)
{
	if (counts_by_thread())
		return (struct lag){.bytes_of_thread = THREAD_BATCH * page_bytes()};
	uint64_t cpus = (uint64_t)sysconf(_SC_NPROCESSORS_CONF);
	uint64_t batch = 2 * cpus > CPU_BATCH ? 2 * cpus : CPU_BATCH;
	return (struct lag){.bytes = cpus * batch * page_bytes()};
}

uint64_t counters_doubt(const struct counters *counters, uint64_t rss)
{
	return rss / PART + LEAST + counters->lag;
}

bool sum_is_torn(const struct counters *counters, uint64_t rss, int64_t off)
{
	uint64_t least = counters->before < counters->after ? counters->before : counters->after,
		 most = counters->highest;
	int64_t sum = (int64_t)rss - off;

	if (!least)
		return false;
	return (most && sum > (int64_t)(most + counters_doubt(counters, most))) ||
	       sum + (int64_t)counters_doubt(counters, least) < (int64_t)least;
}

bool torn_add(struct torn *torn, const struct counters *counters, uint64_t rss)
{
	int64_t off = (int64_t)(rss - counters->after);

	if (off < torn->least)
		torn->least = off;
	if (off > torn->most)
		torn->most = off;
	return torn->most - torn->least <= (int64_t)counters_doubt(counters, counters->after);
}
