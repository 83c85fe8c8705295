/* The collector's own structure: sessions, processes, rings. One thread uses it. */
#ifndef MEMATLAS_COLLECTOR_COLLECTOR_H
#define MEMATLAS_COLLECTOR_COLLECTOR_H

#include "state.h"

struct vmas;

/* A frame of a ring's last stack, from the root, and the node of the way there. */
struct step {
	uint64_t word;
	uint32_t node;
};

/* The consumer's side of one ring. */
struct ring {
	uint64_t *data;
	uint64_t tail;
	uint64_t stop; /* head, as read at the start of the round */
	uint64_t time; /* of the record at `tail` */
	uint32_t (*stacks)[KINDS]; /* by stack ID: node, then sum + 1 by kind */
	uint32_t stacks_room;
	uint32_t *codes; /* by code ID: the process's */
	uint32_t codes_room;
	/* Of the last stack, from the root: the next one mostly begins as it did. */
	uint64_t *natives, *pythons;
	uint32_t native_count, native_room, python_count, python_room;
	struct step *path;
	uint32_t path_count, path_room;
	uint32_t unmapped_kind; /* of what the last UNMAP removed */
	bool broken;
	struct block freed; /* by the last FREE, then */
	uint64_t freed_time;
};

/* One (stack, owner) of page faults. */
struct touches {
	struct mematlas_touch *items;
	uint32_t count, room;
	uint32_t *table; /* index + 1; 0: empty */
	uint32_t mask;
	struct mematlas_part *places;
	uint32_t place_count, place_room;
	uint64_t samples;
};

struct process {
	struct state state;
	struct touches touches;
	struct vmas *vmas; /* as last read for the sake of faults; NULL: never */
	double next_vmas;
	int fault_events[2]; /* kept open here, whatever the process closes */
	struct trace_process *shared;
	size_t mapped;
	uint32_t most_rings;
	struct ring *rings;
	uint32_t ring_count;
	int index, parent;
	int pidfd, statm, stat;
	int dir; /* /proc/PID, opened while it was this process */
	char name[32]; /* of its file */
	int32_t ending, status;
	bool active;    /* its state is set up: its rings may be read */
	bool inherited;
	bool exiting, told_exiting, noted_exit, dead, told_ended, told_stopped;
	uint64_t activated_in; /* round */
	double start_s, end_s;
	uint64_t events, unknown_frees, broken_rings;
	double told_live;
	uint64_t rss, told_rss, peak_rss; /* peak_rss: at the last snapshot for a peak */
	double next_join, next_interval, next_row, next_stat;
	struct mematlas_moment *timeline;
	uint32_t timeline_count, timeline_room;
	uint64_t *seen_vmas; /* starts of mappings in which blocks were found by earlier joins */
	size_t seen_count, seen_room;
};

/* A process's state at a fork, until the child comes for it. */
struct clone {
	struct state state;
	int pid;
	uint64_t serial;
	double made;
};

#define MAX_CLONES 64u

struct mematlas_collector {
	char directory[512];
	int dirfd, inotify, epoll;
	int watched; /* pidfd */
	bool told_watched;
	struct mematlas_trace_settings settings;
	struct trace_control *control;
	double started; /* CLOCK_MONOTONIC */
	struct process **processes;
	uint32_t count, room;
	struct clone clones[MAX_CLONES];
	uint32_t clone_count;
	bool new_process;
	double next_scan;
	uint64_t round;
	bool scan_now;
	int error;
	uint32_t queued, queue_at; /* events not yet handed out */
	struct mematlas_event queue[64];
	struct mematlas_held *rows;
	struct mematlas_age *ages;
	struct mematlas_part *parts;
	uint32_t row_count, part_count, part_room;
};

static inline void collector_heartbeat(struct mematlas_collector *collector)
{
	__atomic_add_fetch(&collector->control->heartbeat, 1, __ATOMIC_RELAXED);
}

/* clock.c: times are the tracer's clock, seconds are those of CLOCK_MONOTONIC. */
double clock_monotonic_s(void);
uint64_t clock_cycles(void);    /* the raw cycle counter */
bool clock_is_steady(void);     /* the cycle counter has one rate, on all CPUs alike */
uint64_t clock_read(const struct mematlas_collector *collector);
double clock_tick_s(const struct mematlas_collector *collector); /* 0: the clock has no rate */
double clock_since_start_s(const struct mematlas_collector *collector, uint64_t clock);

/* events.c */
bool event_push(struct mematlas_collector *collector, int type, int process); /* false: full */
bool event_pop(struct mematlas_collector *collector, struct mematlas_event *event);

/* processes.c: NULL where there is no such index, or, active, where it is not read yet */
struct process *process_at(const struct mematlas_collector *collector, int index);
struct process *process_active_at(const struct mematlas_collector *collector, int index);
bool processes_add(struct mematlas_collector *collector, struct process *process);
void processes_sort(struct mematlas_collector *collector,
		    uint32_t first); /* by start, from `first` on */

/* activate.c: after a drain, when forks are known */
void collector_activate(struct mematlas_collector *collector);

/* process_end.c */
void process_free(struct process *process);
void process_end(struct mematlas_collector *collector, struct process *process, int ending);
void process_ask_status(struct process *process);
void collector_ask_statuses(struct mematlas_collector *collector);

/* files.c: process files and their discovery */
int collector_scan(struct mematlas_collector *collector);

/* records.c: one record into the state; returns its length in words, 0 if it is malformed */
uint32_t record_take(struct mematlas_collector *collector, struct process *process,
		     struct ring *ring, uint32_t mask, uint32_t available);
uint32_t record_words(const struct ring *ring, uint32_t mask, uint32_t available);

/* touches.c */
bool touches_take(struct mematlas_collector *collector, struct process *process,
		  const struct trace_ring *ring, uint64_t address, uint32_t node, uint32_t weight,
		  unsigned flags); /* false: out of memory */
void touches_free(struct process *process);
void touches_keep_events(struct process *process);

/* drain.c */
double collector_drain(struct mematlas_collector *collector,
		       bool everything); /* fullest ring, 0-1 */
bool process_is_drained(struct process *process);

/* fork.c */
void clone_make(struct mematlas_collector *collector, const struct process *process, uint64_t time,
		uint64_t serial);
void clone_drop(struct mematlas_collector *collector, int pid, uint64_t serial);
bool clone_claim(struct mematlas_collector *collector, int pid, uint64_t serial,
		 struct state *state);
void clones_expire(struct mematlas_collector *collector, double now);

/* watch.c: rss, stops, what is due */
void process_observe(struct mematlas_collector *collector, struct process *process, double now);
void process_note_moment(struct mematlas_collector *collector, struct process *process, double now);

#endif
