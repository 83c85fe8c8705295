/* Thin system calls. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

/* ABI of this header; the Python facade checks it against its own. */
int mematlas_abi(void);

/* kcmp(2): 0 if two processes have the same address space, 1, 2 or 3 if not. */
int mematlas_kcmp_vm(int32_t first, int32_t second);

/* syscalls/launch.c: settings a process makes for itself before exec. Node masks as below. */
int mematlas_policy_set(int mode, const uint64_t *nodes, uint64_t bits); /* set_mempolicy */
int mematlas_policy_get(int *mode, uint64_t *nodes, uint64_t bits);
int mematlas_personality_add(uint32_t flags);
int mematlas_thp_disable(int disable); /* PR_SET_THP_DISABLE, kept over exec */

/* syscalls/traced_exec.c: let the parent stop this process at its next exec (PTRACE_TRACEME). */
int mematlas_trace_me(void);
/* Continue a stopped child until it executes an address. Signals are passed on. -ESRCH: the child
 * ended before. The instruction there is lost. */
int mematlas_trace_run_to(int32_t pid, uint64_t address);

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
/* Records of exec by the calling thread's children to come, on one CPU: COMM records with TIME. */
int mematlas_perf_exec_open(int32_t cpu);

/* syscalls/mapping.c: memory system calls as their man pages describe them. Addresses are numbers;
 * a node mask is an array of words of 64 nodes, of which the first `bits` nodes count. */
int mematlas_map(uint64_t length, int flags, int fd, uint64_t *ret); /* readable and writable */
int mematlas_unmap(uint64_t address, uint64_t length);
int mematlas_protect(uint64_t address, uint64_t length, int protection);
int mematlas_advise(uint64_t address, uint64_t length, int advice);
int mematlas_lock(uint64_t address, uint64_t length, int flags); /* mlock2 */
int mematlas_unlock(uint64_t address, uint64_t length);
int mematlas_lock_all(int flags); /* mlockall; 0: munlockall */
/* mematlas_mark() of mematlas_mark.h, for callers that are not C. */
void mematlas_mark_moment(const char *name);
int mematlas_name_memory(uint64_t address, uint64_t length, const char *name);
int mematlas_memfd(const char *name, uint32_t flags);
int mematlas_memfd_secret(uint32_t flags);
void mematlas_wipe(uint64_t address, uint64_t length); /* explicit_bzero(3) */
int mematlas_bind(uint64_t address, uint64_t length, int mode, const uint64_t *nodes, uint64_t bits,
		  uint32_t flags);
/* nodes NULL: only queries. ret: each page's node, or -errno. Returns how many pages could not be
 * moved. */
int64_t mematlas_move_pages(int pid, uint64_t count, const uint64_t *pages, const int *nodes,
			    int *ret, int flags);
int64_t mematlas_migrate_pages(int pid, const uint64_t *from, const uint64_t *to, uint64_t bits);
