/* Software events of perf_event_open(2): counters and rings of samples. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mematlas.h"

#define READ_LOST (1U << 4) /* PERF_FORMAT_LOST, Linux 6.0: absent from older headers */

static int open_event(struct perf_event_attr *attributes, int32_t pid, int32_t cpu)
{
	long descriptor =
		syscall(SYS_perf_event_open, attributes, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return descriptor < 0 ? -errno : (int)descriptor;
}

static struct perf_event_attr describe(uint32_t event, uint32_t flags)
{
	return (struct perf_event_attr){
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(struct perf_event_attr),
		.config = event,
		.disabled = 1,
		.exclude_kernel = !(flags & MEMATLAS_PERF_KERNEL),
		.exclude_hv = 1,
		.enable_on_exec = !!(flags & MEMATLAS_PERF_ON_EXEC),
	};
}

int mematlas_perf_count_open(uint32_t event, int32_t pid, uint32_t flags)
{
	struct perf_event_attr attributes = describe(event, flags);

	attributes.inherit = attributes.enable_on_exec;
	return open_event(&attributes, pid, -1);
}

int mematlas_perf_sample_open(const struct mematlas_perf_sampling *sampling, int32_t tid,
			      int32_t cpu)
{
	struct perf_event_attr attributes = describe(sampling->event, sampling->flags);
	uint32_t maps = !!(sampling->flags & MEMATLAS_PERF_MAPS);

	attributes.sample_period = sampling->period;
	attributes.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
				 PERF_SAMPLE_ADDR | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_IDENTIFIER;
	attributes.read_format = sampling->flags & MEMATLAS_PERF_LOST ? READ_LOST : 0;
	attributes.inherit = 1;
	attributes.watermark = 1;
	attributes.wakeup_watermark = sampling->watermark;
	attributes.sample_id_all = 1;
	attributes.exclude_callchain_kernel = 1;
	attributes.sample_max_stack = (uint16_t)sampling->stack_depth;
	attributes.mmap = maps;
	attributes.mmap2 = maps;
	attributes.mmap_data = maps;
	attributes.comm = maps;
	attributes.comm_exec = maps;
	attributes.task = maps;
	return open_event(&attributes, tid, cpu);
}

/* COMM records only, each with its time. Exec is one of the three events that need no right over the
 * kernel, so this works for every user where perf_event_open() is allowed at all. */
int mematlas_perf_exec_open(int32_t cpu)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof attributes,
		.config = PERF_COUNT_SW_DUMMY,
		.sample_type = PERF_SAMPLE_TIME,
		.sample_id_all = 1,
		.inherit = 1,
		.exclude_kernel = 1,
		.exclude_hv = 1,
		.comm = 1,
		.comm_exec = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};

	return open_event(&attributes, 0, cpu);
}
