/* Benchmark loops. Plain declarations only: compiled as C and read by cffi. Convention: 0 or a count
 * on success, -errno on failure; out-parameters last.
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
	MEMATLAS_TRANSPOSE_TILES   /* blocked; doubles by the kernel that is the fastest here */
};
/* Store to[c][r] = from[r][c] for `rows` x `columns` elements of `size` bytes: 1, 2, 4, 8 or 16.
 * from_row and to_row are the bytes from one row to the next. The matrices must not overlap.
 * Returns 0 or -EINVAL. */
int mematlas_transpose(int method, uint64_t from, uint64_t from_row, uint64_t to, uint64_t to_row,
		       uint64_t rows, uint64_t columns, uint32_t size, uint64_t *ret_ns);

/* The kernel that the calling thread's last transpose by a method chose for doubles. NULL: not chosen yet, or the method has no choice. */
const char *mematlas_transpose_kernel(int method);

/* bench/choice_table.c: which kernel of a kind of work is the fastest on this machine, for a class of arrays.
 * The loops find out by timing each kernel on parts of the work, once in a process; what they found can be
 * kept for the next process on the same machine. Any choice gives the same result. */
enum mematlas_kernel_work {
	MEMATLAS_WORK_HALVES = 1, /* enum mematlas_transpose_method */
	MEMATLAS_WORK_TILES = 2,
	MEMATLAS_WORK_READ = 16 /* the following numbers: with loops of one width of vectors */
};
enum { MEMATLAS_KERNELS = 16 };
struct mematlas_kernel_choice {
	uint16_t work;
	uint16_t allowed; /* bit i: kernel i may run */
	uint8_t rows, columns; /* bits of the number */
	uint8_t from_step, to_step; /* trailing zero bits of the bytes between rows */
	uint8_t from_pages, to_pages; /* 0 unknown, 1 base, 2 huge */
	uint8_t best; /* the allowed kernel of the least cost */
	uint8_t measured_here; /* by this process */
	double cost[16]; /* ns of an element; 0: not allowed */
};
/* Write as many as there is room for. Returns how many there are. */
uint32_t mematlas_kernel_choices(struct mematlas_kernel_choice *ret, uint32_t capacity);
/* Use a choice of an earlier process. Returns 0; -EINVAL: an entry that no process of this build could make. */
int mematlas_kernel_choice_add(const struct mematlas_kernel_choice *choice);
/* Choices that this process measured. */
uint64_t mematlas_kernel_choices_made(void);
/* Forget all, so that the kernels are measured anew. */
void mematlas_kernel_choices_clear(void);
/* NULL: there is no such kernel here. */
const char *mematlas_kernel_name(int work, int kernel);

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
/* Sum 2 * x + 1 of the words in order. Prefetch the word `distance` words ahead, once for each
 * cache line; 0: do not prefetch. Returns the sum modulo 2^64. */
uint64_t mematlas_sequential_sum(const uint64_t *values, uint64_t count, uint64_t distance,
				 uint64_t *ret_ns);

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

/* bench/stream.c: memory bandwidth by the loops of STREAM, with the scalar 3. The loop of READ is chosen
 * by a trial on parts of the array before the clock starts. */
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
/* The loop that the calling thread's last READ chose, such as "AVX2 in one stream"; NULL: none, as where each
 * part of a trial had page faults. */
const char *mematlas_stream_reader(void);

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
/* Map `count` times `length` bytes of private memory that stays in base pages. On failure nothing
 * is mapped. */
int mematlas_fault_map_each(uint64_t *ret_addresses, uint64_t count, uint64_t length,
			    struct mematlas_fault_cost *ret);
/* Write one byte per `step` bytes of each. */
void mematlas_fault_touch_each(const uint64_t *addresses, uint64_t count, uint64_t length,
			       uint64_t step, struct mematlas_fault_cost *ret);
int mematlas_fault_unmap_each(const uint64_t *addresses, uint64_t count, uint64_t length,
			      struct mematlas_fault_cost *ret);
/* Fork a child that waits, then write one byte per `step` bytes, which makes the kernel copy the
 * shared pages. */
int mematlas_fault_fork(uint64_t address, uint64_t length, uint64_t step,
			struct mematlas_fault_cost *ret_fork, struct mematlas_fault_cost *ret_copy);
