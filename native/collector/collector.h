/* The collector's own structures: the session, its processes and their rings. One thread uses
 * them. */
#ifndef MEMATLAS_COLLECTOR_COLLECTOR_H
#define MEMATLAS_COLLECTOR_COLLECTOR_H

#include "../monotonic.h"
#include "bell.h"
#include "broker.h"
#include "mematlas.h"
#include "state.h"

struct vmas;

#define NO_LOOK (1ull << 62)

#define MOST_MARKS 1024u

/* A mark, and the ring whose thread waits for its account. */
struct mark {
	uint64_t time, serial;
	uint32_t ring;
	char name[TRACE_MARK_BYTES];
};

/* A frame of a ring's last stack, counted from the root, and its node. */
struct step {
	uint64_t word;
	uint32_t node, hash;
};

/* Code ID of the process; void unless `lap` is the ring's `code_lap`. */
struct code_reference {
	uint32_t code, lap;
};

#define KEYS_AHEAD 8u

/* The consumer's side of one ring.
 * tail <= stop <= head; stop - tail <= words of the ring
 * native_count <= native_capacity, and so on; path_count <= native_count + python_count + 1 */
struct ring {
	uint64_t *data;
	uint64_t tail;
	uint64_t stop; /* head, as read at the start of the round */
	uint64_t time; /* of the record at `tail` */
	uint64_t ahead; /* a record not prefetched yet; before `tail` after a pause */
	uint64_t keys_ahead
		[KEYS_AHEAD]; /* blocks whose slots were prefetched, but not their cells */
	uint32_t key_ahead; /* counts them */
	uint32_t (*stacks)
		[RECORD_KINDS]; /* by stack ID: node, then index of the statistics + 1 by kind */
	uint32_t stacks_capacity;
	struct code_reference *codes; /* by code ID of the ring */
	uint32_t codes_capacity, last_code, code_lap;
	/* The last stack, from the root. The next one mostly begins alike. Natives are words of the
	 * trie. */
	uint64_t *natives, *pythons;
	uint32_t native_count, native_capacity, python_count, python_capacity;
	struct step *path;
	uint32_t path_count, path_capacity;
	struct loaded_modules loaded;
	struct unmapped unmapped; /* by the last UNMAP */
	bool broken;
	struct block freed; /* by the last FREE; key 0: none */
	uint64_t freed_time;
	uint32_t fault_site; /* index + 1 of that of the last sampled fault; 0: none */
	uint64_t fault_page; /* and the size of its page */
};

/* Sampled page faults, by stack and owner of the memory. Each (stack, owner, kind) occurs once. */
struct fault_sites {
	struct mematlas_fault_site *items;
	uint32_t count, capacity;
	uint32_t *table; /* index + 1; 0: empty */
	uint32_t mask;
	struct mematlas_part *parts; /* owners that are no allocation */
	uint32_t part_count, part_capacity;
	uint64_t samples;
};

#define FAULT_EVENTS 3 /* minor, major, and more of the huge ones */

/* Frees of pointers that were no live blocks, and the last frees of blocks, in which those that were freed
 * twice are found. Exact mode only.
 *
 * count <= capacity <= MOST_BAD_FREES; freed_count counts all frees; `freed` has FREED_LOG entries or is NULL */
#define MOST_BAD_FREES 1000u
#define FREED_LOG 16384u
#define NO_STATS UINT32_MAX /* of a block in the log: its stack was forgotten */
#define MOST_SEARCHED (1u << 26) /* slots and blocks, about a second */
struct freed_block {
	struct block block;
	uint64_t time;
	uint32_t record; /* TRACE_FREED_AT of its FREE */
};
struct bad_frees {
	struct mematlas_bad_free *items; /* times are clock readings, as doubles */
	uint32_t count, capacity;
	struct freed_block *freed;
	uint64_t freed_count;
	uint64_t searched; /* slots of blocks, for frees inside a block */
};

/* emitted_*: the event was pushed, so it is not pushed again.
 * emitted_ended implies ending != MEMATLAS_RUNNING, and the rings are drained. */
struct process {
	struct state state;
	struct fault_sites fault_sites;
	struct bad_frees bad_frees;
	struct vmas *vmas; /* as last read to find owners of faults; NULL: never */
	double next_vmas;
	int fault_events
		[FAULT_EVENTS]; /* sent by the process, which may close its own; < 0: none */
	struct trace_process *shared;
	size_t mapped;
	uint32_t most_rings;
	struct ring *rings;
	uint32_t ring_count;
	int index, parent; /* the parent may be removed */
	int family; /* index of the process from whose memory its own came by forks */
	int pidfd, statm, stat;
	int dir; /* /proc/PID, opened while the PID was this process's */
	/* Who it is, by the kernel's word: shared memory says the same, or a lie. */
	int32_t pid, parent_pid; /* in the collector's PID namespace */
	int32_t inner_pid; /* in its own */
	uid_t uid;
	uint64_t image; /* number in the session, from 1 */
	uint64_t inode; /* of its memory */
	uint64_t fork_image, fork_serial; /* whose FORK record made it; 0: exec'ed, or the first */
	double joined; /* CLOCK_MONOTONIC */
	int32_t ending, status;
	struct mark *marks; /* not handed out yet; mark_count <= MOST_MARKS */
	uint32_t mark_count, mark_capacity;
	uint64_t marks_lost;
	bool active; /* its state is set up, and its rings may be read */
	bool inherited;
	bool exiting, dead;
	bool replaced; /* joined again: the PID has another image */
	bool let_go; /* `released` was stored, and the process has not asked again */
	bool emitted_exiting, emitted_ended, emitted_stopped, emitted_mark, sampled_exit;
	uint64_t activated_in; /* round */
	double start_s, end_s;
	uint64_t events, unknown_frees, broken_rings;
	double sampled_live;
	uint64_t rss, sampled_rss;
	uint64_t page_tables; /* bytes, as last read (VmPTE) */
	uint64_t vm_hwm; /* VmHWM as last read; 0: unknown */
	uint64_t threads; /* as last read */
	int64_t sums_off; /* by how much a sum of smaps is above the counters, if they differ each time */
	uint64_t high_rss; /* highest that the kernel or a snapshot told (VmHWM) */
	uint64_t looked_rss; /* highest of a snapshot; NO_LOOK: none is worth its cost */
	uint64_t last_rss; /* of the last snapshot */
	uint64_t due_in; /* round in which a snapshot was last due */
	uint32_t answered; /* looks */
	double next_join, next_peak, next_interval, next_sample, next_stat;
	struct mematlas_sample *timeline;
	uint32_t timeline_count, timeline_capacity;
	uint64_t *seen_vmas; /* starts of mappings in which earlier joins found blocks */
	size_t seen_count, seen_capacity;
};

/* A process's state at a fork, until the child joins and names it. */
struct clone {
	struct state state;
	uint64_t image;
	uint64_t serial;
	double made;
};

#define MAX_CLONES 64u

/* queued <= the size of `queue`; clone_count <= MAX_CLONES; processes[i]->index < processes[i + 1]->index
 * < next_index */
struct mematlas_collector {
	struct broker broker;
	struct process **pending; /* joined, but not recording yet */
	uint32_t pending_count, pending_capacity;
	char session[128]; /* text of TRACE_SESSION_VARIABLE */
	int watched; /* pidfd */
	int wake; /* poll returns when it can be read; -1: none */
	bool emitted_watched;
	struct mematlas_trace_settings settings;
	struct trace_control *control;
	struct trace_common *common;
	struct bell bell;
	double started; /* CLOCK_MONOTONIC */
	struct process **processes;
	uint32_t count, capacity;
	int next_index;
	struct clone clones[MAX_CLONES];
	uint32_t clone_count;
	bool new_process;
	double next_statuses;
	uint64_t round;
	bool scan_now;
	bool growing; /* the RSS of a process rose much since the round before */
	uint64_t sum_rss,
		looked_sum; /* of all processes: in this round; highest with snapshots of all */
	uint32_t running; /* processes in the sum */
	double next_sum_look;
	struct process *looked_at; /* by the last snapshot, until its cost is known; NULL: none */
	double look_began,
		look_began_cpu; /* by the clock, and by the time of the collector's thread */
	int error;
	uint32_t queued, queue_at; /* events not returned yet, and the first of them */
	struct mematlas_event queue[64];
	struct mematlas_snapshot_row *rows;
	struct mematlas_age_cell *age_cells;
	struct mematlas_part *parts;
	struct fault_sites touched; /* by the last snapshot: no faults, but pages still resident */
	uint32_t row_count, part_count, part_capacity;
};

/* The tracer stops recording when this stands still. */
static inline void collector_heartbeat(struct mematlas_collector *collector)
{
	__atomic_add_fetch(&collector->control->heartbeat, 1, __ATOMIC_RELAXED);
}

/* clock.c: a time is one of the tracer's clock; seconds are those of CLOCK_MONOTONIC. */
uint64_t clock_cycles(void); /* the raw cycle counter */
bool clock_is_steady(void); /* the cycle counter has one rate on all CPUs */
uint64_t clock_read(const struct mematlas_collector *collector);
double clock_tick_s(const struct mematlas_collector *collector); /* 0: the clock has no rate */
double clock_since_start_s(const struct mematlas_collector *collector, uint64_t clock);

/* events.c */
bool event_push(struct mematlas_collector *collector, int type, int process); /* false: full */
bool event_pop(struct mematlas_collector *collector, struct mematlas_event *ret);

/* bad_frees.c */
struct freed_by {
	uint64_t caller; /* return address of the call that freed the block before; 0: unknown */
	uint32_t record; /* TRACE_FREED_AT of its FREE */
};
void bad_free_add(struct process *process, const struct ring *ring, uint64_t address, uint32_t node,
		  struct freed_by before);
void bad_frees_free(struct process *process);
void freed_log_start(struct bad_frees *bad_frees);
static inline void freed_log_add(struct bad_frees *bad_frees, const struct block *block,
				 uint64_t time, uint32_t record)
{
	if (!bad_frees->freed)
		freed_log_start(bad_frees);
	if (bad_frees->freed)
		bad_frees->freed[bad_frees->freed_count++ % FREED_LOG] =
			(struct freed_block){*block, time, record};
}

/* processes.c: NULL if there is no such process any more, or, active, if its rings are not read yet. */
struct process *process_at(const struct mematlas_collector *collector, int index);
struct process *process_active_at(const struct mematlas_collector *collector, int index);
bool processes_add(struct mematlas_collector *collector, struct process *process);
/* Takes it out of the table, and frees nothing. */
void processes_remove(struct mematlas_collector *collector, const struct process *process);
/* `process`: that is in the table. */
int family_of(const struct mematlas_collector *collector, const struct process *process);
/* Running processes with memory from the same process by forks, `process` among them. */
uint32_t family_size(const struct mematlas_collector *collector, const struct process *process);

/* query.c */
struct mematlas_total total_of(const struct state *state, const struct stack_stats *stats);

/* activate.c: to be called after a drain, which reads the records of forks. */
void collector_activate(struct mematlas_collector *collector);
void replace_image(struct mematlas_collector *collector, const struct process *process);

/* process_end.c */
void process_end(struct mematlas_collector *collector, struct process *process, int ending);
void process_read_status(struct process *process);
void collector_read_statuses(struct mematlas_collector *collector);

/* arrivals.c: takes over processes that joined. */
int collector_admit(struct mematlas_collector *collector);

/* admission.c: memory of the session, which no holder of its descriptor can resize. Returns a descriptor or -errno. */
int sealed_memory(const struct broker *broker, size_t size);

/* before.c: what a process held already, as one that was attached to. Without it that counts as slack.
 * `reserved`: its reserved address space as well, each area as an allocation of no bytes. */
void before_read(struct mematlas_collector *collector, struct process *process, bool reserved);

/* records.c: returns the record's length in words; 0: it is malformed. */
uint32_t record_apply(struct mematlas_collector *collector, struct process *process,
		      struct ring *ring, uint32_t mask, uint32_t available);

/* Words of the record that begins with `head`; 0: of no known type, or longer than what is available. */
uint32_t record_words(uint64_t head, uint32_t available);

/* The producer may change a word at any time, so each is read once and checked after that. */
static inline uint64_t ring_at(const struct ring *ring, uint32_t mask, uint64_t at)
{
	return __atomic_load_n(&ring->data[at & mask], __ATOMIC_RELAXED);
}

static inline uint64_t ring_word(const struct ring *ring, uint32_t mask, uint32_t offset)
{
	return ring_at(ring, mask, ring->tail + offset);
}

static inline struct trace_ring *ring_shared(const struct process *process, uint32_t index)
{
	return (struct trace_ring *)((char *)process->shared + TRACE_RINGS_OFFSET) + index;
}

/* definitions.c: STACK, CODE and MODULE, whose first word is `head`; false: malformed, or no memory. */
bool definition_apply(struct process *process, struct ring *ring, uint32_t mask, uint64_t head,
		      uint32_t words);

/* fault_sites.c */
bool fault_sites_add(struct mematlas_collector *collector, struct process *process,
		     struct ring *ring, uint64_t address, uint32_t node, uint32_t weight,
		     unsigned flags); /* false: no memory */
/* fault_site_table.c: the entry of that key, added if there is none; NULL: no memory. */
struct mematlas_fault_site *fault_sites_find(struct fault_sites *sites,
					     const struct mematlas_fault_site *key);
/* Ends the samples of a process that wants SIGTRAP for itself. */
void fault_events_end(struct process *process);
void fault_sites_free(struct process *process);
/* Forgets what was sampled; the descriptors of the samples stay open. */
void fault_sites_clear(struct fault_sites *sites);

/* marks.c: takes the MARK at the tail of a ring. */
void marks_add(struct process *process, uint32_t ring, uint32_t mask);
void marks_free(struct process *process);

/* drain.c */
double collector_drain(
	struct mematlas_collector *collector); /* how full the fullest ring was, 0-1 */
bool process_is_drained(struct process *process);

/* poll.c: by the kernel, at once. */
bool process_is_gone(const struct process *process);

/* fork.c */
void clone_make(struct mematlas_collector *collector, const struct process *process, uint64_t time,
		uint64_t serial);
void clone_drop(struct mematlas_collector *collector, uint64_t image, uint64_t serial);
bool clone_claim(struct mematlas_collector *collector, const struct process *child,
		 struct state *ret);
void clones_expire(struct mematlas_collector *collector, double now);

/* watch.c */
void process_observe(struct mematlas_collector *collector, struct process *process, double now);
/* Reads VmHWM, and the bytes in swap, NAN: unknown. */
double process_read_status_file(struct process *process);

/* look.c: when residency is read. */
/* Is RSS so far above that of all snapshots that another one is worth its cost? */
bool look_is_worth(const struct process *process);
/* Is the sum of all processes? */
bool looks_are_worth(const struct mematlas_collector *collector);
/* After all processes were observed: makes a snapshot due where the sum of their RSS is at a new peak. */
void looks_of_all(struct mematlas_collector *collector, double now);
/* Returns the number of the look that the process waits for; `answered` if it waits for none. */
uint32_t look_asked(const struct process *process);
/* Lets it go on, and tells above which RSS it shall ask again. */
void look_answer(struct process *process, uint32_t number);
/* Its pages cannot be read. */
void look_refuse(struct process *process);
/* After the pages were read, of which the snapshot is made. */
void look_taken(struct process *process, uint64_t rss, uint64_t statm, uint32_t asked);
/* No snapshot could be taken, and none at the same RSS is worth trying again. */
void look_failed(struct process *process, uint32_t asked);
/* A snapshot costs until the next poll, since its caller writes it. */
void look_begins(struct mematlas_collector *collector, struct process *process, double now);
void look_ends(struct mematlas_collector *collector, double now);

#endif
