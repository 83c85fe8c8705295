/* Allocators. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

/* ---- heap: malloc of the C library (alloc/heap.c) --------------------------------------------- */
/* Write the XML of malloc_info(3) to the buffer, with a final NUL. Returns 0, or -errno: -ENOSPC if
 * `size` is too small. */
int mematlas_heap_describe(char *buffer, uint64_t size);
/* malloc_trim(3). Returns 1 if memory was given back, 0 if not. */
int mematlas_heap_trim(void);

/* alloc/counter.c: add to a counter that threads and processes share. Atomic, relaxed. Returns the
 * sum. */
int64_t mematlas_counter_add(int64_t *counter, int64_t amount);

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
	uint64_t reclaimed;         /* objects of dead processes that went back to a shared pool */
};
/* Create a pool of `count` objects (1 to 2^24 - 2) of `object_size` bytes, aligned to `alignment`,
 * a power of two up to 4096. fd -1 makes a private pool. Any other fd is an empty memfd or file
 * that the pool may resize, and that other processes may pass to mematlas_pool_open(); the caller
 * keeps the fd and may close it. A memfd is sealed against a change of its size, if it may be
 * (MFD_ALLOW_SEALING). The pool keeps a descriptor of its own, with a lock (F_OFD_SETLK) by which
 * others see that this process lives. Without /proc there is no such lock.
 * Returns 0 and stores the pool, or -EINVAL: an argument is out of
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
 * Before a shared pool has none left, objects of processes that died go back to it.
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
	uint64_t capacity;          /* bytes of address space reserved, and the most in use */
	uint64_t usable_bytes;      /* the accessible part of the reservation */
	uint64_t span_bytes;        /* pages divided into slots of one size */
	uint64_t small_blocks, small_bytes; /* slots in use */
	uint64_t cached_bytes;      /* free slots in thread and transfer caches */
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
 * aligned to the size of a huge page. Large blocks are outside the reservation, and count towards
 * the capacity: span_bytes + page_bytes + large_bytes <= capacity. Memory is committed as the
 * program touches it. Returns 0 and stores the arena, or -EINVAL: capacity is out of range;
 * -ENOSYS: no membarrier(2); -ENOMEM; -EAGAIN: no pthread key is left. */
int mematlas_arena_create(uint64_t capacity, struct mematlas_arena **ret);
/* Where the pages of all blocks come from. */
struct mematlas_arena_placement {
	int huge;           /* 1: transparent huge pages, by MADV_HUGEPAGE */
	int mode;           /* of mbind(2); -1: do not call mbind */
	uint64_t nodes[16]; /* node mask of mbind(2) */
};
/* Place the reservation, and each large block when it is mapped. With `huge`, large blocks begin at
 * a huge page and are whole huge pages. Call before the first alloc. Returns 0, or an error of
 * mbind(2) or madvise(2). */
int mematlas_arena_place(struct mematlas_arena *arena,
			 const struct mematlas_arena_placement *placement);
/* Unmap the arena with all blocks. No other thread may use either any more. NULL is allowed. */
void mematlas_arena_destroy(struct mematlas_arena *arena);
/* The reservation. */
void mematlas_arena_range(const struct mematlas_arena *arena, uint64_t *ret_start,
			  uint64_t *ret_length);
/* Allocate `size` bytes, aligned to 16 or to `alignment`, a power of two or 0. Contents are
 * unspecified. A size of 0 allocates a block, too. Returns NULL if there is no memory, the capacity
 * is used up, or `alignment` is no power of two. */
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
