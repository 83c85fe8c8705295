/* Everything Python may call. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. syscalls/abi.c
 * asserts the layout of the structs that Python reads as arrays. */

/* ABI of this header; the Python facade checks it against its own. */
int mematlas_abi(void);

/* ---- collector: the reading side of a traced run -------------------------------------------- */

struct mematlas_collector;

struct mematlas_trace_settings {
	uint32_t exact;      /* 1: every event */
	uint32_t ring_bytes; /* power of two, >= 64 KiB */
	uint64_t sample_bytes; /* mean gap between samples */
	uint64_t seed;
	double interval_s; /* between residency joins; 0: only at the peak and the end */
	double budget;     /* share of one CPU that joins may take, e.g. 0.02 */
	uint32_t fault_period; /* one minor fault of so many is sampled; 0: none */
	uint32_t unused;
};

enum mematlas_event_type {
	MEMATLAS_EVENT_NONE,
	MEMATLAS_EVENT_PROCESS,  /* a traced image appeared */
	MEMATLAS_EVENT_INTERVAL, /* a snapshot is due */
	MEMATLAS_EVENT_PEAK,     /* RSS is well above that of the last snapshot at a peak */
	MEMATLAS_EVENT_STOPPED,  /* the process was stopped by a signal */
	MEMATLAS_EVENT_EXITING,  /* the process waits for mematlas_collector_release() */
	MEMATLAS_EVENT_ENDED,    /* the process is gone and its rings are empty */
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
	int32_t pid, parent_pid;
	int32_t parent; /* index; -1: not traced */
	int32_t ending, status;
	uint32_t python_version, python_hooked;
	uint32_t disabled; /* 1: the tracer gave up, for `reason` */
	uint32_t attached; /* 1: tracing began while it ran */
	uint32_t detached; /* 1: tracing was ended on request */
	uint32_t inherited; /* 1: forked, and its parent's live memory is known */
	double start_s, end_s; /* since the collector was created */
	double live_bytes, peak_bytes, peak_s;
	uint64_t rss_bytes, stalls, untraced_threads, sharing_threads, left_behind, own_malloc,
		events, unknown_frees, broken_rings;
	uint64_t nodes, codes, modules, totals, timeline; /* numbers of rows */
	uint64_t fault_sites, fault_parts;
	uint64_t fault_samples, faults_lost;
	uint32_t faults; /* enum trace_faults of trace_format.h */
	uint32_t python_free_threaded;
	char faults_reason[96];
	char reason[128];
	char executable[1024];
	char command[2048];
};

/* A frame of a stack. Node 0 is the root; parent < the node's own number. */
struct mematlas_node {
	uint32_t parent, unused;
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
	MEMATLAS_PART_STACK,
	MEMATLAS_PART_FILE,
	MEMATLAS_PART_SHARED,
	MEMATLAS_PART_ANON,
	MEMATLAS_PART_TRACER
};

/* A part of the RSS. The parts of a snapshot and its unexplained bytes add up to the RSS.
 * Of slack, in exact mode: free_page_bytes + held_free_bytes <= resident_bytes */
struct mematlas_part {
	uint32_t kind, unused;
	uint64_t resident_bytes;
	double error_bytes; /* one standard error */
	uint64_t free_page_bytes; /* pages without a live byte */
	uint64_t held_free_bytes; /* free bytes on pages with live ones */
	char name[512];
};

struct mematlas_account {
	double time_s, cost_s;
	uint64_t rss_bytes; /* smaps_rollup */
	uint64_t huge_bytes; /* of these, mapped by a PMD: anonymous, shmem and files */
	uint64_t statm_rss_bytes; /* the same from the kernel's counters, for comparison */
	int64_t unexplained_bytes;
	uint32_t parts, rows;
};

int mematlas_collector_create(const char *directory, const struct mematlas_trace_settings *settings,
			      struct mematlas_collector **ret);
void mematlas_collector_destroy(struct mematlas_collector *collector);
/* Pushes WATCHED when `pid`, which need not be traced, has ended. */
int mematlas_collector_watch(struct mematlas_collector *collector, int pid);
/* Reads rings until there is an event or `timeout_ms` have passed. Returns 1, or 0 without an
 * event. */
int mematlas_collector_poll(struct mematlas_collector *collector, int timeout_ms,
			    struct mematlas_event *ret);
/* Seconds since the collector was created. */
double mematlas_collector_now(const struct mematlas_collector *collector);
/* Frees everything but the description that mematlas_collector_process() returns of a process that
 * has ENDED. -EBUSY: it has not. */
int mematlas_collector_forget(struct mematlas_collector *collector, int process);
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
/* Only stacks that have freed blocks. */
int64_t mematlas_collector_lifetimes(struct mematlas_collector *collector, int process,
				     struct mematlas_lifetimes *rows, uint64_t capacity);
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
/* Free bytes on pages that a stack's blocks keep resident, as of the last snapshot of this process;
 * exact mode only. */
int64_t mematlas_collector_fragmentation(struct mematlas_collector *collector, int process,
					 struct mematlas_stack_bytes *rows, uint64_t capacity);
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
/* Reads the heads of at most four million live blocks from the process's memory. 0: no Python in
 * it. The process must be stopped if nothing may be missed. */
int64_t mematlas_collector_objects(struct mematlas_collector *collector, int process,
				   struct mematlas_object *rows, uint64_t capacity,
				   char (*names)[MEMATLAS_TYPE_NAME], uint64_t name_capacity);

/* syscalls/remote_call.c: function calls in a stopped thread of another process, by ptrace(2). All
 * calls come from the thread that attached. -ETIME: not within `timeout_s`; the thread is then as
 * before. */
struct mematlas_remote;
struct mematlas_remote_registers {
	uint64_t pc, stack;
	int64_t system_call; /* the one the thread is in; -1: none */
};
int mematlas_remote_attach(int pid, int tid, double timeout_s, struct mematlas_remote **ret);
/* As they were when the thread was stopped. */
void mematlas_remote_read_registers(const struct mematlas_remote *remote,
				    struct mematlas_remote_registers *ret);
/* Calls function(text, second) there, on a stack of its own. `syscall_insn` is the address of a
 * system call instruction in the process. -EFAULT: the function did not return. */
int mematlas_remote_call(struct mematlas_remote *remote, uint64_t syscall_insn, uint64_t function,
			 const char *text, uint64_t second, int64_t *ret);
/* Restores the thread, lets it run and frees `remote`. */
int mematlas_remote_detach(struct mematlas_remote *remote);

/* proc/maps.c: /proc/PID/maps or smaps, from an open file, to columns of uint64. */
enum mematlas_maps_column {
	MEMATLAS_MAPS_START,
	MEMATLAS_MAPS_END,
	MEMATLAS_MAPS_PERMISSIONS, /* enum mematlas_maps_permission */
	MEMATLAS_MAPS_OFFSET,
	MEMATLAS_MAPS_DEVICE, /* major << 32 | minor */
	MEMATLAS_MAPS_INODE,
	MEMATLAS_MAPS_FLAGS, /* VmFlags: bit N is flag N */
	MEMATLAS_MAPS_NAME_AT, /* index in names */
	MEMATLAS_MAPS_NAME_LENGTH,
	MEMATLAS_MAPS_BASE /* number of these columns */
};
enum mematlas_maps_permission {
	MEMATLAS_MAPS_READ = 1,
	MEMATLAS_MAPS_WRITE = 2,
	MEMATLAS_MAPS_EXECUTE = 4,
	MEMATLAS_MAPS_SHARED = 8
};
#define MEMATLAS_MAPS_ABSENT 18446744073709551615ULL
struct mematlas_maps;
struct mematlas_maps_sizes {
	uint64_t count; /* rows */
	uint64_t names; /* bytes of names */
	uint64_t overlaps; /* mappings the kernel printed again because they grew */
	uint64_t ignored; /* lines that could not be parsed */
	uint32_t keys; /* fields: Rss, Pss, ...; values are bytes where the kernel prints kB */
	uint32_t flags; /* different VmFlags */
};
int mematlas_maps_create(int fd, struct mematlas_maps **ret);
void mematlas_maps_destroy(struct mematlas_maps *maps);
void mematlas_maps_sizes(const struct mematlas_maps *maps, struct mematlas_maps_sizes *ret);
const uint64_t *mematlas_maps_base(const struct mematlas_maps *maps, int column);
const uint64_t *mematlas_maps_values(const struct mematlas_maps *maps, uint32_t key);
const char *mematlas_maps_key(const struct mematlas_maps *maps, uint32_t key);
const char *mematlas_maps_flag(const struct mematlas_maps *maps, uint32_t flag);
const char *mematlas_maps_names(const struct mematlas_maps *maps);

/* proc/pages.c: the pages of a process. */
struct mematlas_page_run {
	uint64_t start;
	uint64_t end;
	uint64_t categories; /* PAGE_IS_* */
};
/* Pagemap entries of `count` pages from the page-aligned address `start`. Returns how many were
 * read. */
int64_t mematlas_pagemap_read(int fd, uint64_t start, uint64_t count, uint64_t *ret);
/* PAGEMAP_SCAN: runs of pages in [*start, end) that have one of the categories `any`. *start moves
 * to where the next call continues. Returns the number of runs. */
int64_t mematlas_pagemap_scan(int fd, uint64_t *start, uint64_t end, uint64_t any, uint64_t want,
			      struct mematlas_page_run *ret, uint64_t capacity);
/* The words of an open kpageflags, kpagecount or kpagecgroup (fd < 0: none) for the frame of each
 * pagemap entry. 0: the entry has no frame; MEMATLAS_MAPS_ABSENT: the table has no such frame.
 * Returns the number of distinct frames. */
int64_t mematlas_frames_join(const uint64_t *entries, uint64_t count, const int *tables,
			     uint64_t *const *ret, int table_count);
/* proc/chunks.c: one heap of glibc's malloc, from its first chunk to its end, in a process whose
 * mem and pagemap are open. -EUCLEAN: no such heap, or it changed during the walk.
 * trimmable <= free; top <= free; in_use + free <= end - first */
struct mematlas_heap_walk {
	uint64_t chunks;
	uint64_t in_use; /* bytes, those in thread caches and fast bins included */
	uint64_t free;
	uint64_t top; /* free bytes of the last chunk, from which the heap grows */
	uint64_t trimmable; /* resident bytes that malloc_trim(3) would release */
};
int mematlas_heap_walk(int memory, int pagemap, uint64_t first, uint64_t end, int main,
		       struct mematlas_heap_walk *ret);
/* kcmp(2): 0 if two processes have the same address space, 1, 2 or 3 if not. */
int mematlas_kcmp_vm(int32_t first, int32_t second);

/* syscalls/launch.c: settings a process makes for itself before exec. Node masks as below. */
int mematlas_policy_set(int mode, const uint64_t *nodes, uint64_t bits); /* set_mempolicy */
int mematlas_policy_get(int *mode, uint64_t *nodes, uint64_t bits);
int mematlas_personality_add(uint32_t flags);
int mematlas_thp_disable(int disable); /* PR_SET_THP_DISABLE, kept over exec */

/* syscalls/perf.c: software events (PERF_COUNT_SW_*) of perf_event_open(2). Return a descriptor that is
 * closed on exec; the event is disabled until it is enabled by ioctl(2), or by exec. */
enum mematlas_perf_flag {
	MEMATLAS_PERF_KERNEL = 1,  /* count events in kernel mode, too */
	MEMATLAS_PERF_ON_EXEC = 2, /* enable at exec; a counter then counts children, too */
	MEMATLAS_PERF_MAPS = 4,    /* records of mmap, fork, exec and comm between the samples */
	MEMATLAS_PERF_LOST = 8     /* read(2) returns the value and the lost samples; Linux 6.0 */
};

struct mematlas_perf_sampling {
	uint32_t event;
	uint32_t flags;
	uint64_t period;      /* events between two samples */
	uint32_t watermark;   /* bytes in the ring that wake a poll(2) */
	uint32_t stack_depth; /* frames of a call chain at most */
};

int mematlas_perf_count_open(uint32_t event, int32_t pid, uint32_t flags);
/* Samples of a thread and its children on one CPU, with IP, TID, TIME, ADDR, CALLCHAIN, IDENTIFIER. */
int mematlas_perf_sample_open(const struct mematlas_perf_sampling *sampling, int32_t tid,
			      int32_t cpu);

/* syscalls/mapping.c: memory system calls as their man pages describe them. Addresses are numbers;
 * a node mask is an array of words of 64 nodes, of which the first `bits` nodes count. */
int mematlas_map(uint64_t length, int flags, int fd, uint64_t *ret); /* readable and writable */
int mematlas_unmap(uint64_t address, uint64_t length);
int mematlas_protect(uint64_t address, uint64_t length, int protection);
int mematlas_advise(uint64_t address, uint64_t length, int advice);
int mematlas_lock(uint64_t address, uint64_t length, int flags); /* mlock2 */
int mematlas_unlock(uint64_t address, uint64_t length);
int mematlas_lock_all(int flags); /* mlockall; 0: munlockall */
int mematlas_name_memory(uint64_t address, uint64_t length, const char *name);
int mematlas_memfd(const char *name, uint32_t flags);
int mematlas_bind(uint64_t address, uint64_t length, int mode, const uint64_t *nodes, uint64_t bits,
		  uint32_t flags);
/* nodes NULL: only queries. ret: each page's node, or -errno. Returns how many pages could not be
 * moved. */
int64_t mematlas_move_pages(int pid, uint64_t count, const uint64_t *pages, const int *nodes,
			    int *ret, int flags);
int64_t mematlas_migrate_pages(int pid, const uint64_t *from, const uint64_t *to, uint64_t bits);

/* proc/page_cache.c: cachestat(2) of a range of a file, in pages. */
struct mematlas_cachestat {
	uint64_t cached;
	uint64_t dirty;
	uint64_t writeback;
	uint64_t evicted;
	uint64_t recently_evicted;
};
/* length 0: to the end of the file. -ENOSYS before Linux 6.5, -EPERM for a file that the caller may
 * not write. */
int mematlas_cachestat(int fd, uint64_t offset, uint64_t length, struct mematlas_cachestat *ret);
/* mincore(2) of a whole file: a byte a page, 1 if resident. Returns the number of resident pages.
 * The kernel reports every page of a file that the caller may not write as resident. */
int64_t mematlas_mincore_file(int fd, uint64_t length, unsigned char *ret);
