/* The tracer's parts and what they ask of each other. Functions are grouped by the file that
 * defines them. Everything here runs inside somebody else's program: no malloc, no stdio, no locks,
 * errno untouched. */
#ifndef MEMATLAS_TRACER_TRACER_H
#define MEMATLAS_TRACER_TRACER_H

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../include/trace_format.h"
#include "python.h"
#include "sampler.h"
#include "unwind.h"

#define TRACE_EXPORT __attribute__((visibility("default")))
#define TRACE_SLOW __attribute__((noinline, cold))

/* real.c: the functions our hooks stand in front of. Each pointer starts at a resolver, so calling
 * through it is right from the first instruction on. */
struct trace_real {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void *(*reallocarray)(void *, size_t, size_t);
	void (*free)(void *);
	void *(*memalign)(size_t, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*valloc)(size_t);
	void *(*pvalloc)(size_t);
	void *(*mmap)(void *, size_t, int, int, int, off_t);
	int (*munmap)(void *, size_t);
	void *(*mremap)(void *, size_t, size_t, int, ...);
	int (*dlclose)(void *);
	int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	void (*_exit)(int);
	void (*quick_exit)(int);
	int (*prctl)(int, ...);
	int (*setrlimit)(int, const struct rlimit *);
	int (*prlimit)(pid_t, int, const struct rlimit *, struct rlimit *);
	int (*execve)(const char *, char *const[], char *const[]);
	int (*execvpe)(const char *, char *const[], char *const[]);
	int (*fexecve)(int, char *const[], char *const[]);
	int (*posix_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
			   const posix_spawnattr_t *, char *const[], char *const[]);
	int (*posix_spawnp)(pid_t *, const char *, const posix_spawn_file_actions_t *,
			    const posix_spawnattr_t *, char *const[], char *const[]);
	int (*sigaction)(int, const struct sigaction *, struct sigaction *);
	void (*(*signal)(int, void (*)(int)))(int);
	int (*sigprocmask)(int, const sigset_t *, sigset_t *);
	int (*pthread_sigmask)(int, const sigset_t *, sigset_t *);
};
extern struct trace_real trace_real;
extern long (*trace_real_syscall)(long, ...);
void trace_resolve(void);
void *trace_next(const char *name); /* the function we stand in front of, or NULL */
bool trace_is_detour(const void *function); /* of the program's, to a library's */
#define TRACE_REAL(name)                                                                           \
	(*({                                                                                       \
		if (!trace_real.name)                                                              \
			trace_resolve();                                                           \
		&trace_real.name;                                                                  \
	}))
bool trace_in_nursery(const void *block); /* handed out before the real allocator was known */

/* The loader's own look-up, lock-free, since glibc 2.35; weak, so that older ones run without (their
 * modules then come from /proc/PID/maps). */
struct trace_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame; /* PT_GNU_EH_FRAME */
	unsigned long long reserved[8];
};
extern int trace_find_object(void *address, struct trace_object *result) __asm__("_dl_find_object")
	__attribute__((weak));

/* session.c: the session this process reports to. */
struct trace_session {
	struct trace_control *control; /* NULL: not traced */
	struct trace_process *process;
	struct trace_ring *rings;
	char *data; /* ring bytes */
	char *slots; /* private memory of each ring's thread, trace_slot_bytes apart */
	uint64_t clock_base;
	uint64_t sample_bytes;
	size_t page_bytes; /* of the kernel */
	uint32_t ring_words;
	uint32_t most_rings; /* what the process may map, at most TRACE_MAX_RINGS */
	bool exact;
	bool attached; /* to a program that was running: what it allocated before is not known */
	bool counting; /* TRACE_CLOCK_COUNTER */
	bool sandboxed; /* any system call of ours may kill the program */
	uintptr_t own_start, own_end; /* text of this library */
};
extern struct trace_session trace_session;
extern uint32_t trace_generation; /* of the session: caches of an earlier one are stale */
extern uint32_t trace_exact_generation; /* while one that is exact is on, else 0 */
bool trace_is_preloaded(void);
int trace_join(const char *directory); /* the session of a program that is running; -errno */
void trace_quit(void); /* and leaves it again */
enum trace_state { TRACE_UNSTARTED, TRACE_JOINING, TRACE_JOINED, TRACE_OVER };
extern _Atomic int trace_state;
bool trace_start(void); /* on the first call; false: run on untouched */
static inline bool trace_is_joined(void)
{
	return atomic_load_explicit(&trace_state, memory_order_acquire) == TRACE_JOINED;
}
static inline bool trace_ready(void)
{
	int state = atomic_load_explicit(&trace_state, memory_order_acquire);

	return trace_likely(state == TRACE_JOINED) || (state == TRACE_UNSTARTED && trace_start());
}
bool trace_session_is_over(void); /* there is none, or it ended: never ask again */
void trace_disable(const char *reason);
void trace_shrink(void); /* gives address space back that no thread uses */
bool trace_space_left(size_t bytes); /* in the session's file system */
extern volatile char *trace_fork_mark; /* reads 0 in a child made by whatever kind of fork */
static inline bool trace_is_forked(void) /* this process is a copy that nobody told us of */
{
	return trace_unlikely(trace_fork_mark && *trace_fork_mark == 0);
}
void trace_before_fork(void);
void trace_after_fork_in_child(void);
void trace_before_exec(void);
void trace_exec_failed(void);
void trace_exit(void); /* lets the collector take its last look, a second at most */

/* patch.c: hooks for a program that is running */
bool trace_patch_start(void);
bool trace_patch_is_in(void);
void trace_patch_news(void); /* modules loaded since */
void trace_patch_closed(void); /* after a dlclose() */
void trace_patch_end(void);

/* memory.c */
void *trace_pages(size_t size, int protection, int flags, int fd); /* mmap() itself */
void *trace_map(
	size_t size,
	int protection); /* private memory, named and listed for the collector; NULL on failure */
void trace_unmap(void *memory, size_t size); /* what trace_map() gave */
void trace_shorten_map(void *memory, size_t size, size_t kept);
void trace_tell_maps(void); /* to the collector, in a new process file */

/* thread.c: the thread's ring and caches. */
struct trace_stack_slot {
	uint64_t hash;
	uint32_t id;
	uint32_t unused;
};
#define TRACE_STACK_SLOTS (1u << 14)
#define TRACE_KNOWN_MODULES 256u
#define TRACE_TOLD_BITS 9u

struct trace_thread {
	struct trace_ring *ring;
	uint64_t *words; /* of the ring */
	uint64_t mask; /* words - 1 */
	uint64_t head;
	uint64_t limit; /* words known to be there and free end here */
	uint64_t timed; /* when an object's record last got a time */
	uint32_t untimed; /* how many of those to come need none */
	uint32_t quick; /* how many with one came soon after the one before */
	uint64_t tail_seen;
	uint64_t random;
	struct trace_bounds bounds;
	uint32_t next_stack;
	uint32_t modules;
	uint32_t modules_generation;
	uint64_t populated; /* words of the ring that are there for sure, beyond it once all are */
	uint64_t module_start[TRACE_KNOWN_MODULES], module_end[TRACE_KNOWN_MODULES];
	uint64_t told[1u << TRACE_TOLD_BITS]; /* PCs whose module is known: most come again */
	bool told_whole; /* the last stack told had all its native frames */
	bool eval_known; /* and the eval loop was looked for in all of them */
	struct trace_walk walk;
	uint64_t native[TRACE_MAX_FRAMES + 1], python[TRACE_MAX_FRAMES];
	struct trace_stack_slot stacks[TRACE_STACK_SLOTS];
	struct trace_python_chain chain;
	struct trace_code_cache code_cache;
};
struct trace_thread *trace_thread_set_up(void);
static inline struct trace_thread *trace_thread_get(
	void) /* of the calling thread, made if need be; NULL: no ring left */
{
	if (trace_likely(trace_tls.thread && trace_tls.generation == trace_generation))
		return trace_tls.thread;
	return trace_thread_set_up();
}
void trace_thread_register(void); /* claims a ring entry and notes the stack's bounds */
void trace_thread_give_back(void); /* the shared ring */
bool trace_threads_start(void);
size_t trace_slot_bytes(void);
void trace_threads_forget(void); /* after a fork: only the calling thread is left */
int64_t trace_draw_gap(struct trace_thread *thread);

/* ring.c; records out of it are in ring.h */
bool trace_populate(struct trace_thread *thread,
		    uint64_t words); /* of its ring, from the beginning */
bool trace_populate_page(const void *shared); /* false: there is no memory for it */

/* record.c: whose records may go without a time, those of the last thread that had one of an object under
 * the interpreter's lock. */
extern struct trace_thread *trace_timeless;

/* stack.c */
void trace_stack_start(struct trace_thread *thread);
uint32_t trace_stack(struct trace_thread *thread, bool locked); /* the interpreter's lock is held */
uint32_t trace_stack_at(struct trace_thread *thread, const struct trace_point *point);
void trace_modules_changed(void);
bool trace_same_module(const void *a, const void *b);

/* live.c: which blocks are recorded as live; adding and removing is in live.h. */
bool trace_live_start(void); /* anew, whatever an earlier session knew */
void trace_live_note_early(const void *block); /* allocated before tracing could start */
void trace_live_add_early(void);

/* python_trace.c: what the Python side reports, and what the session says of it. */
void trace_hook_python(void);
void trace_describe_python(void);
/* `known`: it has been looked for in the frames that are the same. False: not in all. */
bool trace_learn_eval_loop(const struct trace_walk *walk, bool known);

/* faults.c: samples of the page faults this process takes. */
void trace_faults_start(void);
void trace_faults_after_fork(void);
void trace_faults_end(const char *reason); /* for good */
bool trace_faults_own_sigtrap(void); /* SIGTRAP is ours: the program must not block it */

/* sandbox.c */
void trace_nap(long ns);
void trace_entering_sandbox(unsigned long mode);

/* hooks_exec.c */
void trace_exec_start(const char *directory);
int trace_execve(const char *path, char *const argv[], char *const environment[]);
int trace_execvpe(const char *file, char *const argv[], char *const environment[]);

/* record.c: what hooks report; frees are in record.h. The caller holds the guard. */
bool trace_faulted(const void *address, unsigned weight, unsigned flags,
		   const struct trace_point *point); /* point NULL: where is not known */
void trace_allocated(enum trace_kind kind, const void *block, size_t size, unsigned flags);
void trace_object_allocated(/* by Python; without the guard. `hook`: where a walk may begin */
			    const void *hook, const void *block, size_t size);
void trace_restore(enum trace_kind kind, const void *block);
void trace_unmapped(const void *start, size_t length);
void trace_remapped(const void *start, size_t length, const void *moved, size_t new_length);
void trace_note_unrecorded(
	const void *block); /* an allocation nobody recorded: its free is no bad free */
bool trace_settle_sample(size_t size);
/* The calling thread, where all is at hand that an event of an exact run takes; else NULL. */
static inline struct trace_thread *trace_thread_at_hand(void)
{
	struct trace_thread *thread = trace_tls.thread;
	uint32_t now = __atomic_load_n(&trace_exact_generation, __ATOMIC_RELAXED);

	if (trace_unlikely(!thread || trace_tls.generation != now || trace_is_forked()))
		return NULL;
	return thread;
}

static inline bool trace_slow_sample(
	size_t size) /* a due sample: is it one, once the thread is set up? */
{
	if (trace_unlikely(!trace_thread_at_hand()))
		return trace_settle_sample(size);
	trace_tls.left = -1;
	return true;
}

/* Where the walk of what is recorded next may begin: in the hook that the program called, past all
 * that came since. Forgotten again before the hook returns. */
static TRACE_INLINE void trace_walk_from_here(void)
{
	trace_tls.hook = __builtin_frame_address(0);
}

static inline void trace_walk_from_anywhere(void)
{
	trace_tls.hook = NULL;
}

/* Every slow path runs between these two; enter() is false where nothing may be recorded. */
static inline bool trace_enter(void)
{
	if (trace_tls.guard)
		return false;
	trace_tls.guard = TRACE_INSIDE;
	return true;
}

static inline void trace_leave(void)
{
	if (trace_unlikely(trace_tls.borrowed))
		trace_thread_give_back();
	trace_tls.guard = TRACE_OUTSIDE;
}

/* Around the real function, between enter() and leave(). */
static inline void trace_let_allocator_run(void)
{
	trace_tls.guard = TRACE_IN_ALLOCATOR;
}

static inline void trace_allocator_is_done(void)
{
	trace_tls.guard = TRACE_INSIDE;
}

/* As enter(), and inside a real allocator too; what leave_nested() is to be given, -1: keep out. */
static inline int trace_enter_nested(void)
{
	int before = trace_tls.guard;

	if (before == TRACE_INSIDE)
		return -1;
	trace_tls.guard = TRACE_INSIDE;
	return before;
}

static inline void trace_leave_nested(int before)
{
	if (trace_unlikely(trace_tls.borrowed))
		trace_thread_give_back();
	trace_tls.guard = before;
}

#endif
