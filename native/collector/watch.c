/* Observes traced processes from outside: RSS, stops, ends, and which snapshots are due. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "collector.h"

#define SAMPLE_GAP_S 0.01
#define SAMPLE_MAX_GAP_S 1.0 /* while nothing changes */
#define STAT_GAP_S 0.1
#define JOIN_GAP_S 0.05
#define GROWING_SHARE 128 /* between two rounds; a look is worth its cost at four times as much */
#define GROWING_BYTES (128u << 10)

static uint64_t read_rss(const struct process *process)
{
	char text[128];
	unsigned long long pages = 0;
	ssize_t length = process->statm < 0 ? -1 : pread(process->statm, text, sizeof text - 1, 0);

	if (length <= 0)
		return 0;
	text[length] = 0;
	sscanf(text, "%*s %llu", &pages);
	return pages * page_bytes();
}

struct proc_stat {
	char state;
	double minor, major;
};

static bool read_stat(const struct process *process, struct proc_stat *stat)
{
	char text[1024];
	ssize_t length = process->stat < 0 ? -1 : pread(process->stat, text, sizeof text - 1, 0);

	if (length <= 0)
		return false;
	text[length] = 0;
	const char *after = strrchr(text, ')'); /* the name may contain anything, even ')' */
	return after && sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %lf %*u %lf", &stat->state,
			       &stat->minor, &stat->major) == 3;
}

/* NAN: there is no such line. */
static double number_of(const char *text, const char *name)
{
	const char *line = strstr(text, name);
	double value;

	return line && sscanf(line + strlen(name), " %lf", &value) == 1 ? value : NAN;
}

static double kilobytes_of(const char *text, const char *name)
{
	return number_of(text, name) * 1024;
}

double process_read_status_file(struct process *process)
{
	char text[4096];
	CLEANUP_CLOSE int fd =
		process->dir < 0 ? -1 : openat(process->dir, "status", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (length <= 0)
		return NAN;
	text[length] = 0;
	double high = kilobytes_of(text, "\nVmHWM:");
	process->vm_hwm = high > 0 ? (uint64_t)high : 0;
	if (high > (double)process->high_rss)
		process->high_rss = (uint64_t)high;
	double tables = kilobytes_of(text, "\nVmPTE:");
	process->page_tables = tables > 0 ? (uint64_t)tables : 0;
	double threads = number_of(text, "\nThreads:");
	process->threads = threads > 0 ? (uint64_t)threads : 0;
	return kilobytes_of(text, "\nVmSwap:");
}

static void add_sample(struct mematlas_collector *collector, struct process *process, double now)
{
	struct proc_stat stat = {.minor = NAN, .major = NAN};

	process->next_sample = now + SAMPLE_GAP_S;
	process->sampled_rss = process->rss;
	process->sampled_live = process->state.live;
	if (!ARRAY_RESERVE(process->timeline, process->timeline_count, process->timeline_capacity,
			   64))
		return;
	read_stat(process, &stat);
	process->timeline[process->timeline_count++] = (struct mematlas_sample){
		.time_s = now - collector->started,
		.rss_bytes = (double)process->rss,
		.live_bytes = process->state.live,
		.swap_bytes = process_read_status_file(process),
		.minor_faults = stat.minor,
		.major_faults = stat.major,
	};
}

/* Changed by at least 64 KiB and by more than 1/256, which is one pixel of a chart. */
static bool has_changed(double from, double to)
{
	double step = from / 256 > 65536 ? from / 256 : 65536;

	return fabs(to - from) >= step;
}

static bool sample_is_due(const struct process *process, double now)
{
	if (process->emitted_exiting && !process->sampled_exit)
		return true; /* the last point of a chart is the program's end */
	if (now < process->next_sample)
		return false;
	return has_changed((double)process->sampled_rss, (double)process->rss) ||
	       has_changed(process->sampled_live, process->state.live) ||
	       now >= process->next_sample + SAMPLE_MAX_GAP_S;
}

static void check_stop(struct mematlas_collector *collector, struct process *process, double now)
{
	struct proc_stat stat;

	if (now < process->next_stat || !read_stat(process, &stat))
		return;
	process->next_stat = now + STAT_GAP_S;
	bool stopped = stat.state == 'T' || stat.state == 't';
	if (!stopped)
		process->emitted_stopped = false;
	else if (!process->emitted_stopped)
		process->emitted_stopped =
			event_push(collector, MEMATLAS_EVENT_STOPPED, process->index);
}

/* A process that waits goes on at once, unless its RSS is worth a look. */
static bool is_wanted(const struct mematlas_collector *collector, struct process *process)
{
	uint32_t asked = look_asked(process);

	if (asked == process->answered)
		return false;
	if (look_is_worth(process) || looks_are_worth(collector))
		return true;
	look_answer(process, asked);
	return false;
}

static int due_event(const struct mematlas_collector *collector, struct process *process,
		     double now, double interval)
{
	if (is_wanted(collector, process))
		return MEMATLAS_EVENT_PEAK;
	if (now >= process->next_peak && look_is_worth(process))
		return MEMATLAS_EVENT_PEAK;
	if (interval > 0 && now >= process->next_interval && now >= process->next_join)
		return MEMATLAS_EVENT_INTERVAL;
	return MEMATLAS_EVENT_NONE;
}

/* The snapshot is taken before the next round, so the event is not due twice. */
static void check_due(struct mematlas_collector *collector, struct process *process, double now)
{
	double interval = collector->settings.interval_s;

	if (process->next_interval == 0)
		process->next_interval = now + interval;
	int due = due_event(collector, process, now, interval);
	if (due == MEMATLAS_EVENT_NONE || !event_push(collector, due, process->index))
		return;
	process->due_in = collector->round;
	process->next_interval = now + interval;
	process->next_join = now + JOIN_GAP_S;
}

static void check_marks(struct mematlas_collector *collector, struct process *process)
{
	if (process->mark_count && !process->emitted_mark)
		process->emitted_mark = event_push(collector, MEMATLAS_EVENT_MARK, process->index);
}

/* The next image may not be active yet, and tells that this one ended by an exec. */
static bool may_end(const struct mematlas_collector *collector, const struct process *process)
{
	return process->ending == MEMATLAS_RUNNING && !collector->new_process;
}

static void check_end(struct mematlas_collector *collector, struct process *process)
{
	if (process->exiting && !process->emitted_exiting)
		process->emitted_exiting =
			event_push(collector, MEMATLAS_EVENT_EXITING, process->index);
	if (process->dead && may_end(collector, process) && process_is_drained(process))
		process_end(collector, process,
			    process->replaced ? MEMATLAS_EXECED : MEMATLAS_GONE);
	if (process->ending != MEMATLAS_RUNNING && !process->emitted_ended &&
	    process_is_drained(process))
		process->emitted_ended =
			event_push(collector, MEMATLAS_EVENT_ENDED, process->index);
}

void process_observe(struct mematlas_collector *collector, struct process *process, double now)
{
	fault_events_end(process);
	check_marks(collector, process); /* before its end */
	check_end(collector, process);
	if (process->ending != MEMATLAS_RUNNING)
		return;
	uint64_t rss = read_rss(process);
	if (rss == 0) { /* a zombie, or not permitted */
		look_refuse(process);
		return;
	}
	if (rss > process->rss + process->rss / GROWING_SHARE + GROWING_BYTES)
		collector->growing = true;
	collector->sum_rss += rss - process->rss;
	process->rss = rss;
	if (sample_is_due(process, now)) {
		process->sampled_exit = process->emitted_exiting;
		add_sample(collector, process, now);
	}
	check_stop(collector, process, now);
	if (!process->emitted_exiting)
		check_due(collector, process, now);
	else if (look_asked(process) != process->answered)
		look_answer(process, look_asked(process));
}
