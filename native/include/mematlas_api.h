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

/* ---- heap: malloc of the C library (alloc/heap.c)
 * ---------------------------------------------- */
struct mematlas_heap {
	uint64_t mapped_blocks; /* blocks with a mapping of their own, above M_MMAP_THRESHOLD */
	uint64_t mapped_bytes;
};

/* mallinfo2(3) of this process. All 0 where the C library is not glibc 2.33 or newer. */
void mematlas_heap_read(struct mematlas_heap *heap);
/* Write the XML of malloc_info(3) to the buffer, with a final NUL. Returns 0, or -errno: -ENOSPC if
 * `size` is too small, -ENOSYS as above. */
int mematlas_heap_describe(char *buffer, uint64_t size);
/* malloc_trim(3). Returns 1 if memory was given back, 0 if not, or -ENOSYS as above. */
int mematlas_heap_trim(void);

/* alloc/counter.c: add to a counter that threads and processes share. Atomic, relaxed. Returns the
 * sum. */
int64_t mematlas_counter_add(int64_t *counter, int64_t amount);

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

/* ---- pool: objects of one size (alloc/pool.c) -------------------------------------------------
 *
 * All functions are safe to call from several threads at once, except where a comment says
 * otherwise. They are not async-signal-safe. A forked child has its own copy of a private pool, in
 * which the objects that other threads had cached are free. */
struct mematlas_pool;
struct mematlas_pool_stats {
	uint64_t object_size;       /* bytes, as requested */
	uint64_t stride;            /* bytes from one object to the next */
	uint64_t count;             /* objects the pool has */
	uint64_t in_use;            /* objects allocated and not freed */
	uint64_t cached;            /* free objects in thread caches; 0 for a shared pool */
	uint64_t allocs, frees;     /* successful calls since creation */
	uint64_t failed_allocs;     /* allocs that found no free object, since creation */
	uint64_t late_double_frees; /* objects that two threads freed at once with success */
	uint64_t mapping_bytes;     /* address space of the pool */
};
/* Create a pool of `count` objects (1 to 2^24 - 2) of `object_size` bytes, aligned to `alignment`,
 * a power of two up to 4096. fd -1 makes a private pool. Any other fd is an empty memfd or file
 * that the pool may resize, and that other processes may pass to mematlas_pool_open(); the caller
 * keeps the fd and may close it. Returns 0 and stores the pool, or -EINVAL: an argument is out of
 * range; -EOVERFLOW: too many bytes; -ENOMEM; -EAGAIN: no pthread key is left; or an error of
 * ftruncate(2) or mmap(2). */
int mematlas_pool_create(uint64_t object_size, uint64_t count, uint64_t alignment, int fd,
			 struct mematlas_pool **ret);
/* Map a pool that another process created in a file. Returns 0 and stores the pool, or -EINVAL: the
 * file holds no pool; -ENOMEM, -EAGAIN; or an error of fstat(2) or mmap(2). */
int mematlas_pool_open(int fd, struct mematlas_pool **ret);
/* Unmap the pool with all objects. No other thread may use either any more. NULL is allowed. */
void mematlas_pool_destroy(struct mematlas_pool *pool);
/* Allocate an object. The contents are those that the last user left, or zeros.
 * Returns NULL if all objects are in use or there is no memory for this thread's cache. */
void *mematlas_pool_alloc(struct mematlas_pool *pool);
/* Free an object, which any thread may have allocated. Returns 0, or an error that changes nothing:
 * -EFAULT: not in the pool; -EINVAL: inside an object; -EALREADY: already free; -ENOMEM: no memory
 * for the message to the thread that allocated the object. Of two threads that free one object at
 * the same instant, both may get 0. The object is still freed once. */
int mematlas_pool_free(struct mematlas_pool *pool, void *object);
/* Count all objects. While other threads use the pool, the figures may be inconsistent with each
 * other. */
void mematlas_pool_read_stats(struct mematlas_pool *pool, struct mematlas_pool_stats *ret);
/* Verify the invariants. No other thread may use the pool meanwhile. Returns 0, -EUCLEAN: an
 * invariant is broken, or a late double free is still queued; or -ENOMEM. */
int mematlas_pool_check(struct mematlas_pool *pool);

/* ---- arena: blocks of any size (alloc/arena.c) ------------------------------------------------
 *
 * Thread safety and fork(2) as for pools. */
struct mematlas_arena;
struct mematlas_arena_stats {
	/* usable_bytes == span_bytes + page_bytes + free_bytes */
	uint64_t capacity;          /* bytes of address space reserved */
	uint64_t usable_bytes;      /* the accessible part of the reservation */
	uint64_t span_bytes;        /* pages divided into slots of one size */
	uint64_t small_blocks, small_bytes; /* slots in use */
	uint64_t cached_bytes;      /* free slots in thread caches */
	uint64_t page_blocks, page_bytes;   /* blocks of whole pages */
	uint64_t large_blocks, large_bytes; /* mappings outside the reservation */
	uint64_t free_bytes;        /* free pages */
	uint64_t released_bytes;    /* the part of free_bytes without memory */
	uint64_t returned_bytes;    /* given back to the kernel since creation */
	uint64_t allocs, frees;     /* of small blocks, since creation */
	uint64_t failed_allocs;     /* of any size, since creation */
	uint64_t late_double_frees; /* small blocks that two threads freed at once with success */
};
/* Create an arena that reserves `capacity` bytes of address space (1 to 2^36), rounded up to 4 MiB,
 * aligned to the size of a huge page. Large blocks are outside the reservation. Memory is committed
 * as the program touches it. Returns 0 and stores the arena, or -EINVAL: capacity is out of range;
 * -ENOSYS: no membarrier(2); -ENOMEM; -EAGAIN: no pthread key is left. */
int mematlas_arena_create(uint64_t capacity, struct mematlas_arena **ret);
/* Unmap the arena with all blocks. No other thread may use either any more. NULL is allowed. */
void mematlas_arena_destroy(struct mematlas_arena *arena);
/* The reservation, to place it with mbind(2) or madvise(2). */
void mematlas_arena_range(const struct mematlas_arena *arena, uint64_t *ret_start,
			  uint64_t *ret_length);
/* Allocate `size` bytes, aligned to 16 or to `alignment`, a power of two or 0. Contents are
 * unspecified. A size of 0 allocates a block, too. Returns NULL if there is no memory or
 * `alignment` is no power of two. */
void *mematlas_arena_alloc(struct mematlas_arena *arena, uint64_t size, uint64_t alignment);
/* Allocate count * size bytes of zeros. Returns NULL if there is no memory or the product
 * overflows. */
void *mematlas_arena_calloc(struct mematlas_arena *arena, uint64_t count, uint64_t size);
/* Free a block, which any thread may have allocated. Returns 0, or an error that changes nothing:
 * -EFAULT: not in the arena, or a large block already free; -EINVAL: inside a block; -EALREADY:
 * already free; -ENOMEM: no memory for the message to the thread that allocated the block. Of two
 * threads that free one small block at the same instant, both may get 0. The block is still freed
 * once. */
int mematlas_arena_free(struct mematlas_arena *arena, void *block);
/* Returns the bytes of a block that the program may use, at least those requested, or -EFAULT,
 * -EINVAL or -EALREADY as above. */
int64_t mematlas_arena_usable_size(struct mematlas_arena *arena, const void *block);
/* Resize a block as realloc(3) does. The contents are kept up to the smaller of both sizes. If the
 * block moves, *block changes and the alignment is 16. Returns 0, or -ENOMEM, -EFAULT, -EINVAL or
 * -EALREADY, which leave the block as before. */
int mematlas_arena_resize(struct mematlas_arena *arena, void **block, uint64_t size);
/* Give the memory of all free pages back to the kernel. Returns the bytes given back. */
uint64_t mematlas_arena_trim(struct mematlas_arena *arena);
/* Count all blocks. While other threads use the arena, the figures may be inconsistent with each
 * other. */
void mematlas_arena_read_stats(struct mematlas_arena *arena, struct mematlas_arena_stats *ret);
/* Verify the invariants. No other thread may use the arena meanwhile. Returns 0, -EUCLEAN: an
 * invariant is broken, or a late double free is still queued; or -ENOMEM. */
int mematlas_arena_check(struct mematlas_arena *arena);

/* ---- arrays: the memory of NumPy's arrays (alloc/arrays.c) ------------------------------------
 *
 * A data handler as NEP 49 describes. All functions are thread-safe; none needs the GIL. */
enum mematlas_arrays_huge {
	MEMATLAS_ARRAYS_PLAIN,   /* base pages, or what the THP setting of the system gives */
	MEMATLAS_ARRAYS_ADVISED, /* transparent huge pages by MADV_HUGEPAGE */
	MEMATLAS_ARRAYS_2M       /* hugetlb pages of 2 MiB, else transparent ones */
};
enum mematlas_arrays_step { /* the step of an allocation that failed */
	MEMATLAS_ARRAYS_MAP = 1, /* returned NULL */
	MEMATLAS_ARRAYS_HUGETLB, /* went on with transparent huge pages */
	MEMATLAS_ARRAYS_THP,     /* went on without huge pages */
	MEMATLAS_ARRAYS_BIND,    /* returned NULL */
	MEMATLAS_ARRAYS_LOCK     /* returned NULL */
};
struct mematlas_arrays;
struct mematlas_arrays_config {
	uint64_t min_size;    /* bytes; smaller arrays go to the default handler */
	uint64_t cache_bytes; /* free blocks kept for reuse, at most */
	int huge;             /* enum mematlas_arrays_huge */
	int lock;             /* 0: no; 1: mlock(2); 2: MLOCK_ONFAULT */
	int mode;             /* of mbind(2); -1: do not call mbind */
	uint64_t nodes[16];   /* node mask of mbind(2) */
};
struct mematlas_arrays_stats {
	uint64_t blocks, bytes;  /* in use */
	uint64_t cached_bytes;   /* free, kept for reuse; <= cache_bytes */
	uint64_t mapped, reused; /* blocks since creation, from the kernel and from the cache */
	uint64_t failures;       /* since creation */
	uint64_t failed_size;    /* bytes, of the last failure */
	int failed_step;         /* enum mematlas_arrays_step; 0: none */
	int failed_errno;
};
/* Create a handler. The result begins with a PyDataMem_Handler. `default_handler` is NumPy's own
 * and gets the arrays below min_size. Returns 0 or -ENOMEM. */
int mematlas_arrays_create(const struct mematlas_arrays_config *config, const void *default_handler,
			   struct mematlas_arrays **ret);
/* Unmap the cached blocks. No array of the handler may exist any more. */
void mematlas_arrays_destroy(struct mematlas_arrays *arrays);
/* Set the address of PyCapsule_GetPointer, which this library does not link. Call once, before any
 * capsule exists. */
void mematlas_arrays_set_capsule_reader(void *reader);
/* The name and the destructor to create the handler's capsule with. The destructor destroys the
 * handler. */
const char *mematlas_arrays_capsule_name(void);
void mematlas_arrays_capsule_destructor(void *capsule);
/* Change cache_bytes, and unmap cached blocks beyond the new limit. */
void mematlas_arrays_set_cache(struct mematlas_arrays *arrays, uint64_t bytes);
void mematlas_arrays_read_stats(struct mematlas_arrays *arrays, struct mematlas_arrays_stats *ret);

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

/* ---- benchmark loops --------------------------------------------------------------------------
 *
 * Addresses are of mapped memory that is large enough; the functions do not check. *ret_ns is the
 * time of the loop in nanoseconds of CLOCK_MONOTONIC, without setup. Several threads may run loops
 * at once on memory of their own. */

/* bench/pointer_chase.c: words of 64 bits at the given addresses, each a multiple of 8 and all
 * distinct. */
/* Write to each address the next one, and to the last address the first. */
void mematlas_pointer_chase_link(const uint64_t *addresses, uint64_t count);
/* Follow `steps` links. Each load depends on the one before, so the time is latency. Returns the
 * last address. */
uint64_t mematlas_pointer_chase_run(uint64_t start, uint64_t steps, uint64_t *ret_ns);
/* Sum the words. The loads are independent, so the time is throughput. Returns the sum modulo
 * 2^64. */
uint64_t mematlas_gather_sum(const uint64_t *addresses, uint64_t count, uint64_t *ret_ns);

/* bench/transpose.c */
enum mematlas_transpose_method {
	MEMATLAS_TRANSPOSE_ROWS,   /* two nested loops */
	MEMATLAS_TRANSPOSE_HALVES, /* recursive, cache-oblivious */
	MEMATLAS_TRANSPOSE_TILES   /* blocked through a buffer, by AVX-512 for 8-byte elements */
};
/* Store to[c][r] = from[r][c] for `rows` x `columns` elements of `size` bytes: 1, 2, 4, 8 or 16.
 * from_row and to_row are the bytes from one row to the next. The matrices must not overlap.
 * Returns 0 or -EINVAL. */
int mematlas_transpose(int method, uint64_t from, uint64_t from_row, uint64_t to, uint64_t to_row,
		       uint64_t rows, uint64_t columns, uint32_t size, uint64_t *ret_ns);

/* bench/patterns.c */
/* Sum the words at base + i * outer_step + j * inner_step for i < outer, j < inner. Steps in bytes.
 * Returns the sum modulo 2^64. */
uint64_t mematlas_pattern_sum(uint64_t base, uint64_t outer, uint64_t outer_step, uint64_t inner,
			      uint64_t inner_step, uint64_t *ret_ns);
/* Sum digest(values[index[i]]), where digest runs `rounds` of x ^= x >> 33, x *=
 * 0xff51afd7ed558ccd. Prefetch the value `distance` look-ups ahead; 0: do not prefetch. Returns the
 * sum modulo 2^64. */
uint64_t mematlas_prefetch_sum(const uint64_t *values, const uint64_t *index, uint64_t count,
			       uint64_t distance, uint32_t rounds, uint64_t *ret_ns);

/* bench/sharing.c: threads that change 64-bit counters at once, thread i the one at base + i *
 * distance. */
enum mematlas_sharing_mode {
	MEMATLAS_SHARING_STORE, /* += 1, not atomic */
	MEMATLAS_SHARING_ADD,   /* atomic fetch-and-add */
	MEMATLAS_SHARING_SWAP,  /* compare-and-swap, repeated until success */
	MEMATLAS_SHARING_LOAD   /* read only */
};
struct mematlas_sharing_result { /* of one thread */
	uint64_t operations;
	uint64_t elapsed_ns;
	uint64_t interruptions; /* involuntary context switches (ru_nivcsw) meanwhile */
};
/* Run `threads` threads for `duration_ns`. cpus: the CPU for each thread's affinity; -1: any. base
 * and distance are multiples of 8. ret has `threads` entries. Returns 0; -EINVAL: an argument is
 * out of range, or there is no such CPU; -ENOMEM; -EAGAIN: a thread could not be created. */
int mematlas_sharing_run(int mode, uint64_t base, uint64_t distance, const int32_t *cpus,
			 uint32_t threads, uint64_t duration_ns, struct mematlas_sharing_result *ret);

/* bench/stream.c: memory bandwidth by the loops of STREAM, with the scalar 3. */
enum mematlas_stream_operation {
	MEMATLAS_STREAM_READ,  /* sum of a */
	MEMATLAS_STREAM_WRITE, /* a = 3 */
	MEMATLAS_STREAM_COPY,  /* a = b */
	MEMATLAS_STREAM_SCALE, /* a = 3 b */
	MEMATLAS_STREAM_ADD,   /* a = b + c */
	MEMATLAS_STREAM_TRIAD  /* a = b + 3 c */
};
struct mematlas_stream_result {
	uint64_t ns; /* from the first thread's start to the last thread's end */
	double sum;  /* READ only */
};
/* Run one operation over arrays of `count` doubles at multiples of 8, which must not overlap,
 * divided among `threads` threads. vectors: "AVX-512", "AVX2", "SSE2", "NEON"; NULL: the widest
 * that this CPU has. bypass: non-temporal stores. cpus: as for mematlas_sharing_run(). Returns 0;
 * -EOPNOTSUPP: this CPU lacks the vectors; -EINVAL, -ENOMEM, -EAGAIN as for
 * mematlas_sharing_run(). */
int mematlas_stream_run(const char *vectors, int operation, int bypass, uint64_t a, uint64_t b,
			uint64_t c, uint64_t count, const int32_t *cpus, uint32_t threads,
			struct mematlas_stream_result *ret);
/* The name of the widest vectors that this CPU has. */
const char *mematlas_stream_vectors(void);

/* bench/pingpong.c: pass a cache line `rounds` times back and forth between two CPUs. Returns 0;
 * -EINVAL: no rounds, or no such CPU; -ENOMEM; -EAGAIN: a thread could not be created. */
int mematlas_pingpong_run(int32_t first, int32_t second, uint64_t rounds, uint64_t *ret_ns);

/* bench/fault.c: the cost of memory from the kernel. Results are 0 or the -errno of the system
 * call. */
struct mematlas_fault_cost {
	uint64_t ns;
	uint64_t faults; /* minor and major page faults of this thread */
};
/* Write, or read, one byte per `step` bytes. */
void mematlas_fault_touch(uint64_t address, uint64_t length, uint64_t step, int write,
			  struct mematlas_fault_cost *ret);
/* mmap(2) of anonymous memory, readable and writable. */
int mematlas_fault_map(uint64_t length, int flags, uint64_t *ret_address,
		       struct mematlas_fault_cost *ret);
int mematlas_fault_advise(uint64_t address, uint64_t length, int advice,
			  struct mematlas_fault_cost *ret);
int mematlas_fault_unmap(uint64_t address, uint64_t length, struct mematlas_fault_cost *ret);
/* Fork a child that waits, then write one byte per `step` bytes, which makes the kernel copy the
 * shared pages. */
int mematlas_fault_fork(uint64_t address, uint64_t length, uint64_t step,
			struct mematlas_fault_cost *ret_fork, struct mematlas_fault_cost *ret_copy);
