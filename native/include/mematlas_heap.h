/* The live blocks of a process and the pointers between them, from a copy of its memory.
 * Plain declarations only: compiled as C and read by cffi.
 * Convention: 0 or a count on success, -errno on failure; out-parameters last. */

/* heap/image.c: copied memory. Every read of it is checked against these ranges. */
enum mematlas_heap_range_kind {
	MEMATLAS_HEAP_BRK, /* [heap] */
	MEMATLAS_HEAP_ANONYMOUS,
	MEMATLAS_HEAP_STACK, /* from the stack pointer less the red zone to the end of the stack */
	MEMATLAS_HEAP_DATA, /* private writable mapping of a file, and its anonymous tail (.bss) */
	MEMATLAS_HEAP_CODE, /* not writable: vtables, type names, .eh_frame */
	MEMATLAS_HEAP_SHARED,
	MEMATLAS_HEAP_REGISTERS /* general registers of one thread, at a made-up address */
};
/* start of the registers of thread number N (its index in the image): this + N * 4096 */
#define MEMATLAS_HEAP_REGISTERS_START 9223372036854775808ULL
/* start + size <= next start; pages never resident read as zero */
struct mematlas_heap_range {
	uint64_t start;
	uint64_t size;
	const uint8_t *bytes; /* stays where it is as long as the heap lives */
	const uint8_t *pages; /* a byte for each page: 0 no memory, 1 resident, 2 swapped out; NULL: unknown */
	uint32_t kind; /* enum mematlas_heap_range_kind */
	uint32_t mapping; /* index of the mapping, for the caller */
};
struct mematlas_heap;
/* `ranges` is copied, the bytes are not. -EINVAL: ranges that overlap or are not ascending. */
int mematlas_heap_create(const struct mematlas_heap_range *ranges, uint64_t count,
			 uint64_t page_size, struct mematlas_heap **ret);
void mematlas_heap_destroy(struct mematlas_heap *heap);

/* heap/blocks.c: blocks of all allocators. Those that read an allocator add blocks in any order;
 * mematlas_heap_index() sorts them.
 * After it: address[i] + size[i] <= address[i + 1] */
enum mematlas_heap_origin {
	MEMATLAS_HEAP_GLIBC,
	MEMATLAS_HEAP_GLIBC_MMAPPED,
	MEMATLAS_HEAP_PYMALLOC,
	MEMATLAS_HEAP_PYTHON_STATIC, /* objects in .data of an interpreter or extension */
	MEMATLAS_HEAP_MIMALLOC,
	MEMATLAS_HEAP_TRACED, /* from a recording: exact, with the requested size */
	MEMATLAS_HEAP_PYMALLOC_TORN, /* a whole pool whose free list is broken: no slot is trusted */
	MEMATLAS_HEAP_JEMALLOC,
	MEMATLAS_HEAP_TCMALLOC,
	MEMATLAS_HEAP_TORN, /* a whole slab or page of another allocator that contradicts itself */
	MEMATLAS_HEAP_MIMALLOC_OBJECTS /* in CPython without the GIL, which keeps objects in pages of their own */
};
enum mematlas_heap_layout {
	MEMATLAS_HEAP_WORDS, /* conservative: every aligned word may point to a block */
	MEMATLAS_HEAP_OPAQUE, /* no pointers: strings, numbers */
	MEMATLAS_HEAP_PYTHON, /* this and above: read by heap->readers[] */
	MEMATLAS_HEAP_PYTHON_NAMESPACE, /* a dict whose values are roots with names of their own */
	MEMATLAS_HEAP_PYTHON_UNCOUNTED, /* a dict whose entries are no references: interned strings */
	MEMATLAS_HEAP_PYTHON_KEPT /* an object that the interpreter keeps for reuse */
};
enum mematlas_heap_column {
	MEMATLAS_HEAP_ADDRESS, /* uint64_t */
	MEMATLAS_HEAP_SIZE, /* uint64_t */
	MEMATLAS_HEAP_TYPE, /* uint32_t: index of a type */
	MEMATLAS_HEAP_ORIGIN, /* uint8_t */
	MEMATLAS_HEAP_LAYOUT, /* uint8_t */
	MEMATLAS_HEAP_RESIDENT /* uint64_t: resident bytes */
};
int mematlas_heap_add(struct mematlas_heap *heap, const uint64_t *addresses, const uint64_t *sizes,
		      uint64_t count, int origin);
/* Sorts the blocks, cuts those that overlap (a finding each) and builds the index of addresses.
 * Returns the number of blocks. May be called again after more blocks were added. */
int64_t mematlas_heap_index(struct mematlas_heap *heap);
const void *mematlas_heap_column(const struct mematlas_heap *heap, int column);
/* The block whose [address, address + size) holds `word`, or MEMATLAS_HEAP_NONE. */
uint32_t mematlas_heap_find(const struct mematlas_heap *heap, uint64_t word);
void mematlas_heap_find_all(const struct mematlas_heap *heap, const uint64_t *words, uint64_t count,
			    uint32_t *ret);
#define MEMATLAS_HEAP_NONE 4294967295U

/* heap/types.c: type 0 is "unknown". A name is read by the caller from `key`. */
enum mematlas_heap_type_kind {
	MEMATLAS_HEAP_TYPE_UNKNOWN,
	MEMATLAS_HEAP_TYPE_CPP, /* key: the address of the name in a std::type_info */
	MEMATLAS_HEAP_TYPE_VTABLE, /* key: the address of a vtable without a type_info */
	MEMATLAS_HEAP_TYPE_PYTHON, /* key: the address of the type object */
	MEMATLAS_HEAP_TYPE_PYTHON_PART, /* key: a number, such as "keys of a dict" */
	MEMATLAS_HEAP_TYPE_CONTENT, /* key: enum mematlas_heap_content */
	MEMATLAS_HEAP_TYPE_SIZE /* key: the largest size of a class of sizes, where nothing else is known */
};
struct mematlas_heap_type {
	uint64_t key;
	uint32_t kind; /* enum mematlas_heap_type_kind */
	uint32_t padding;
};
/* Types by index. Returns their number. */
int64_t mematlas_heap_types(const struct mematlas_heap *heap, const struct mematlas_heap_type **ret);
/* heap/content_types.c: keys of MEMATLAS_HEAP_TYPE_CONTENT */
enum mematlas_heap_content {
	MEMATLAS_HEAP_TEXT /* fills its block */
};
/* Types of blocks that have none yet. Returns how many got one. */
int64_t mematlas_heap_type_by_content(struct mematlas_heap *heap);

/* heap/findings.c: damage and doubts. Nothing else is stopped by them. */
enum mematlas_heap_finding_kind {
	MEMATLAS_HEAP_TORN_CHUNK, /* address: the chunk; detail: where reading went on, or 0 */
	MEMATLAS_HEAP_OVERLAP, /* address: the block; detail: the block before */
	MEMATLAS_HEAP_TORN_FREE_CHUNK, /* address: the chunk, whose sizes differ; detail: its size */
	MEMATLAS_HEAP_TORN_FASTBIN, /* address: the entry that leads nowhere */
	MEMATLAS_HEAP_TORN_POOL, /* address: the pool of pymalloc; number: its arena */
	/* Of allocators beside glibc's. number: enum mematlas_heap_origin */
	MEMATLAS_HEAP_UNKNOWN_LAYOUT, /* address: of its structures, none of which is read */
	MEMATLAS_HEAP_TORN_EXTENT, /* address: the memory whose description contradicts itself; detail: bytes, or 0 */
	MEMATLAS_HEAP_TORN_SLAB, /* address: blocks of one size whose count contradicts them; detail: bytes */
	MEMATLAS_HEAP_TORN_CACHE, /* address: the entry of a thread's cache or free list that leads to no block; detail: where */
	MEMATLAS_HEAP_MISSING_CACHE /* address: memory of a thread's cache that was not found */
};
struct mematlas_heap_finding {
	uint64_t address;
	uint64_t detail;
	uint32_t kind; /* enum mematlas_heap_finding_kind */
	uint32_t number; /* arena, where one is meant */
};
/* The first findings; *total counts all of them. Returns the number of those kept. */
int64_t mematlas_heap_findings(const struct mematlas_heap *heap, uint64_t *total,
			       const struct mematlas_heap_finding **ret);

/* heap/heap.c: memory that is no block. start < end */
enum mematlas_heap_area_kind {
	MEMATLAS_HEAP_AREA_REGION, /* chunks of an allocator, with what lies between them */
	MEMATLAS_HEAP_AREA_GAP, /* in a region, and no chunk: damaged, or of others */
	MEMATLAS_HEAP_AREA_ALLOCATOR /* an allocator's own tables, whose pointers keep nothing alive */
};
struct mematlas_heap_area {
	uint64_t start;
	uint64_t end;
	uint32_t kind; /* enum mematlas_heap_area_kind */
	uint32_t padding;
};
int64_t mematlas_heap_areas(const struct mematlas_heap *heap, const struct mematlas_heap_area **ret);
/* Adds one. -EINVAL: start >= end */
int mematlas_heap_add_area(struct mematlas_heap *heap, uint64_t start, uint64_t end, int kind);

/* heap/glibc.c: glibc's malloc, found by content. Bytes of chunks, headers included. */
struct mematlas_heap_glibc {
	uint64_t copies; /* of malloc; 0: the program does not use it */
	uint64_t arenas;
	uint64_t heaps; /* continuous memory of arenas */
	uint64_t chunks;
	uint64_t binned; /* bytes of free chunks in bins */
	uint64_t top; /* bytes never handed out, or given back to the top */
	uint64_t thread_caches;
	uint64_t cached; /* bytes in thread caches */
	uint64_t fast; /* bytes in fast bins */
	uint64_t torn; /* bytes that could not be read as chunks */
	uint64_t mapped_chunks;
	uint64_t mapped; /* bytes */
	uint64_t told_mapped_chunks; /* malloc's own count; UINT64_MAX: not found */
	uint64_t told_mapped;
	uint64_t told_system; /* malloc's own sum of all arenas */
};
/* Adds the live blocks of all arenas. */
int mematlas_heap_read_glibc(struct mematlas_heap *heap, struct mematlas_heap_glibc *ret);

/* heap/jemalloc.c and others: allocators beside glibc's, found by content. Bytes of whole blocks. Sums of all
 * copies in the process. */
struct mematlas_heap_allocator {
	uint64_t copies; /* 0: the program does not use it */
	uint64_t refused; /* copies of an unknown layout: none of their blocks is read */
	uint64_t pages; /* slabs, spans, pages with blocks */
	uint64_t blocks; /* live */
	uint64_t caches; /* of threads */
	uint64_t missing_caches; /* whose blocks count as live */
	uint64_t cached_blocks; /* free blocks in caches of threads and lists of frees by other threads */
	uint64_t cached; /* bytes */
	uint64_t free; /* bytes of other free blocks beside live ones */
	uint64_t unused; /* resident bytes of pages without live blocks */
	uint64_t torn; /* bytes that could not be read as blocks */
	uint64_t own_blocks; /* handed out to the allocator itself, and left out */
	uint64_t told; /* blocks in use, those cached included, as the allocator itself counts */
	uint64_t counted; /* the same as found */
	uint64_t untold; /* copies whose own count was not found */
};
int mematlas_heap_read_jemalloc(struct mematlas_heap *heap, struct mematlas_heap_allocator *ret);
int mematlas_heap_read_mimalloc(struct mematlas_heap *heap, struct mematlas_heap_allocator *ret);
int mematlas_heap_read_tcmalloc(struct mematlas_heap *heap, struct mematlas_heap_allocator *ret);

/* heap/link.c: the graph. Nodes: 0, all memory; 1 ... strong, groups of roots; then the blocks; then the
 * groups of later ranks, which are called weak here; last, the
 * blocks that nothing keeps alive.
 * node of block i == strong + 1 + i; of weak group g == blocks + g; of the lost == blocks + groups + 1 */
enum mematlas_heap_root_flag {
	MEMATLAS_HEAP_ROOT_EXACT = 1 /* the words may lie in blocks; else those in blocks are no roots */
};
/* Words of [start, end) are roots of a group: 1 <= group <= groups. */
struct mematlas_heap_root {
	uint64_t start;
	uint64_t end;
	uint32_t group;
	uint32_t flags; /* enum mematlas_heap_root_flag */
};
/* A group of a later rank counts for what no group of an earlier rank keeps alive, and its blocks' pointers
 * to blocks of an earlier rank take nothing from the latter's holders. */
enum mematlas_heap_rank {
	MEMATLAS_HEAP_STRONG,
	MEMATLAS_HEAP_FRAMES, /* running functions of an interpreter, whose modules are strong */
	MEMATLAS_HEAP_PROGRAM, /* the other roots of a program with an interpreter */
	MEMATLAS_HEAP_STACKS, /* stacks and registers: what a variable reaches is the variable's, also in use */
	MEMATLAS_HEAP_WEAK,
	MEMATLAS_HEAP_RANKS
};
/* `roots` ascend by group, ranks[g - 1], the ranks of the groups, do. parents[g - 1] is the group above
 * group g, of the same rank and less than g, or 0. Reads all blocks and makes the graph. Returns the number
 * of edges. */
int64_t mematlas_heap_link(struct mematlas_heap *heap, const struct mematlas_heap_root *roots,
			   uint64_t root_count, const uint32_t *parents, const uint8_t *ranks,
			   uint32_t groups);

/* heap/dominate.c: of each node the node that holds it alone: without it, the node would be free. */
enum mematlas_heap_state {
	MEMATLAS_HEAP_HELD, /* by a strong root */
	MEMATLAS_HEAP_HELD_WEAKLY, /* by weak roots alone */
	MEMATLAS_HEAP_LOST, /* directly: no block points to it */
	MEMATLAS_HEAP_LOST_CYCLE, /* the first of blocks that only point to each other */
	MEMATLAS_HEAP_LOST_INDIRECTLY
};
enum mematlas_heap_node_column {
	MEMATLAS_HEAP_DOMINATOR, /* uint32_t: a node; node 0 has itself */
	MEMATLAS_HEAP_RETAINED, /* uint64_t: bytes */
	MEMATLAS_HEAP_RETAINED_RESIDENT, /* uint64_t */
	MEMATLAS_HEAP_RETAINED_COUNT, /* uint32_t: blocks, itself included */
	MEMATLAS_HEAP_STATE, /* uint8_t: enum mematlas_heap_state */
	MEMATLAS_HEAP_TOP, /* uint32_t: the first of the nodes of one type that dominate each other, such as
			      the elements of a list; itself where the dominator has another type */
	MEMATLAS_HEAP_PATH, /* uint32_t: the node before on a shortest path from node 0, after
			       mematlas_heap_find_paths(); MEMATLAS_HEAP_NONE: none */
	MEMATLAS_HEAP_PATH_TOP /* uint32_t: the first of the nodes of one type on this path */
};
int mematlas_heap_dominate(struct mematlas_heap *heap);
/* heap/paths.c: shortest paths from node 0 to all nodes, but not through the lost. */
int mematlas_heap_find_paths(struct mematlas_heap *heap);
/* The same without the paths that begin at the words of one group, into arrays with an entry for each node.
 * -EINVAL: no such node */
int mematlas_heap_find_paths_without(const struct mematlas_heap *heap, uint32_t group, uint32_t *path,
				     uint32_t *top);
/* heap/stack.c: the frames of a thread by .eh_frame. registers: of struct cfi_row, then the program counter. */
#define MEMATLAS_HEAP_UNWOUND 18
struct mematlas_heap_module {
	uint64_t start; /* executable memory */
	uint64_t end;
	uint64_t header; /* where the first byte of its file is */
};
struct mematlas_heap_frame {
	uint64_t code; /* an address in the instruction that runs */
	uint64_t end; /* the stack pointer of the caller */
};
/* `modules` ascend and are disjoint. Returns the number of frames, the innermost first; fewer than there are
 * where no rule leads on. -ENOSYS: not on this processor */
int64_t mematlas_heap_unwind(const struct mematlas_heap *heap,
			     const struct mematlas_heap_module *modules, uint64_t module_count,
			     const uint64_t *registers, struct mematlas_heap_frame *frames,
			     uint64_t most);
const void *mematlas_heap_node_column(const struct mematlas_heap *heap, int column);
struct mematlas_heap_graph {
	uint64_t nodes, edges, blocks, groups, strong;
	const uint32_t *offsets; /* nodes + 1 */
	const uint32_t *targets; /* edges of node n: targets[offsets[n]] ... targets[offsets[n + 1] - 1] */
};
void mematlas_heap_graph(const struct mematlas_heap *heap, struct mematlas_heap_graph *ret);
/* heap/group_sums.c: what groups of nodes retain together, the sum over the nodes of a group that lie under no
 * other of it. All arrays have `count` entries. */
struct mematlas_heap_tree {
	uint64_t count;
	const uint32_t *dominator; /* dominator[n] < count; they lead to node 0 */
	const uint32_t *group; /* less than the number of groups; MEMATLAS_HEAP_NONE: in no group */
	const uint64_t *retained;
	const uint64_t *resident;
};
/* `bytes` and `resident` have an entry for each group. */
int mematlas_heap_sum_groups(const struct mematlas_heap_tree *nodes, uint32_t groups,
			     uint64_t *bytes, uint64_t *resident);

/* heap/pymalloc.c: CPython's allocator of small blocks. Replaces the blocks that hold its arenas.
 * Call it before mematlas_heap_index(). torn_pools <= pools */
struct mematlas_heap_pymalloc {
	uint64_t arenas;
	uint64_t pools;
	uint64_t torn_pools;
};
/* Returns the number of blocks added. */
int64_t mematlas_heap_pymalloc(struct mematlas_heap *heap, struct mematlas_heap_pymalloc *ret);

/* heap/python_classify.c: CPython's objects. Sets types and layouts of the blocks that hold one.
 * Call it once, after mematlas_heap_index(). */
enum mematlas_heap_python_part { /* keys of types of kind MEMATLAS_HEAP_TYPE_PYTHON_PART */
	MEMATLAS_PYTHON_FREE_LIST, /* kept by the interpreter for reuse */
	MEMATLAS_PYTHON_KEYS,
	MEMATLAS_PYTHON_SHARED_KEYS, /* names of the attributes of all instances of a class */
	MEMATLAS_PYTHON_VALUES,
	MEMATLAS_PYTHON_ITEMS,
	MEMATLAS_PYTHON_SET_TABLE,
	MEMATLAS_PYTHON_DEQUE_BLOCK,
	MEMATLAS_PYTHON_UTF8,
	MEMATLAS_PYTHON_BUFFER,
	MEMATLAS_PYTHON_PART_END
};
struct mematlas_heap_python {
	uint64_t objects;
	uint64_t kept; /* in free lists */
	uint64_t types;
	uint32_t version; /* minor; 0: no version with a known layout */
	uint32_t head; /* bytes of an object's head: 16; 32 without the GIL, where objects are read by words */
};
/* Returns the number of objects. -EEXIST: called before. */
int64_t mematlas_heap_python(struct mematlas_heap *heap, struct mematlas_heap_python *ret);
/* Address of the object in each block; 0: the block holds none. */
void mematlas_heap_python_objects(const struct mematlas_heap *heap, uint64_t *ret);
/* The dict at this address is the namespace of a module: its values get roots with names.
 * -ENOENT: no dict is there. */
int mematlas_heap_python_namespace(struct mematlas_heap *heap, uint64_t dict);
/* What moved between minor versions. heap_type, the size of a heap type, and code_size, the size of
 * a code object without its instructions, are read from the types `type` and `code`: they tell
 * the version. Offsets in bytes. */
struct mematlas_python_layout {
	uint16_t version; /* minor */
	uint16_t heap_type;
	uint16_t code_size;
	uint16_t cached_keys; /* ht_cached_keys; ht_module and the name follow */
	uint16_t string_data;
	uint16_t string_wide_data;
	uint16_t string_utf8;
	uint16_t values_items; /* of struct _dictvalues */
	uint16_t frame_code;
	uint16_t frame_function;
	uint16_t frame_locals;
	uint16_t frame_object;
	uint16_t frame_previous;
	uint16_t frame_top;
	uint16_t frame_owner;
	uint16_t frame_items;
	uint16_t frame_data; /* of a frame object: the frame it owns */
	uint16_t generator_frame;
	uint16_t generator_state;
	uint16_t generator_cleared; /* states from this one on have no frame */
	uint16_t code_locals; /* co_nlocalsplus; co_stacksize is 8 bytes before */
	uint16_t code_first_line;
	uint16_t thread_frame;
	uint16_t thread_id;
	uint16_t thread_native_id;
	uint16_t thread_chunk;
	uint16_t cframe_frame; /* 3.11, 3.12: thread_frame leads to a structure that holds the frame */
	uint16_t tagged_frames; /* 1: the low two bits of a frame's words are tags */
	uint32_t interpreter_threads;
	uint32_t interpreter_modules;
	uint32_t interpreter_type_cache;
};
/* NULL: no version with a known layout. */
const struct mematlas_python_layout *mematlas_heap_python_layout(const struct mematlas_heap *heap);
/* Bytes from the start of a frame to the end of the words in use. */
uint64_t mematlas_heap_python_frame(const struct mematlas_heap *heap, uint64_t frame);
/* Of each block that holds an object: its count of references (UINT32_MAX: immortal, or no object),
 * and the references to it that were found in blocks. */
void mematlas_heap_python_references(const struct mematlas_heap *heap, uint32_t *counts,
				     uint32_t *found);

/* heap/python_waste.c */
enum mematlas_heap_python_waste_kind {
	MEMATLAS_PYTHON_NO_WASTE,
	MEMATLAS_PYTHON_EMPTY, /* containers without items: their own bytes */
	MEMATLAS_PYTHON_SLACK, /* room behind the items of lists, dicts, sets */
	MEMATLAS_PYTHON_DICT_OF_INSTANCE /* what __slots__ would save */
};
/* Wasted bytes of each block, and why; and a hash of the content of each str and bytes (0: neither),
 * equal content has equal hashes. */
void mematlas_heap_python_waste(const struct mematlas_heap *heap, uint32_t *bytes, uint8_t *kinds,
				uint64_t *hashes);
