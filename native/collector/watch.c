/* What happens to the traced processes between records: RSS, stops, ends, and what is due. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector.h"

#define ROW_GAP_S 0.01
#define ROW_MOST_S 1.0 /* between rows while nothing moves */
#define STAT_GAP_S 0.1
#define JOIN_GAP_S 0.05
#define PEAK_FACTOR 1.05
#define PEAK_STEP (256u << 10)

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

struct stat_facts {
	char state;
	double minor, major;
};

static bool read_stat(const struct process *process, struct stat_facts *facts)
{
	char text[1024];
	ssize_t length = process->stat < 0 ? -1 : pread(process->stat, text, sizeof text - 1, 0);

	if (length <= 0)
		return false;
	text[length] = 0;
	const char *after = strrchr(text, ')'); /* the name may hold anything */
	return after && sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %lf %*u %lf", &facts->state,
			       &facts->minor, &facts->major) == 3;
}

static double read_swap(const struct process *process)
{
	char text[4096];
	double swap = NAN;
	int fd = process->dir < 0 ? -1 : openat(process->dir, "status", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return NAN;
	text[length] = 0;
	const char *line = strstr(text, "\nVmSwap:");
	if (line && sscanf(line, "\nVmSwap: %lf", &swap) == 1)
		return swap * 1024;
	return NAN;
}

void process_note_moment(struct mematlas_collector *collector, struct process *process, double now)
{
	struct stat_facts facts = {.minor = NAN, .major = NAN};

	process->next_row = now + ROW_GAP_S;
	process->told_rss = process->rss;
	process->told_live = process->state.live;
	if (process->timeline_count == process->timeline_room) {
		uint32_t room = process->timeline_room ? process->timeline_room * 2 : 64;
		struct mematlas_moment *rows = realloc(process->timeline, room * sizeof *rows);
		if (!rows)
			return;
		process->timeline = rows;
		process->timeline_room = room;
	}
	read_stat(process, &facts);
	process->timeline[process->timeline_count++] = (struct mematlas_moment){
		.time_s = now - collector->started,
		.rss_bytes = (double)process->rss,
		.live_bytes = process->state.live,
		.swap_bytes = read_swap(process),
		.minor_faults = facts.minor,
		.major_faults = facts.major,
	};
}

/* By 64 KiB and more, and by more than the line of a chart is wide. */
static bool moved(double from, double to)
{
	double step = from / 256 > 65536 ? from / 256 : 65536;

	return fabs(to - from) >= step;
}

static bool row_is_due(const struct process *process, double now)
{
	if (process->told_exiting && !process->noted_exit)
		return true; /* charts end where the program does */
	if (now < process->next_row)
		return false;
	return moved((double)process->told_rss, (double)process->rss) ||
	       moved(process->told_live, process->state.live) ||
	       now >= process->next_row + ROW_MOST_S;
}

static void check_stop(struct mematlas_collector *collector, struct process *process, double now)
{
	struct stat_facts facts;

	if (now < process->next_stat || !read_stat(process, &facts))
		return;
	process->next_stat = now + STAT_GAP_S;
	bool stopped = facts.state == 'T' || facts.state == 't';
	if (!stopped)
		process->told_stopped = false;
	else if (!process->told_stopped)
		process->told_stopped =
			event_push(collector, MEMATLAS_EVENT_STOPPED, process->index);
}

static void check_due(struct mematlas_collector *collector, struct process *process, double now)
{
	int due = MEMATLAS_EVENT_NONE;
	double interval = collector->settings.interval_s;

	if (process->next_interval == 0)
		process->next_interval = now + interval;
	if (now < process->next_join)
		return;
	if ((double)process->rss > (double)process->peak_rss * PEAK_FACTOR + PEAK_STEP)
		due = MEMATLAS_EVENT_PEAK;
	else if (interval > 0 && now >= process->next_interval)
		due = MEMATLAS_EVENT_INTERVAL;
	if (due == MEMATLAS_EVENT_NONE || !event_push(collector, due, process->index))
		return;
	if (due == MEMATLAS_EVENT_PEAK)
		process->peak_rss = process->rss;
	process->next_interval = now + interval;
	process->next_join = now + JOIN_GAP_S;
}

void process_observe(struct mematlas_collector *collector, struct process *process, double now)
{
	if (process->exiting && !process->told_exiting)
		process->told_exiting =
			event_push(collector, MEMATLAS_EVENT_EXITING, process->index);
	if (process->dead && process->ending == MEMATLAS_RUNNING && process_is_drained(process))
		process_end(collector, process, MEMATLAS_GONE);
	if (process->ending != MEMATLAS_RUNNING) {
		if (!process->told_ended && process_is_drained(process))
			process->told_ended =
				event_push(collector, MEMATLAS_EVENT_ENDED, process->index);
		return;
	}
	uint64_t rss = read_rss(process);
	if (rss == 0)
		return; /* a zombie, or no right to know */
	process->rss = rss;
	touches_keep_events(process);
	if (row_is_due(process, now)) {
		process->noted_exit = process->told_exiting;
		process_note_moment(collector, process, now);
	}
	check_stop(collector, process, now);
	if (!process->told_exiting)
		check_due(collector, process, now);
}
