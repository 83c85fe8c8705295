/* Parsers of /proc. Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

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
/* PAGEMAP_SCAN: the runs of pages with memory that were written since the last call for them, which the call
 * write-protects again. Memory
 * that userfaultfd(2) does not track is left out. `anonymous`: not pages of files. */
int64_t mematlas_pagemap_protect(int fd, uint64_t *start, uint64_t end, int anonymous,
				 struct mematlas_page_run *ret, uint64_t capacity);
/* The words of an open kpageflags, kpagecount or kpagecgroup (fd < 0: none) for the frame of each
 * pagemap entry. 0: the entry has no frame; MEMATLAS_MAPS_ABSENT: the table has no such frame.
 * tables[count_table] is kpagecount (-1: none is); pages that pagemap calls mapped once are not read
 * there. Returns the number of distinct frames. */
int64_t mematlas_frames_join(const uint64_t *entries, uint64_t count, const int *tables,
			     uint64_t *const *ret, int table_count, int count_table);
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

/* proc/charged_frames.c: the frames that are charged to memory cgroups, by what they hold. Slab pages
 * belong to no group in kpagecgroup since Linux 5.9: their objects are charged one by one. */
struct mematlas_charged {
	uint64_t anonymous;
	uint64_t shared; /* tmpfs, memfd, shared anonymous */
	uint64_t file;
	uint64_t page_tables;
	uint64_t slab;
	uint64_t other; /* kernel stacks, pipes, buffers of sockets */
};
/* `inodes` are those of the groups' directories, ascending. Returns the number of frames looked at. */
int64_t mematlas_charged_frames(int groups_fd, int flags_fd, const uint64_t *inodes, uint64_t count,
				struct mematlas_charged *ret);
struct mematlas_charge_files {
	int pagemap; /* of this process */
	int groups; /* kpagecgroup */
};
/* In pages: charged <= known <= cached. */
struct mematlas_file_charge {
	uint64_t cached;
	uint64_t known; /* whose frame was found */
	uint64_t charged;
};
/* The pages of an open file of `size` bytes that are cached, and those charged to the groups. The pages
 * are mapped for a moment, and count as not used by that. */
int mematlas_file_charge(int fd, uint64_t size, const struct mematlas_charge_files *files,
			 const uint64_t *inodes, uint64_t count, struct mematlas_file_charge *ret);
