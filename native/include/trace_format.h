/* What the tracer (inside the traced program) and the collector (in `mematlas run`) share: memory
 * layout of a session, nothing else. Every field is little-endian and naturally aligned; the
 * layout carries TRACE_VERSION and a mismatch means "do not trace", never "guess".
 *
 *   $MEMATLAS_SESSION/control       settings and heartbeat, created by the collector
 *   $MEMATLAS_SESSION/preallocated  an unused process file of full size; a process that cannot
 *                                   create its own (RLIMIT_FSIZE) renames this one
 *   $MEMATLAS_SESSION/PID.N.why     a dangling symbolic link; its text is why that image is not traced
 *   $MEMATLAS_SESSION/PID.N         one file per traced process image (N counts images of that PID):
 *                                   header | ring directory | ring 0 | ring 1 | ...
 *
 * A ring belongs to one thread (single producer) and is read by the collector (single consumer).
 * head and tail count 8-byte words since the ring was made and never wrap; a record starts at
 * word (head & (words - 1)) and may run over the ring's end to its beginning.
 *
 * Ordering between threads. FREE is published before the real free(), ALLOC after the real
 * malloc(). The collector reads the clock first and the heads after, and takes only records older
 * than that reading, merged by time: whatever happened before a record it takes, it takes too. */
#ifndef MEMATLAS_TRACE_FORMAT_H
#define MEMATLAS_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC 0x73616c74616d656dull /* "mematlas" */
#define TRACE_VERSION 5u
#define TRACE_DETACHED "detached" /* `reason` of a process that was let go as it was asked */
#define TRACE_SESSION_VARIABLE "MEMATLAS_SESSION"
#define TRACE_MAX_RINGS 4096u
#define TRACE_MAX_FRAMES 512u /* of each sort (native, Python) in one stack */
/* The largest base page a Linux kernel has (64K on aarch64). Every region of a shared file starts at a
 * multiple of it, so each can be mapped on its own whatever the kernel's page size. */
#define TRACE_FILE_ALIGN 65536u
#define TRACE_HEADER_BYTES TRACE_FILE_ALIGN /* size of "control", and of a process file's header */
#define TRACE_MIN_PAGE 4096u /* the smallest base page; headers fit in it */
#define TRACE_CONTROL_FILE "control"
#define TRACE_PREALLOCATED_FILE "preallocated"
#define TRACE_EVAL_RANGES 4u
#define TRACE_PRIVATE_MAPS 32u

enum trace_mode { TRACE_SAMPLED = 0, TRACE_EXACT = 1 };

/* TRACE_CLOCK_TSC where it is invariant (x86-64) or cntvct_el0 (aarch64); else one shared counter. */
enum trace_clock { TRACE_CLOCK_TSC = 0, TRACE_CLOCK_COUNTER = 1 };

/* Start of the file "control". */
struct trace_control {
	uint64_t magic;
	uint32_t version;
	uint32_t mode;         /* enum trace_mode */
	uint32_t clock;        /* enum trace_clock */
	uint32_t ring_bytes;   /* power of two, >= TRACE_MIN_RING_DATA */
	uint64_t sample_bytes; /* mean gap between samples; 0 in exact mode */
	uint64_t seed;         /* 0: seeded from the clock and the thread ID */
	uint64_t clock_base;   /* subtracted from every clock reading, so that 56 bits suffice */
	uint64_t heartbeat;    /* atomic; the collector adds 1 at every poll, at least 20 times a second */
	uint64_t off;          /* atomic; 1: stop tracing for good, run on untouched */
	uint64_t counter;      /* atomic; TRACE_CLOCK_COUNTER */
	uint32_t fault_period; /* one minor fault in so many is recorded; 0: none */
	uint32_t unused;
};

enum trace_faults {
	TRACE_FAULTS_OFF = 0,
	TRACE_FAULTS_ON = 1,
	TRACE_FAULTS_REFUSED = 2, /* by the kernel */
	TRACE_FAULTS_ENDED = 3    /* on before; the program wanted SIGTRAP for itself */
};

enum trace_process_state {
	TRACE_STARTING = 0,
	TRACE_RUNNING = 1,
	TRACE_EXITING = 2, /* ends, or its interpreter does; waits, at most a second, for `released` */
	TRACE_DISABLED = 3 /* by its own decision; `reason` tells why */
};

/* Start of a process file. */
struct trace_process {
	uint64_t magic;
	uint32_t version;
	uint32_t state; /* atomic, enum trace_process_state; set to RUNNING last */
	int32_t pid;
	int32_t parent_pid;
	uint64_t start;       /* clock at attach */
	uint64_t fork_serial; /* of the FORK record in the parent's ring this image came from; 0: exec'ed or first */
	int32_t fork_parent;  /* PID in whose ring that record is */
	uint32_t rings;       /* atomic; directory entries ever used */
	uint64_t released;    /* atomic; the collector sets 1 when the exit snapshot is taken */
	uint64_t stalls;      /* atomic; times a full ring was waited for */
	uint64_t untraced_threads; /* atomic; threads of which nothing could be recorded */
	uint64_t sharing_threads;  /* atomic; threads beyond the rings there are, which share the first */
	uint32_t most_rings;       /* of the directory's entries, those the process has mapped */
	uint32_t own_malloc;       /* 1: the program brings a malloc() that comes before ours */
	uint32_t refused;          /* atomic; the collector sets 1 when it cannot map the file: stop tracing */
	uint64_t left_behind;      /* atomic; programs started where they could not reach the session */
	uint64_t tracer_start, tracer_end;   /* text of libmematlas_trace.so */
	uint64_t eval_start[TRACE_EVAL_RANGES], eval_end[TRACE_EVAL_RANGES]; /* CPython's eval loop: native frames here are Python frames */
	uint32_t python_version;             /* PY_VERSION_HEX, 0: no interpreter seen */
	uint32_t python_hooked;              /* 1: PyMem_SetAllocator wrappers are in */
	uint64_t private_start[TRACE_PRIVATE_MAPS], private_end[TRACE_PRIVATE_MAPS]; /* the tracer's own anonymous memory; 0: unused pair */
	uint32_t attached;    /* 1: joined while it ran; what it allocated before is not known */
	uint32_t python_free_threaded; /* 1: no interpreter lock, larger heads of objects, mimalloc */
	uint32_t faults;      /* atomic, enum trace_faults */
	uint32_t faults_lost; /* atomic; samples that came where nothing could be recorded */
	int32_t fault_events[2]; /* descriptors of the perf events, in this process */
	char faults_reason[96]; /* with TRACE_FAULTS_REFUSED and TRACE_FAULTS_ENDED */
	char reason[128]; /* with TRACE_DISABLED */
	char executable[1024];
	char command[2048]; /* argv joined by NUL, cut to fit, ends in two NULs */
};

enum trace_ring_state { TRACE_RING_FREE = 0, TRACE_RING_ACTIVE = 1, TRACE_RING_CLOSED = 2 };

/* The first ring is shared, under a lock of the tracer's own, by threads that get none to themselves;
 * its `tid` is 0.
 *
 * Ring directory: TRACE_MAX_RINGS of these from offset TRACE_RINGS_OFFSET. At its end a thread sets ACTIVE ->
 * CLOSED; the collector sets CLOSED -> FREE once drained; a new thread takes a FREE ring by
 * compare-and-swap and goes on at the head, with the stack and code IDs its predecessor defined. */
struct trace_ring {
	uint32_t state; /* atomic */
	int32_t tid;
	uint64_t stack_low, stack_high; /* of the thread; 0: unknown */
	uint64_t unused0[5];
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

/* A ring's data starts at TRACE_DATA_OFFSET + index * ring_bytes, with ring_bytes a power of two. */
_Static_assert(TRACE_RINGS_OFFSET % TRACE_FILE_ALIGN == 0, "the directory can be mapped on its own");
_Static_assert(TRACE_DATA_OFFSET % TRACE_FILE_ALIGN == 0, "ring data can be mapped on its own");
_Static_assert(TRACE_MIN_RING_DATA % TRACE_FILE_ALIGN == 0, "each ring's data can be mapped on its own");
_Static_assert(sizeof(struct trace_ring) == TRACE_RING_BYTES, "a directory entry is 256 bytes");
_Static_assert(sizeof(struct trace_control) <= TRACE_MIN_PAGE, "control fits the smallest page");
_Static_assert(sizeof(struct trace_process) <= TRACE_MIN_PAGE, "the header fits the smallest page");

enum trace_record {
	TRACE_PAD = 0,        /* skip one word */
	TRACE_ALLOC = 1,      /* [time] [address | kind << 48 | flags << 56] [size] [stack ID] */
	TRACE_FREE = 2,       /* [time] [address | kind << 48 | flags << 56] */
	TRACE_RESTORE = 3,    /* [time] [address | kind << 48]   the FREE just before was undone (realloc failed) */
	TRACE_UNMAP = 4,      /* [time] [address] [length]       munmap, or a mapping replaced by MAP_FIXED */
	TRACE_STACK = 5,      /* [words << 8] [stack ID] [TRACE_COUNTS] [native PCs ...] [Python ...] */
	TRACE_CODE = 6,       /* [words << 8] [code ID | first line << 32] [linetable format] then 4 byte strings */
	TRACE_MODULE = 7,     /* [words << 8] [load bias] [start] [end] then 2 byte strings: path, build ID in hex */
	TRACE_FORK = 8,       /* [time] [fork serial]            fork is about to happen in this thread */
	TRACE_FORK_FAILED = 9,/* [time] [fork serial] */
	TRACE_BAD_FREE = 10,  /* [time] [address | kind << 48] [stack ID]   exact mode: free of a block not live */
	TRACE_FAULT = 11,     /* [time] [address | flags << 56] [stack ID | weight << 32]   0: no stack */
};

/* Word 0 of a record: type in bits 0-7; above it the clock (56 bits) or, where the list above says
 * `words`, the record's length in words. Byte strings: [length] then bytes padded with 0 to words.
 * Stack IDs and code IDs count from 1 in each ring: they mean nothing outside it. A STACK or CODE
 * record always comes before the first record that uses its ID; several IDs may stand for equal
 * content.
 * Native PCs and Python words run from leaf to root. A native PC after the first is a return
 * address (look up PC - 1). A native list that had to end early ends in the word 0. As many as are
 * `kept` of each list, those at its end, are not there: the last STACK of the ring ended in the same. */

/* What a STACK has, and how much of it is kept from the last one; each at most TRACE_MAX_FRAMES + 1. */
#define TRACE_COUNTS(natives, pythons, natives_kept, pythons_kept)                                 \
	((uint64_t)(natives) | (uint64_t)(pythons) << 16 | (uint64_t)(natives_kept) << 32 |        \
	 (uint64_t)(pythons_kept) << 48)
#define TRACE_COUNT(word, which) ((uint32_t)((word) >> 16 * (which)) & 0xffff)

/* One Python word: code ID << 32 | entry << 31 | byte offset of the instruction in co_code.
 * `entry`: the frame the C eval loop was called for; frames between two entries share one C frame. */
#define TRACE_PYTHON_ENTRY (1ull << 31)

/* CODE's byte strings: qualified name, file name (both UTF-8, surrogates passed), line table, and a
 * fourth, empty today. */
enum trace_linetable { TRACE_LINES_PEP626 = 1 /* 3.10 */, TRACE_LINES_LOCATIONS = 2 /* 3.11 and later */ };

enum trace_kind {
	TRACE_MALLOC = 1,   /* malloc family: what a program asked of the C library */
	TRACE_MMAP = 2,     /* anonymous mmap called by the program itself */
	TRACE_PYOBJECT = 3, /* small block (<= 512 bytes) from CPython's object allocator */
	TRACE_ARENA = 4,    /* a mapping an allocator made for itself: holds blocks, is no allocation */
	TRACE_FILEMAP = 5   /* a mapping of a file or shared memory by the program itself */
};

#define TRACE_ADDRESS(word) ((word) & 0xffffffffffffull)
#define TRACE_KIND(word) (((word) >> 48) & 0xff)
#define TRACE_FLAG_MAJOR 1u    /* flags of FAULT: the page had to be read in */
#define TRACE_FLAG_HUGE 2u     /* flags of FAULT: it was answered by a huge page */
#define TRACE_FLAG_ALWAYS 1u   /* flags of ALLOC: recorded whatever its size, weight 1 */
#define TRACE_FLAG_RESERVED 2u /* a PROT_NONE mapping: address space put aside, 0 live bytes */
#define TRACE_FLAG_MOVED 4u    /* by mremap: the kind is that of the range this ring's last UNMAP took away */
#define TRACE_TYPE(word) ((word) & 0xff)
#define TRACE_TIME(word) ((word) >> 8) /* 0: as of the ring's last record that has one */
#define TRACE_WORDS(word) ((word) >> 8)

#endif
