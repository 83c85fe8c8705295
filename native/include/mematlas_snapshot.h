/* A copy of the memory of a running process at one time. Plain declarations only: compiled as C and read
 * by cffi. Convention: 0 or a count on success, -errno on failure; out-parameters last. */

enum mematlas_image_constant {
	MEMATLAS_IMAGE_GENERAL = 17, /* rax rbx rcx rdx rsi rdi rbp rsp r8 ... r15 rip */
	MEMATLAS_IMAGE_REGISTERS = 49 /* and the low 128 bits of 16 vector registers, two words each */
};
/* A thread as it was when it stopped. register_count <= MEMATLAS_IMAGE_REGISTERS.
 * !stopped => it slept in the kernel and would have stopped before it ran again */
struct mematlas_image_thread {
	int32_t tid;
	uint8_t stopped;
	uint8_t group_stopped; /* by SIGSTOP or another signal of job control */
	uint16_t register_count;
	int64_t system_call; /* the one the thread was in; -1: none */
	uint64_t pc, sp, tls; /* 0: unknown */
	uint64_t registers[49];
};

/* How the program is treated. */
enum mematlas_image_way {
	MEMATLAS_IMAGE_STOP, /* stopped while all is read */
	MEMATLAS_IMAGE_COPY_FIRST, /* copied while it runs, stopped for what it wrote meanwhile */
	MEMATLAS_IMAGE_NO_STOP /* not stopped: pages are of different moments */
};

/* What there is to copy, found without a stop. */
struct mematlas_image_survey {
	uint64_t small_bytes; /* resident in base pages */
	uint64_t huge_bytes; /* resident in huge pages */
	uint64_t swapped_bytes;
	uint64_t threads;
};
int mematlas_image_survey(int pid, struct mematlas_image_survey *ret);

struct mematlas_image_facts {
	double pause_s; /* from the first thread's interruption until the last went on */
	double copied_s; /* in all */
	uint64_t copied_bytes; /* of the pause */
	uint64_t first_bytes; /* before the pause */
	uint64_t rounds; /* of copying before the pause */
	uint64_t unreadable_pages; /* the kernel refused to read them; they are zero */
	uint64_t range_count, thread_count;
	int32_t group_stopped;
	int32_t padding;
};
struct mematlas_image;
/* snapshot/capture.c: copies the private memory of a process, mappings of 256 GiB and more left out. `timeout_s`: for a thread to stop. `limit_s`:
 * the longest pause that is allowed; 0: any. *estimate_s: how long the pause was expected to be.
 * -EOVERFLOW: longer than allowed; the process was not stopped.
 * -ESRCH: the process is gone; -EPERM: ptrace is refused; -ETIME: a thread did not stop; -ENOMEM.
 * COPY_FIRST: any other error says that it is not possible in this process, which is then as before. */
int mematlas_image_capture(int pid, int way, double timeout_s, double limit_s, double *estimate_s,
			   struct mematlas_image **ret);
void mematlas_image_destroy(struct mematlas_image *image);
void mematlas_image_facts(const struct mematlas_image *image, struct mematlas_image_facts *ret);
/* The mappings as they were when all threads were stopped. */
const struct mematlas_maps *mematlas_image_maps(const struct mematlas_image *image);
/* Ascending and disjoint. The `kind` of what lies behind .data is DATA: where .bss ends is told by
 * the file. Pages of files that the program has not written are not there. */
const struct mematlas_heap_range *mematlas_image_ranges(const struct mematlas_image *image);
const struct mematlas_image_thread *mematlas_image_threads(const struct mematlas_image *image);
/* Copies memory of a process. Returns the bytes read, fewer where memory cannot be read. */
int64_t mematlas_process_read(int pid, uint64_t address, void *ret, uint64_t size);
