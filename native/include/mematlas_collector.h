/* The collector: the reading side of a traced run. Plain declarations only: compiled as C and read by
 * cffi. Convention: 0 or a count on success, -errno on failure; out-parameters last. syscalls/abi.c asserts
 * the layout of the structs that Python reads as arrays. */

struct mematlas_collector;

struct mematlas_trace_settings {
	uint32_t exact;      /* 1: every event */
	uint32_t ring_bytes; /* power of two, >= 64 KiB */
	uint64_t sample_bytes; /* mean gap between samples */
	uint64_t seed;
	double interval_s; /* between residency joins; 0: only at the peak and the end */
	double budget;     /* share of one CPU that joins may take, e.g. 0.02 */
	uint32_t fault_period; /* one minor fault of so many is sampled; 0: none */
	uint32_t most_nodes;   /* of the stacks of a process; 0: no limit */
};

enum mematlas_event_type {
	MEMATLAS_EVENT_NONE,
	MEMATLAS_EVENT_PROCESS,  /* a traced image appeared */
	MEMATLAS_EVENT_INTERVAL, /* a snapshot is due */
	MEMATLAS_EVENT_PEAK,     /* RSS is well above that of the last snapshot at a peak */
	MEMATLAS_EVENT_STOPPED,  /* the process was stopped by a signal */
	MEMATLAS_EVENT_EXITING,  /* the process waits for mematlas_collector_release() */
	MEMATLAS_EVENT_ENDED,    /* the process is gone and its rings are empty */
	MEMATLAS_EVENT_MARK,     /* the program marked a moment: mematlas_collector_mark() */
	MEMATLAS_EVENT_WATCHED   /* the process of mematlas_collector_watch() is gone */
};

struct mematlas_event {
	int32_t type;
	int32_t process; /* index, from 0 in order of appearance; -1 with WATCHED */
};

enum mematlas_ending {
	MEMATLAS_RUNNING,
	MEMATLAS_GONE,   /* `status` as from wait(), or -1 if the kernel did not report it */
	MEMATLAS_EXECED  /* the same PID runs another image now */
};

struct mematlas_traced {
	int32_t pid, parent_pid; /* in the collector's PID namespace */
	int32_t inner_pid;       /* in the process's own PID namespace */
	int32_t parent; /* index; -1: not traced */
	int32_t ending, status;
	uint32_t python_version, python_hooked;
	uint32_t disabled; /* 1: the tracer gave up, for `reason` */
	uint32_t attached; /* 1: tracing began while it ran */
	uint32_t detached; /* 1: tracing was ended on request */
	uint32_t inherited; /* 1: forked, and its parent's live memory is known */
	uint32_t forked; /* 1: made by a fork that its parent recorded */
	double start_s, end_s; /* since the collector was created */
	double live_bytes, peak_bytes, peak_s;
	uint64_t rss_bytes;
	uint64_t peak_rss_bytes; /* VmHWM as last read; 0: never */
	uint64_t looks_missed; /* waits for a snapshot that did not come in time */
	uint64_t stalls, untraced_threads, sharing_threads, own_malloc,
		events, unknown_frees, broken_rings, lost_events, exits_missed;
	uint64_t nodes, codes, modules, totals, timeline; /* numbers of rows */
	uint64_t fault_sites, fault_parts;
	/* Definitions of stacks that end at a caller, since there were most_nodes: in this segment. */
	uint64_t cut_stacks;
	uint64_t has_cut; /* 1: likewise, in this segment or an earlier one */
	uint64_t marks_lost; /* too many at once */
	uint64_t fault_samples, faults_lost;
	uint32_t faults; /* enum trace_faults of trace_format.h */
	uint32_t python_free_threaded;
	uint32_t left[8]; /* programs it started untraced, by enum trace_left_kind of trace_format.h */
	char faults_reason[96];
	char reason[128];
	char executable[1024];
	char command[2048];
};

/* Kinds of memory in rows: enum trace_kind of trace_format.h, and those that the collector tells
 * apart. */
enum mematlas_kind {
	MEMATLAS_KIND_COMMITTED = 6, /* reserved address space that the stack made writable */
	MEMATLAS_KIND_STACK = 7,     /* thread stacks; the stack is the thread's start routine */
	MEMATLAS_KIND_SHARED = 8,    /* shared memory; the stack mapped it */
	MEMATLAS_KIND_COPY = 9       /* pages of a file that were written; the stack mapped it */
};

/* A frame of a stack. Node 0 is the root; parent < the node's own number. */
struct mematlas_node {
	uint32_t parent;
	uint32_t hash; /* of the words from the root to here, for the collector alone; else 0 */
	/* A code address; 1 << 63 | code ID << 32 | offset in co_code of a Python frame; 0: unknown. */
	uint64_t word;
};

/* Statistics of one stack and kind. Exact, allocated - freed == live unless the process was
 * forked. */
struct mematlas_total {
	uint32_t stack, kind;
	double allocated_bytes, allocations, allocated_variance, freed_bytes;
	double peak_bytes, peak_count, peak_variance;
	double live_bytes, live_count, live_variance, bad_frees;
};

/* Lifetimes of freed blocks: counts[n] of them lived less than 10^(n - 4) s, the last class any
 * time. */
#define MEMATLAS_LIFETIME_CLASSES 7
#define MEMATLAS_TYPE_NAME 96 /* bytes of a name, its NUL included */
struct mematlas_lifetimes {
	uint32_t stack, kind;
	double counts[7];
	double temporary_bytes; /* of blocks that lived less than a millisecond */
};

/* Time is cut into cells of equal length. One entry is the memory of a stack that was born in cell
 * `born` and died in cell `died`, or was live (MEMATLAS_ALIVE) when the rows were made: born <
 * died. Memory that died in the cell it was born in is left out. */
#define MEMATLAS_ALIVE 4294967295U
struct mematlas_age_cell {
	uint32_t stack, kind, born, died;
	double bytes, count, variance;
};

/* Page faults taken by one stack in the memory of one owner. The owner is an allocation's stack, of
 * this kind, or with kind 0 the fault part of that number. Estimates: a sample stands for several
 * faults. */
struct mematlas_fault_site {
	uint32_t stack, owner, kind, unused;
	double faults; /* minor and major ones */
	double major_faults;
	double variance; /* of faults */
	double bytes, bytes_variance; /* private memory made resident, a huge page at once */
};

/* Residency of one stack and kind at a snapshot. */
struct mematlas_snapshot_row {
	uint32_t stack, kind;
	double live_bytes, live_count, live_variance, resident_bytes, huge_bytes, swapped_bytes;
};

/* Bytes attributed to one stack and kind. */
struct mematlas_stack_bytes {
	uint32_t stack, kind;
	double bytes;
};

/* One point of a process's timeline. */
struct mematlas_sample {
	double time_s, rss_bytes, live_bytes, swap_bytes, minor_faults, major_faults;
};

struct mematlas_module {
	uint64_t bias, start, end;
	char build_id[72]; /* hexadecimal */
	char path[1024];
};

struct mematlas_code {
	const char *name, *file, *table; /* not terminated by NUL; valid until the next poll */
	uint32_t name_length, file_length, table_length;
	uint32_t first_line, format;
};

enum mematlas_part_kind {
	MEMATLAS_PART_LIVE,
	MEMATLAS_PART_SLACK,
	MEMATLAS_PART_BEFORE, /* resident when tracing began, in no block recorded since */
	MEMATLAS_PART_STACK,
	MEMATLAS_PART_FILE,
	MEMATLAS_PART_COPY, /* written pages of a private file mapping, and the .bss */
	MEMATLAS_PART_SHARED,
	MEMATLAS_PART_ANON,
	MEMATLAS_PART_TRACER,
	MEMATLAS_PART_COW /* private memory that forked processes share until one writes to it */
};

/* A part of the RSS. The parts of a snapshot and its unexplained bytes add up to the RSS.
 * share_bytes <= shared_bytes <= resident_bytes
 * Of slack, in exact mode: free_page_bytes + held_free_bytes <= resident_bytes */
struct mematlas_part {
	uint32_t kind, unused;
	uint64_t resident_bytes;
	double error_bytes; /* one standard error */
	uint64_t free_page_bytes; /* pages without a live byte */
	uint64_t held_free_bytes; /* free bytes on pages with live ones */
	uint64_t shared_bytes; /* on pages that other processes map, too */
	double share_bytes; /* this process's part of these, as in PSS */
	char name[512];
};

struct mematlas_account {
	double time_s, cost_s;
	uint64_t rss_bytes; /* smaps */
	uint64_t pss_bytes; /* each page divided by the number of processes that map it */
	uint64_t uss_bytes; /* pages that no other process maps */
	uint64_t huge_bytes; /* of these, mapped by a PMD: anonymous, shmem and files */
	uint64_t statm_rss_bytes; /* the same from the kernel's counters, for comparison */
	uint64_t peak_rss_bytes; /* highest until then (VmHWM) */
	uint64_t page_table_bytes; /* VmPTE, not in RSS; 0: unknown */
	int64_t unexplained_bytes;
	uint32_t parts, rows, touched;
	uint32_t unused;
};

/* `library`: path of the tracer's library, for processes that cannot reach it; NULL: none. */
int mematlas_collector_create(const struct mematlas_trace_settings *settings, const char *library,
			      struct mematlas_collector **ret);
/* What a process needs to join: the value of MEMATLAS_SESSION. */
const char *mematlas_collector_session(const struct mematlas_collector *collector);
/* Serves a process over a socket whose other end that process has: it joins with the session text
 * ":TOKEN:FD". The descriptor becomes the collector's, also on failure. */
int mematlas_collector_adopt(struct mematlas_collector *collector, int fd);
/* Processes that could not be traced, in order of their reports. */
struct mematlas_refusal {
	int32_t pid;
	char reason[128];
};
int64_t mematlas_collector_refusals(struct mematlas_collector *collector, uint64_t from,
				    struct mematlas_refusal *rows, uint64_t capacity);
void mematlas_collector_destroy(struct mematlas_collector *collector);
/* Pushes WATCHED when `pid`, which need not be traced, has ended. */
int mematlas_collector_watch(struct mematlas_collector *collector, int pid);
/* Lets `pid` and its descendants join, whatever user they run as, until the next call; 0: none. */
void mematlas_collector_admit(struct mematlas_collector *collector, int pid);
/* Reads rings until there is an event or `timeout_ms` have passed. Returns 1, or 0 without an
 * event. */
int mematlas_collector_poll(struct mematlas_collector *collector, int timeout_ms,
			    struct mematlas_event *ret);
/* Reads rings only, for a caller that is busy otherwise: a program whose ring is full waits. */
int mematlas_collector_read_rings(struct mematlas_collector *collector);
/* Lets poll return, without an event, when `fd` can be read; -1: no more. The caller keeps it open. */
void mematlas_collector_wake_by(struct mematlas_collector *collector, int fd);
/* Seconds since the collector was created. */
double mematlas_collector_now(const struct mematlas_collector *collector);
/* Frees everything but the description that mematlas_collector_process() returns of a process that
 * has ENDED. -EBUSY: it has not. */
int mematlas_collector_forget(struct mematlas_collector *collector, int process);
/* Removes a process that was forgotten: no function knows its number any more, and no other process gets it.
 * -EBUSY: it was not forgotten. */
int mematlas_collector_remove(struct mematlas_collector *collector, int process);
/* Lets an EXITING process go on. */
int mematlas_collector_release(struct mematlas_collector *collector, int process);
int mematlas_collector_stop(struct mematlas_collector *collector); /* tracing off, for good */

/* The functions below return -ESRCH if there is no such process, or no row of that index.
 * `capacity` is the length of `rows`; the count of rows written is returned. */
int mematlas_collector_process(struct mematlas_collector *collector, int process,
			       struct mematlas_traced *ret);
int64_t mematlas_collector_nodes(struct mematlas_collector *collector, int process, uint64_t from,
				 struct mematlas_node *rows, uint64_t capacity);
int64_t mematlas_collector_totals(struct mematlas_collector *collector, int process,
				  struct mematlas_total *rows, uint64_t capacity);
/* The totals that have changed since the last call, or since the segment began. Shares of the peak that
 * changed because a new peak came are not told: of all rows that are not told, they are what is live. */
int64_t mematlas_collector_news(struct mematlas_collector *collector, int process,
				struct mematlas_total *rows, uint64_t capacity);
/* Begins a segment of the recording of a process: stacks, code and sums that nothing live refers to are
 * forgotten, the others have new numbers, and what was allocated, freed and sampled counts from here on. */
int mematlas_collector_begin_segment(struct mematlas_collector *collector, int process);
/* Only stacks that have freed blocks. */
int64_t mematlas_collector_lifetimes(struct mematlas_collector *collector, int process,
				     struct mematlas_lifetimes *rows, uint64_t capacity);
/* A live block. `size` is what the program asked for. */
struct mematlas_live_block {
	uint64_t address, size;
	uint32_t stack, kind;
};
/* The live blocks as of now, in no order; exact mode only. Returns the number of all of them, which may be
 * more than `capacity`. */
int64_t mematlas_collector_live_blocks(struct mematlas_collector *collector, int process,
				       struct mematlas_live_block *rows, uint64_t capacity);
/* The matrix as of now, and the length of a cell; 0 without rows: the clock has no rate. The rows
 * stay valid until the next call for any process. */
int64_t mematlas_collector_age_matrix(struct mematlas_collector *collector, int process,
				      double *ret_cell_s,
				      const struct mematlas_age_cell **ret_rows);
int64_t mematlas_collector_fault_sites(struct mematlas_collector *collector, int process,
				       struct mematlas_fault_site *rows, uint64_t capacity);
/* Kind and name of an owner of faults that is no allocation. */
int mematlas_collector_fault_part(struct mematlas_collector *collector, int process, uint64_t index,
				  struct mematlas_part *ret);
int mematlas_collector_module(struct mematlas_collector *collector, int process, uint64_t index,
			      struct mematlas_module *ret);
int mematlas_collector_code(struct mematlas_collector *collector, int process, uint64_t index,
			    struct mematlas_code *ret);
/* Removes the rows it returns. */
int64_t mematlas_collector_timeline(struct mematlas_collector *collector, int process,
				    struct mematlas_sample *rows, uint64_t capacity);
/* Joins residency now. Rows and parts stay until the next snapshot of any process. */
int mematlas_collector_snapshot(struct mematlas_collector *collector, int process,
				struct mematlas_account *ret);
int64_t mematlas_collector_rows(struct mematlas_collector *collector,
				struct mematlas_snapshot_row *rows, uint64_t capacity);
int64_t mematlas_collector_parts(struct mematlas_collector *collector, struct mematlas_part *parts,
				 uint64_t capacity);
/* Resident memory of the last snapshot by the stack that touched it first, where it was mapped without
 * saying for what. `owner` is the stack that mapped it; kind 0: unknown. Estimates. */
int64_t mematlas_collector_touched(struct mematlas_collector *collector,
				   struct mematlas_fault_site *rows, uint64_t capacity);
/* Free bytes on pages that a stack's blocks keep resident, as of the last snapshot of this process;
 * exact mode only. */
int64_t mematlas_collector_fragmentation(struct mematlas_collector *collector, int process,
					 struct mematlas_stack_bytes *rows, uint64_t capacity);
/* Resident bytes of a stack on pages that other processes map, too, and this process's part of them,
 * as of the last snapshot of this process. Stacks without such bytes are left out. */
struct mematlas_sharing {
	uint32_t stack, kind;
	double shared_bytes, share_bytes;
};
int64_t mematlas_collector_sharing(struct mematlas_collector *collector, int process,
				   struct mematlas_sharing *rows, uint64_t capacity);
/* Of the resident bytes of a range, `used_bytes` were used, wherever they lie in it. Ranges are
 * sorted and disjoint. */
struct mematlas_cold_range {
	uint64_t start, end, used_bytes;
};
/* The owners of memory that was not used. Where a part of a range was used, a stack's row is the
 * least of its bytes that must be idle. *ret_total: all idle bytes. */
int64_t mematlas_collector_cold(struct mematlas_collector *collector, int process,
				const struct mematlas_cold_range *ranges, uint64_t count,
				struct mematlas_stack_bytes *rows, uint64_t capacity,
				double *ret_total);
/* Live bytes of one stack and type of Python object; `type` indexes the names. */
struct mematlas_object {
	uint32_t node, type;
	double bytes, count, variance;
};
/* A moment that the program named. */
struct mematlas_mark {
	double time_s;
	uint64_t serial;
	uint32_t ring, unused;
	char name[64]; /* a NUL at the end */
};
/* Takes the oldest mark; 1, or 0: there is none. The thread that set it waits, not for ever. */
int mematlas_collector_mark(struct mematlas_collector *collector, int process,
			    struct mematlas_mark *ret);
/* Lets that thread go on, after a snapshot or without one. */
int mematlas_collector_answer(struct mematlas_collector *collector, int process,
			      const struct mematlas_mark *mark);
/* Reads the heads of at most four million live blocks from the process's memory. 0: no Python in
 * it. The process must be stopped if nothing may be missed. */
int64_t mematlas_collector_objects(struct mematlas_collector *collector, int process,
				   struct mematlas_object *rows, uint64_t capacity,
				   char (*names)[MEMATLAS_TYPE_NAME], uint64_t name_capacity);
/* Why a pointer could not be freed. */
enum mematlas_bad_free_reason {
	MEMATLAS_FREE_UNKNOWN,  /* never allocated, or freed so long ago that it was forgotten */
	MEMATLAS_FREE_TWICE,    /* freed before */
	MEMATLAS_FREE_INTERIOR, /* inside a live block, not at its start */
	MEMATLAS_FREE_STATIC,   /* in a loaded module's own memory */
	MEMATLAS_FREE_STACK     /* on the stack of the thread that freed it */
};
/* A free of a pointer that was no live block. Nodes are 0 and times negative where unknown. */
struct mematlas_bad_free {
	uint64_t address;
	double time_s;
	uint32_t node, reason;
	uint32_t block_node; /* that allocated the block */
	uint32_t freed_node; /* one frame: the call that freed the block before */
	uint64_t block_address, block_bytes; /* freed before, or around the address; 0: unknown */
	double freed_s; /* of the free before */
};
/* The first thousand, in order; exact mode only. */
int64_t mematlas_collector_bad_frees(struct mematlas_collector *collector, int process,
				     struct mematlas_bad_free *rows, uint64_t capacity);
/* Sums over all stacks of what counts as live: not the mappings of allocators, not files. */
struct mematlas_sums {
	double allocated_bytes, allocations, allocated_variance;
	double live_bytes, live_variance;
	double peak_bytes, peak_variance, peak_s;
};
/* Up to now: all that the process recorded before the call is in the sums. */
int mematlas_collector_sums(struct mematlas_collector *collector, int process,
			    struct mematlas_sums *ret);
/* Forgets what the process has recorded until now, as if tracing began here. Memory of before that is freed
 * later is not known. `looks`: 1: a peak of RSS from here on is worth a snapshot; 0: no peak is. */
int mematlas_collector_restart(struct mematlas_collector *collector, int process, uint32_t looks);
/* Reads a program file, or the interpreter of a script: enum trace_left_kind of trace_format.h. */
int mematlas_program_left(const char *path);
