/* Shared memory between the tracer (inside the traced program) and the collector (in `mematlas run`).
 * Every field is little-endian and naturally aligned. Both sides check TRACE_VERSION; on a mismatch the
 * program runs untraced.
 *
 * Both sides share sealed memory that the collector makes and passes by descriptor (trace_request.h):
 *
 *   control          settings and heartbeat; read-only for the tracer
 *   process memory   one for each traced process image:
 *                    header | ring directory | ring 0 | ring 1 | ...
 *   common           what all processes of the session may write: nothing in it is trusted
 *
 * A ring belongs to one thread (single producer) and is read by the collector (single consumer).
 * head and tail count 8-byte words since the ring was created and never wrap. A record starts at
 * word (head & (words - 1)) and may wrap around the end of the ring.
 *
 * Ordering between threads: a FREE is published before the real free(), an ALLOC after the real
 * malloc(). The collector reads the clock first and the heads after it, then takes only records older
 * than that reading, merged by time. So every record that happened before a taken one is taken too. */
#ifndef MEMATLAS_TRACE_FORMAT_H
#define MEMATLAS_TRACE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC 0x73616c74616d656dull /* "mematlas" */
#define TRACE_VERSION 8u
#define TRACE_DETACHED "detached" /* `reason` of a process that was detached on request */
#define TRACE_SESSION_VARIABLE "MEMATLAS_SESSION"
#define TRACE_MAX_RINGS 4096u
#define TRACE_MARK_BYTES 64u /* of a mark's name */
#define TRACE_MAX_FRAMES 512u /* native frames in one stack, and Python frames likewise */
/* The largest base page of a Linux kernel (64K on aarch64). Every region of a shared file starts at
 * a multiple of it, so each can be mapped on its own whatever the kernel's page size. */
#define TRACE_FILE_ALIGN 65536u
#define TRACE_HEADER_BYTES TRACE_FILE_ALIGN /* size of control, and of process memory's header */
#define TRACE_MIN_PAGE 4096u /* the smallest base page; control fits in it */
/* Of user addresses, but for mappings that a program asks for above them. */
#if defined(__x86_64__)
#define TRACE_ADDRESS_BITS 47u
#else
#define TRACE_ADDRESS_BITS 48u
#endif
#define TRACE_MOST_IDS (1u << 15) /* of stacks in a ring, and of code objects likewise; then they are given again */
#define TRACE_EVAL_RANGES 4u
#define TRACE_PRIVATE_MAPS 40u
#define TRACE_MUTEX_WORDS 16u /* no pthread_mutex_t is larger */
#define TRACE_TID_MASK 0x3fffffffu /* FUTEX_TID_MASK */

enum trace_mode { TRACE_SAMPLED = 0, TRACE_EXACT = 1 };

/* TRACE_CLOCK_TSC where it is invariant (x86-64), or cntvct_el0 (aarch64); else one shared counter. */
enum trace_clock { TRACE_CLOCK_TSC = 0, TRACE_CLOCK_COUNTER = 1 };

/* Start of control. */
struct trace_control {
	uint64_t magic;
	uint32_t version;
	uint32_t mode;         /* enum trace_mode */
	uint32_t clock;        /* enum trace_clock */
	uint32_t ring_bytes;   /* power of two, >= TRACE_MIN_RING_DATA */
	uint64_t sample_bytes; /* mean bytes between samples; 0 in exact mode */
	uint64_t seed;         /* 0: seeded from the clock and the thread ID */
	uint64_t clock_base;   /* subtracted from every clock reading, so that 56 bits suffice */
	uint64_t heartbeat;    /* atomic; the collector adds 1 per poll: it is not only alive, it reads */
	uint64_t off;          /* atomic; 1: stop tracing for good, let the program run on */
	uint32_t fault_period; /* record one minor fault in this many; 0: none */
	uint32_t unused;
	/* A robust pthread mutex, locked by the collector's thread while it lives. However that ends, the
	 * kernel clears the TID in the first word. */
	uint32_t life[TRACE_MUTEX_WORDS];
};

/* Start of common memory. */
struct trace_common {
	uint64_t clock; /* atomic; the shared counter of TRACE_CLOCK_COUNTER */
	uint32_t bell;  /* atomic, a futex; a process adds 1 and wakes it after it has asked for a look */
	uint32_t unused;
};

enum trace_faults {
	TRACE_FAULTS_OFF = 0,
	TRACE_FAULTS_ON = 1,
	TRACE_FAULTS_REFUSED = 2, /* by the kernel */
	TRACE_FAULTS_ENDED = 3    /* was on; the program needs SIGTRAP itself */
};

enum trace_process_state {
	TRACE_STARTING = 0,
	TRACE_RUNNING = 1,
	TRACE_EXITING = 2, /* the process or its interpreter ends; waits for `released`, not for ever */
	TRACE_DISABLED = 3 /* by the tracer; `reason` says why */
};

/* Programs that a traced process exec'ed and that the tracer could not be loaded into. */
enum trace_left_kind {
	TRACE_LEFT_NOT = 0,        /* the tracer is loaded into it */
	TRACE_LEFT_UNREACHABLE,    /* another user, or another root directory */
	TRACE_LEFT_STATIC,         /* no dynamic loader */
	TRACE_LEFT_OTHER_LIBC,     /* its loader is not glibc's: musl, bionic */
	TRACE_LEFT_FOREIGN,        /* 32 bits, or another processor */
	TRACE_LEFT_PRIVILEGED,     /* set-user-ID, set-group-ID or file capabilities */
	TRACE_LEFT_SANITIZED,      /* AddressSanitizer and the like intercept what the tracer does */
	TRACE_LEFT_UNREAD,         /* no file descriptor was left to read the program */
	TRACE_LEFT_KINDS
};

/* Start of process memory. */
struct trace_process {
	uint64_t magic;
	uint32_t version;
	uint32_t state; /* atomic, enum trace_process_state; RUNNING is stored last */
	int32_t pid;        /* in its own PID namespace, as parent_pid */
	int32_t parent_pid;
	uint64_t start;       /* clock at attach */
	uint32_t rings;       /* atomic; directory entries ever used; rings <= most_rings */
	uint32_t unused0;
	uint64_t released;    /* atomic; the collector stores 1 once the exit snapshot is taken */
	uint64_t stalls;      /* atomic; waits for space in a full ring */
	uint64_t untraced_threads; /* atomic; threads that recorded nothing */
	uint64_t sharing_threads;  /* atomic; threads that use the shared ring */
	uint64_t lost_events;      /* atomic; not recorded: their ring stayed full, or had no memory */
	uint64_t exits_missed;     /* atomic; ends that `released` did not come for in time */
	/* RSS is read (a look) before it falls from a new peak. The process asks by adding 1 to
	 * `looks_asked` and waits, not for ever, until `looks_answered` has that number.
	 *   looks_answered <= looks_asked, modulo 2^32 */
	uint64_t look_above;       /* atomic; the collector stores the RSS above which it wants another look */
	uint32_t looks_asked;      /* atomic */
	uint32_t looks_answered;   /* atomic, a futex; stored by the collector */
	uint32_t looks_missed;     /* atomic; waits that ended without an answer */
	uint32_t unused1;
	uint32_t most_rings;       /* directory entries the process has mapped; <= TRACE_MAX_RINGS */
	uint32_t own_malloc;       /* 1: the program's own malloc() takes precedence over the hook */
	uint32_t left[TRACE_LEFT_KINDS]; /* atomic; programs exec'ed that run untraced, by enum trace_left_kind */
	uint32_t unused;
	uint64_t tracer_start, tracer_end;   /* text of libmematlas_trace.so */
	/* Text of CPython's eval loop; native frames in it stand for Python frames. 0, 0: unused. */
	uint64_t eval_start[TRACE_EVAL_RANGES], eval_end[TRACE_EVAL_RANGES];
	uint32_t python_version;             /* PY_VERSION_HEX; 0: no interpreter found */
	uint32_t python_hooked;              /* 1: the PyMem_SetAllocator wrappers are installed */
	/* The tracer's own anonymous memory; 0, 0: unused. */
	uint64_t private_start[TRACE_PRIVATE_MAPS], private_end[TRACE_PRIVATE_MAPS];
	uint32_t attached;    /* 1: attached at run time; earlier allocations are unknown */
	uint32_t python_free_threaded; /* 1: no GIL, larger object headers, mimalloc */
	uint32_t faults;      /* atomic, enum trace_faults */
	uint32_t faults_lost; /* atomic; fault samples that could not be recorded */
	char faults_reason[96]; /* with TRACE_FAULTS_REFUSED and TRACE_FAULTS_ENDED */
	char reason[128]; /* with TRACE_DISABLED */
	char executable[1024];
	char command[2048]; /* argv joined by NUL, truncated to fit; ends in two NULs */
};

enum trace_ring_state { TRACE_RING_UNUSED = 0, TRACE_RING_ACTIVE = 1 };

/* Ring directory: TRACE_MAX_RINGS entries at TRACE_RINGS_OFFSET. A thread claims a ring by a
 * compare-and-swap of `tid`, from 0 or from the TID of a thread that has ended, drained or not. The
 * kernel tells who has ended: no thread announces its end, so that its last frees, after all
 * destructors, are recorded. The new owner continues at `head`, with the stack and code IDs defined
 * before it. Ring 0 is shared by all threads that have no ring of their own, under a lock of the
 * tracer; its `tid` is 0.
 *
 *   tail <= head <= tail + words,  words = ring_bytes / 8
 *
 * head and tail have different writers, so each has a 64-byte cache line of its own. */
struct trace_ring {
	uint32_t state; /* atomic, enum trace_ring_state; ACTIVE from its first owner on */
	int32_t tid;    /* atomic; its owner, or the last one */
	uint64_t stack_low, stack_high; /* of the thread; 0: unknown */
	uint64_t routine; /* start routine of the thread; 0: unknown */
	uint64_t answered; /* atomic; serial of the last MARK whose account was taken, or is not taken */
	uint64_t unused0[3];
	uint64_t head; /* atomic; producer */
	uint64_t unused1[7];
	uint64_t tail; /* atomic; consumer */
	uint64_t unused2[7];
	uint64_t unused3[8];
};

#define TRACE_RING_BYTES 256u /* sizeof(struct trace_ring) */
#define TRACE_MIN_RING_DATA 65536u
#define TRACE_RINGS_OFFSET TRACE_HEADER_BYTES
#define TRACE_DATA_OFFSET (TRACE_RINGS_OFFSET + TRACE_MAX_RINGS * TRACE_RING_BYTES)

/* Data of ring i starts at TRACE_DATA_OFFSET + i * ring_bytes. */
_Static_assert(TRACE_RINGS_OFFSET % TRACE_FILE_ALIGN == 0, "the directory can be mapped on its own");
_Static_assert(TRACE_DATA_OFFSET % TRACE_FILE_ALIGN == 0, "ring data can be mapped on its own");
_Static_assert(TRACE_MIN_RING_DATA % TRACE_FILE_ALIGN == 0, "so can the data of each ring");

_Static_assert(sizeof(struct trace_control) == 136, "layout of control");
_Static_assert(offsetof(struct trace_control, life) == 72, "layout of control");
_Static_assert(offsetof(struct trace_control, sample_bytes) == 24, "layout of control");
_Static_assert(offsetof(struct trace_control, heartbeat) == 48, "layout of control");
_Static_assert(offsetof(struct trace_control, fault_period) == 64, "layout of control");
_Static_assert(sizeof(struct trace_control) <= TRACE_MIN_PAGE, "control fits the smallest page");

_Static_assert(sizeof(struct trace_common) <= TRACE_MIN_PAGE, "common memory fits the smallest page");
_Static_assert(sizeof(struct trace_process) <= TRACE_HEADER_BYTES, "the header fits its region");
_Static_assert(offsetof(struct trace_process, state) == 12, "layout of the header");
_Static_assert(offsetof(struct trace_process, rings) == 32, "layout of the header");
_Static_assert(offsetof(struct trace_process, released) == 40, "layout of the header");

_Static_assert(sizeof(struct trace_ring) == TRACE_RING_BYTES, "layout of a directory entry");
_Static_assert(offsetof(struct trace_ring, head) == 64, "head has its own cache line");
_Static_assert(offsetof(struct trace_ring, tail) == 128, "tail has its own cache line");

/* Does the collector live? */
static inline bool trace_collector_lives(const struct trace_control *control)
{
	return __atomic_load_n(&control->life[0], __ATOMIC_ACQUIRE) & TRACE_TID_MASK;
}

/* Tests the invariant of struct trace_ring. tail is read first: it never passes head. */
static inline bool trace_ring_is_valid(const struct trace_ring *ring, uint64_t words)
{
	uint64_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);

	return tail <= head && head - tail <= words;
}

enum trace_record {
	TRACE_PAD = 0,        /* skip one word */
	TRACE_ALLOC = 1,      /* [time] [address | kind << 48 | flags << 56] [size] [stack ID] */
	TRACE_FREE = 2,       /* [time] [address | kind << 48 | flags << 56] */
	TRACE_RESTORE = 3,    /* [time] [address | kind << 48]   undoes the preceding FREE (realloc failed) */
	TRACE_UNMAP = 4,      /* [time] [address] [length]       munmap, or replaced by MAP_FIXED; length 0: shmdt */
	TRACE_STACK = 5,      /* [words << 8] [stack ID] [TRACE_COUNTS] [native PCs ...] [Python ...] */
	TRACE_CODE = 6,       /* [words << 8] [code ID | first line << 32] [linetable format] 4 byte strings */
	TRACE_MODULE = 7,     /* [words << 8] [load bias] [start] [end] 2 byte strings: path, build ID in hex */
	TRACE_FORK = 8,       /* [time] [fork serial]            this thread is about to fork */
	TRACE_FORK_FAILED = 9,/* [time] [fork serial] */
	TRACE_BAD_FREE = 10,  /* [time] [address | kind << 48] [stack ID | TRACE_FREED_AT << 32] [return address of
				 the call that freed it before; 0: unknown]   exact mode: the block is not live */
	TRACE_COMMIT = 12,    /* [time] [address] [length] [stack ID]   reserved memory became writable */
	TRACE_RETURN = 13,    /* [time] [address | flags << 56] [length]   see TRACE_FLAG_CLOSED, _DROPPED */
	TRACE_MARK = 14,      /* [time] [serial] [8 words: name, NUL-padded]   0: waits for no account; else see struct trace_ring */
	TRACE_FAULT = 11,     /* [time] [address | flags << 56] [stack ID | weight << 32]   ID 0: no stack */
};

/* Word 0 of a record has the type in bits 0-7. Bits 8-63 are the clock or, where the list above says
 * `words`, the length of the record in words. A byte string is [length], then the bytes padded with 0
 * to whole words.
 *
 * Stack IDs and code IDs count from 1 in each ring and mean nothing outside it. A STACK or CODE
 * record precedes the first record that uses its ID. Several IDs may stand for equal content. After
 * TRACE_MOST_IDS of one sort the tracer forgets all IDs it has given and counts from 1 again, so what a
 * reader keeps of a ring is bounded, however long the program runs. The last definition of an ID holds. An
 * ID that is not above the one defined before it voids all that are not defined again.
 *
 * Native PCs and Python words run from leaf to root. A native PC after the first is a return address:
 * look up PC - 1. A truncated native list ends in the word 0. The last `kept` words of each list are
 * omitted; they equal the end of the ring's previous STACK. */

/* Lengths of a STACK's lists and how many words are kept from the previous one; each at most
 * TRACE_MAX_FRAMES + 1. */
#define TRACE_COUNTS(natives, pythons, natives_kept, pythons_kept)                                 \
	((uint64_t)(natives) | (uint64_t)(pythons) << 16 | (uint64_t)(natives_kept) << 32 |        \
	 (uint64_t)(pythons_kept) << 48)
#define TRACE_COUNT(word, which) ((uint32_t)((word) >> 16 * (which)) & 0xffff)

/* One Python word: code ID << 32 | entry << 31 | byte offset of the instruction in co_code.
 * `entry` marks the frame a C call of the eval loop started with; the frames up to the next entry
 * share that C frame. */
#define TRACE_PYTHON_ENTRY (1ull << 31)

/* Byte strings of CODE: qualified name, file name (both UTF-8, surrogates passed through), line
 * table, and a fourth that is empty. */
enum trace_linetable { TRACE_LINES_PEP626 = 1 /* 3.10 */, TRACE_LINES_LOCATIONS = 2 /* 3.11 and later */ };

enum trace_kind {
	TRACE_MALLOC = 1,   /* malloc family: requested from the C library by the program */
	TRACE_MMAP = 2,     /* anonymous mmap called by the program itself */
	TRACE_PYOBJECT = 3, /* small block (<= 512 bytes) from CPython's object allocator */
	TRACE_ARENA = 4,    /* a mapping made by an allocator: holds blocks, is no allocation itself */
	TRACE_FILEMAP = 5   /* a mapping of a file or shared memory by the program itself */
};

#define TRACE_ADDRESS(word) ((word) & 0xffffffffffffull)
#define TRACE_KIND(word) (((word) >> 48) & 0xff)
/* Which FREE that was: its ring, and half the place where it begins in the ring, cut. */
#define TRACE_FREED_AT(ring, place) ((uint32_t)(ring) << 16 | ((uint32_t)(place) & 0xffff))
#define TRACE_FLAG_MAJOR 1u    /* FAULT: the page was read from storage */
#define TRACE_FLAG_HUGE 2u     /* FAULT: a huge page was mapped */
#define TRACE_FLAG_FILE 4u     /* FAULT: the page is of a file or shared memory, or that is unknown */
#define TRACE_FLAG_SHARED 8u   /* ALLOC of a FILEMAP: shared memory (anonymous, tmpfs, memfd, System V) */
#define TRACE_FLAG_ALWAYS 1u   /* ALLOC: recorded whatever its size, weight 1 */
#define TRACE_FLAG_RESERVED 2u /* ALLOC: a PROT_NONE mapping, reserved address space, 0 live bytes */
#define TRACE_FLAG_CLOSED 1u   /* RETURN: the program may not access the memory; its pages stay */
#define TRACE_FLAG_DROPPED 2u  /* RETURN: the pages were given back */
#define TRACE_FLAG_MOVED 4u    /* ALLOC: by mremap; has the kind of the range in this ring's last UNMAP */
#define TRACE_TYPE(word) ((word) & 0xff)
#define TRACE_TIME(word) ((word) >> 8) /* 0: same as the ring's previous timestamped record */
#define TRACE_WORDS(word) ((word) >> 8)

_Static_assert(TRACE_MARK <= TRACE_TYPE(~0u), "a record type has 8 bits");
_Static_assert(TRACE_FILEMAP <= TRACE_KIND(~0ull), "a kind has 8 bits");
_Static_assert((TRACE_FLAG_ALWAYS | TRACE_FLAG_RESERVED | TRACE_FLAG_MOVED) <= 0xff, "8 bits of flags");
_Static_assert(TRACE_MAX_FRAMES + 1 <= TRACE_COUNT(~0ull, 0), "a count of frames has 16 bits");
_Static_assert(TRACE_COUNT(TRACE_COUNTS(1, 2, 3, 4), 3) == 4, "TRACE_COUNT reads TRACE_COUNTS");

#endif
