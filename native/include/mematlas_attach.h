/* Entering a running process from outside. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

/* attach/target.c: the code of a process, read from its memory and not from its files. */
struct mematlas_target;
/* The mappings as they are now. */
int mematlas_target_create(int pid, struct mematlas_target **ret);
void mematlas_target_destroy(struct mematlas_target *target);
/* The address of a function that the ELF file at `image` defines; 0: none. `image` is where its first
 * byte is mapped. */
uint64_t mematlas_target_function(struct mematlas_target *target, uint64_t image, const char *name);
/* Copies the build ID of the ELF file at `image`. Returns its length; 0: none. */
int mematlas_target_build_id(struct mematlas_target *target, uint64_t image, uint8_t *ret, int size);

/* attach/place.c: where a stopped thread is, by unwinding its stack from outside. */
enum mematlas_place_verdict {
	MEMATLAS_PLACE_SAFE, /* may be entered */
	MEMATLAS_PLACE_BRIEF, /* a wait that an allocator makes too, but never for long */
	MEMATLAS_PLACE_LIBRARY, /* inside the C library or an allocator */
	MEMATLAS_PLACE_LOADER, /* inside the dynamic loader */
	MEMATLAS_PLACE_UNKNOWN /* the stack cannot be followed */
};
struct mematlas_place {
	int32_t verdict; /* of the worst frame */
	int32_t frames;
	int32_t handlers; /* signal handlers that run in it */
	int32_t whole; /* the stack was followed to its end */
	uint64_t out_pc, out_stack; /* the first frame outside the library; 0: none was found */
	char function[64]; /* where the verdict is not SAFE: the function in the way, "" if static */
	char file[64]; /* and its file, without directories */
};

/* attach/remote.c: a thread stopped by ptrace(2). All calls come from the thread that attached.
 * -ETIME: not within `timeout_s`; the thread is then as before. */
struct mematlas_remote;
struct mematlas_remote_registers {
	uint64_t pc, stack;
	int64_t system_call; /* the one the thread is in; -1: none */
};
int mematlas_remote_attach(int pid, int tid, double timeout_s, struct mematlas_remote **ret);
/* As they were when the thread was stopped. */
void mematlas_remote_read_registers(const struct mematlas_remote *remote,
				    struct mematlas_remote_registers *ret);
/* 1: the process is stopped by SIGSTOP or another signal of job control. */
int mematlas_remote_is_group_stopped(const struct mematlas_remote *remote);
int mematlas_remote_find_place(const struct mematlas_remote *remote, struct mematlas_target *target,
			       struct mematlas_place *ret);
/* attach/run_out.c: lets the thread run until it returns to `pc` with its stack at or above `stack`, by
 * a hardware breakpoint of the thread. Signals are delivered meanwhile. -ETIME: it did not in
 * `limit_s`; -EBUSY: the process is stopped by a signal. The thread is stopped again afterwards. */
int mematlas_remote_run_out(struct mematlas_remote *remote, uint64_t pc, uint64_t stack,
			    double limit_s);
/* attach/remote_call.c: `syscall_insn` is the address of a system call instruction in the process.
 * Copies bytes to the process; their address there. -E2BIG: more than 8 KiB in all. */
int mematlas_remote_put(struct mematlas_remote *remote, uint64_t syscall_insn, const void *bytes,
			uint64_t size, uint64_t *ret);
/* Reads bytes of the process. */
int mematlas_remote_get(const struct mematlas_remote *remote, uint64_t address, void *ret,
			uint64_t size);
/* Duplicates a descriptor of the process (pidfd_getfd), closed on exec. */
int mematlas_remote_take_descriptor(const struct mematlas_remote *remote, int number);
/* Makes a system call there. *ret: its result, or -errno of it. */
int mematlas_remote_system_call(struct mematlas_remote *remote, uint64_t syscall_insn, int64_t number,
				const uint64_t *arguments, int64_t *ret);
/* Calls function(first, second) there, on a stack of its own. -EFAULT: the function did not return. */
int mematlas_remote_call(struct mematlas_remote *remote, uint64_t syscall_insn, uint64_t function,
			 uint64_t first, uint64_t second, int64_t *ret);
/* attach/seccomp.c: what the thread's seccomp filters do to a system call, SECCOMP_RET_*. -EACCES: only
 * CAP_SYS_ADMIN may read filters. */
int64_t mematlas_remote_filter_system_call(const struct mematlas_remote *remote, int64_t number,
					   const uint64_t *arguments);
/* Lifts the filters from this thread until it is let go. -EPERM: without CAP_SYS_ADMIN. */
int mematlas_remote_suspend_seccomp(const struct mematlas_remote *remote);
/* Restores the thread, lets it run and frees `remote`. */
int mematlas_remote_detach(struct mematlas_remote *remote);
