"""Names of allocation wrappers: functions that ask for memory on behalf of their callers.

Owners look through these functions. Each row is a program or library, the first three letters of the names,
and a regular expression that the whole name of a function must match, without parameters and template
arguments of the return type.

A row is compiled when a name begins as it says: all of them together take longer than a short run.
"""

from __future__ import annotations

import re
from functools import cache

START = 3  # letters

WRAPPERS: tuple[tuple[str, str, str], ...] = (
    (
        "C programs",
        "",
        r"(x|xx|z|s|ck|ec|sh_x|safe|checked|my|p|k)_?(m|c|re|rec|z|v)alloc(_?array|0|z|n)?",
    ),
    (
        "C programs",
        "ali mem pos str xas xme xpo xst xva",
        r"x?(str|strn|mem)dup(0|z)?|xasprintf|xvasprintf|x?(posix_)?memalign|aligned_alloc",
    ),
    (
        "C programs",
        "",
        r"(do_)?x(m|c|re)alloc(z|_array|_flags|zero|_gently)?|(i|x|xn|xz|x2)n?(m|c|re|z)alloc",
    ),
    ("C++", "", r"(.*::)?operator new.*|(new|delete)\[\]|__gnu_cxx::.*|std::.*"),
    (
        "GLib",
        "g_a g_c g_m g_r g_s g_t",
        r"g_(try_)?(malloc|realloc|calloc)(0)?(_n)?|g_aligned_alloc0?|g_(mem|str|strn)dup[a-z0-9]*",
    ),
    (
        "GLib",
        "g_a g_o g_s g_t",
        r"g_slice_(alloc0?|copy|.*_alloc.*)|g_type_create_instance|g_object_new.*|g_array_maybe_expand",
    ),
    (
        "FFmpeg",
        "av_",
        r"av_(fast_)?(m|c|re|p?m)alloc[a-z0-9_]*|av_(dynarray|buffer_(pool_(get|init)|realloc|alloc)|mem|str)[a-z0-9_]*",
    ),
    (
        "FFmpeg",
        "av_ avc ff_",
        r"ff_(frame_pool|get_buffer|default_get_video_buffer|get_video_buffer)[a-z0-9_]*|(ff|av)_get_buffer|avcodec_default_get_buffer2|av_(frame_(alloc|get_buffer)|packet_alloc|new_packet)",
    ),
    (
        "x264, x265, vpx",
        "aom vpx x26",
        r"x26[45](_\w+)?_(m|c|p)alloc|x265::X265_MALLOC|vpx_(m|c)alloc|vpx_memalign|aom_(m|c)alloc|aom_memalign",
    ),
    (
        "ImageMagick",
        "Acq Ext Res",
        r"(Acquire|Resize|Reset|Extend)(Aligned|Quantum|Virtual|Critical|Magick|Matrix|Pixel)?(Memory|Quantum|CacheMemory)|AcquireCriticalMemory|Acquire(Pixel|Streaming)?CacheNexus\w*|Acquire(Cache|Block)\w*",
    ),
    (
        "Perl",
        "Per S_m S_n",
        r"Perl_(safesys(m|c|re)alloc|more_(sv|bodies)|newSV\w*|sv_(upgrade|mortalcopy|newmortal|set)\w*|sv_(add_)?grow\w*|new_stackinfo\w*|av_extend\w*|get_arena|malloc|calloc|realloc)|PerlMem_\w+|PerlIO_allocate|Perl_slab\w*|S_(more_sv|new_body|new_sv)",
    ),
    (
        "Ruby",
        "hea new obj rb_ rub str xca xma xre",
        r"(ruby|rb)_(x|mim|gc_|objspace_)?(m|c|re)alloc[a-z0-9_]*|objspace_x\w+|(rb_)?x(m|c|re)alloc2?|rb_(usascii|utf8|enc|locale|external)_str_new\w*|rb_(newobj|wb_\w+_newobj|class_allocate|str_buf_new|ary_new_capa|memerror|aligned_malloc)\w*|heap_(page_allocate|prepare|assign_page|increment)\w*|newobj_\w+|str_(alloc|new0?|make_independent)\w*",
    ),
    (
        "R",
        "Get R_A R_P R_a R_c Rf_ all cus",
        r"Rf_alloc(Vector|Matrix|3DArray|Array|List|SExp|Lang|S4Object)\w*|R_(alloc|chk_(c|re)alloc|allocLD|AllocStringBuffer|PreserveObject)|Rf_(cons|lcons|mkChar\w*|mkPROMISE|NewEnvironment|duplicate\w*|shallow_duplicate)|GetNewPage|custom_node_alloc|allocVector\w*",
    ),
    (
        "Erlang",
        "asm car cre dri eni erl ert mbc mse os_ sbc",
        r"erts_(mmap|mremap|mseg_\w+|alcu_\w+|sys_(aligned_)?(re)?alloc\w*|alloc_\w+|alloc|realloc|aoffalc_\w+|bfalc_\w+|afalc_\w+|gfalc_\w+|fix_alloc\w*|bin_(nrml|drv)_alloc|tcdrain)|(mbc|sbc|carrier)_\w*alloc\w*|create_carrier|mseg_\w+|os_mmap|asmjit::.*(VirtMem|JitAllocator\w*|JitRuntime)::\w+|enif_alloc\w*|driver_alloc\w*|erl_\w*alloc",
    ),
    (
        "Guile, Boehm GC",
        "GC_ scm",
        r"GC_[a-z_0-9]*(alloc|expand_hp|get_mem|sbrk|unix_get_mem|hblk)\w*|scm_(gc_)?(m|c|re)alloc\w*|scm_must_malloc|scm_inline_gc\w*",
    ),
    (
        "Mono",
        "maj mon sge ves",
        r"mono_(valloc|valloc_aligned|mempool_\w*alloc\w*|image_alloc\w*|gc_alloc_\w+|object_new\w*|array_new\w*|string_new\w*|code_manager_reserve\w*|mem_manager_alloc\w*|domain_alloc\w*|sgen_\w*alloc\w*)|monoeg_(g_)?(try_)?(m|c|re)alloc\w*|monoeg_g_(mem|str|strn)dup|sgen_(alloc|los_alloc|large_alloc|get_.*memory|memgov_alloc)\w*|major_alloc_\w+|ves_icall_array_new\w*",
    ),
    (
        "nginx",
        "ngx",
        r"ngx_(alloc|shm_alloc|calloc|memalign|p(c|n|mem)?alloc\w*|palloc_\w+|create_pool|array_(create|push)\w*|list_(create|push)|slab_\w*alloc\w*|create_temp_buf|alloc_chain_link)",
    ),
    (
        "Octave",
        "Arr MAr",
        r"M?Array<.*std::allocator<.*>::(M?Array|clear|resize\w*|make_unique|ArrayRep::\w+)",
    ),
    (
        "jemalloc in programs",
        "are bas do_ eca eho ext hpa lar mal os_ pa_ pac pag tca",
        r"(os_)?pages_map|ehooks_default_\w+|(pa|pac|hpa|ecache|base)_alloc\w*|base_(block_alloc|new)|extent_(alloc|grow)\w*|arena_(extent_alloc|malloc|slab_alloc|palloc|ralloc|tcache_fill)\w*|tcache_(alloc|create)\w*|large_(m|p)alloc|malloc_default|do_rallocx",
    ),
    (
        "memmap2, LLVM",
        "<me get llv mem",
        r"<?memmap2::.*|getOpenFileImpl<.*|llvm::MemoryBuffer::\w+",
    ),
    (
        "Graphviz",
        "ag_ aga agc agr gca gma gre gv_ gva gvc gvr",
        r"g(m|c|re)alloc|(gv|ag)_?(re)?c?alloc",
    ),
    (
        "Vim",
        "all lal mch mem vim",
        r"lalloc\w*|alloc_(clear|id|clear_id|tv|check)|mem_realloc|vim_(str|mem)save\w*|mch_alloc",
    ),
    (
        "GHC",
        "all get osC osG osR stg",
        r"get(M|m)Blocks?\w*|getFreshMBlocks|alloc(Block|Group|LargeChunkGroup|MegaGroup|Many)\w*|os(GetMBlocks|ReserveHeapMemory|CommitMemory)|stg(Malloc|Calloc|Realloc)\w*|allocate(Pinned\w*|MightFail|MutableObj)",
    ),
    ("Boost", "boo", r"boost::.*(raw_storage|singleton_pool|allocator|pool)(<.*>)?::\w+"),
    ("HAProxy", "___ __p _po poo", r"_*pool_(alloc|get_from|refill|put_to|evict|allocate)\w*"),
    (
        "LibreOffice",
        "rtl sal",
        r"rtl_(u?String_(alloc|ImplAlloc|new)\w*|(re|c)?alloc(ate)?\w*|arena_\w+|cache_\w+)|sal_alloc\w*",
    ),
    (
        "Redis",
        "RM_ _sd je_ sds zca zma zre zst ztr",
        r"z(try)?(m|c|re)alloc\w*|zstrdup|zmalloc_\w+|sds(new|dup|empty|newlen|MakeRoomFor|grow)\w*|_sdsnewlen|RM_(Alloc|Calloc|Realloc)|je_\w+",
    ),
    (
        "PostgreSQL",
        "All Ano Bum Cre Gen Int Mem PGS Shm Sla dsa dsm pal pg_ pns pst rep shm",
        r"(MemoryContext|AllocSet|Slab|Generation|Bump)(Context)?(Alloc|Realloc|Create)\w*|(re)?palloc\w*|pstrdup|pnstrdup|(dsa|dsm|ShmemAlloc|shm)_?\w*alloc\w*|ShmemInit(Struct|Hash)|ShmemAlloc\w*|pg_(m|re)alloc\w*|(AnonymousShmem|CreateAnonymousSegment|PGSharedMemoryCreate|InternalIpcMemoryCreate)",
    ),
    (
        "MySQL, MariaDB",
        "MEM Mem all mal mem mul my_ os_ sql ut: ut_",
        r"my_(m|re|multi_)?(m|c)?alloc\w*|my_(large|virtual_mem)_\w+|alloc_root|multi_alloc_root|(MEM_ROOT|Mem_root)::\w*Alloc\w*|mem_(heap|area)_\w*|mem_heap_\w+|ut_allocator<.*|ut::.*alloc.*|sql_alloc|(ut_)?malloc_\w+|os_mem_alloc_large",
    ),
    (
        "SQLite",
        "mem pca sql",
        r"sqlite3_?(Db)?(Malloc|Realloc|MallocZero|MallocRaw\w*|MallocRawNN|DbMallocRaw\w*|ReallocOrFree|malloc|realloc|Realloc64|malloc64|realloc64)\w*|sqlite3(MemMalloc|PageMalloc|DbStrDup|DbStrNDup|PcacheFetch\w*|MemRealloc|VdbeMemGrow|DbRealloc\w*|StrAccumEnlarge\w*)|pcache1(Alloc|AllocPage|FetchStage2|Fetch\w*|InitBulk|ResizeHash)\w*|memjrnlWrite",
    ),
    (
        "PHP",
        "__z _ca _ec _em _er _es _ma _pe _pz _re _sa _ze eca ema ere est pec pem per pze saf zen",
        r"_?(safe_)?p?(e|zend_)(m|c|re)alloc\w*|_e?(m|c|re)alloc_\w+|_?safe_\w*alloc\w*|__zend_(m|c|re)alloc|zend_mm_\w+|_?estrn?dup|zend_string_(alloc|init|realloc|extend)|zend_arena_\w+|_emalloc\w*|_safe_emalloc",
    ),
    (
        "Lua",
        "cre int l_a lj_ lua new pre res",
        r"luaM_\w+|luaH_resize|luaC_newobj\w*|l_alloc|lj_(alloc|mem)_\w+|luaL_(prepbuffsize|addlstring|addvalue|pushresult\w*|buffinit\w*)|lua_(pushl?string|newuserdata\w*)|luaS_(newlstr|createlngstrobj|newudata|new)|internshrstr|createstrobj|(new|resize)box|prepbuffsize|lua_concat|luaV_concat",
    ),
    (
        "CPython",
        "PyD PyM PyO PyT _Py all are gc_ new pym",
        r"_?Py(Mem|Object|DataMem)_\w*(Raw|Malloc|Calloc|Realloc|New|NewVar|Alloc|Init|Dup)\w*|_?PyObject_(GC_|_)?(New|Malloc|Alloc)\w*|PyType_GenericAlloc|_PyMem_\w+|_PyObject_\w*(Malloc|Alloc|Realloc|Calloc)\w*|pymalloc_alloc|new_arena|allocate_from_new_pool|arena_map_get|gc_alloc|_PyGC_\w*alloc\w*",
    ),
    ("Cython", "__P __p", r"__Pyx_\w+|__pyx_fatalerror"),
    (
        "NumPy",
        "PyA PyD _Py def npy",
        r"(npy|PyDataMem|PyArray)_(alloc|UserNEW|NEW|calloc)\w*|_?PyDataMem_\w+|npy_alloc_cache\w*|default_(m|c)alloc|PyArray_NewFromDescr\w*|PyArray_(New|Empty|Zeros|EmptyLike|NewLikeArray\w*)(_int)?",
    ),
    (
        "OpenJDK",
        "All Ama Any Are Arr CHe Chu G1H G1P G1R Gro Hea Mal Met Mma NEW Rea Res Sta Vir ano os: res",
        r"os::(malloc|realloc|strdup|strdup_check_oom|reserve_memory\w*|commit_memory\w*|pd_\w*(commit|reserve)\w*|(pd_)?map_memory\w*|Linux::(commit|reserve|mmap)\w*|attempt_reserve\w*)|AllocateHeap|ReallocateHeap|(Arena|ChunkPool|Chunk)::\w+|(CHeapObj|ResourceObj|AnyObj|ArenaObj|StackObj|MetaspaceObj)(Base)?(<.*>)?::operator new.*|resource_allocate_bytes|(Reserved|Virtual)Space::\w+|ReservedHeapSpace::\w+|anon_mmap|Amalloc\w*|NEW_C_HEAP\w*|G1PageBasedVirtualSpace::\w+|G1Regions(Larger|Smaller)ThanCommitSizeMapper::\w+|G1RegionToSpaceMapper::\w+|(HeapRegionManager|G1HeapRegionManager)::(commit|expand|allocate)\w*|MallocArrayAllocator<.*|ArrayAllocator<.*|MmapArrayAllocator<.*|GrowableArray\w*::\w*(alloc|expand|grow)\w*",
    ),
    ("OpenJDK", "osS", r"osSupport::map_memory"),
    (
        "V8, Node.js",
        "nod v8:",
        r"v8::base::(OS|PageAllocator|BoundedPageAllocator|VirtualAddress\w+|LsanPageAllocator|RegionAllocator|AddressSpaceReservation)::\w+|v8::internal::(VirtualMemory|VirtualMemoryCage|MemoryAllocator|MemoryChunk|AllocationRegion|Malloced|CodeRange)(::.*)|v8::internal::Deserializer<.*>::Allocate\w*|v8::internal::(Aligned)?Alloc\w*WithRetry|v8::internal::(AllocatePages|NewArray<.*|Malloced::.*|AccountingAllocator::.*|Zone::(Expand|NewExpand|Allocate|AsanNew).*|ZoneAllocator.*|HeapAllocator::.*|Heap::(AllocateRaw|Allocate)\w*|(SemiSpace|SemiSpaceNewSpace|PagedSpace\w*|OldGenerationMemoryChunk|NewSpace|LargeObjectSpace|OldLargeObjectSpace|NewLargeObjectSpace|CodeLargeObjectSpace|LocalAllocationBuffer|EvacuationAllocator|CompactionSpace|ConcurrentAllocator|LocalHeap|MainAllocator)::\w*(Alloc|Grow|Expand|Commit|Refill|Add|Map)\w*|LocalFactory::.*|(Local)?Factory(Base)?(<.*>)?::(New|Allocate)\w*)|node::(Unchecked)?(Malloc|Calloc|Realloc)(<.*)?|node::NodeArrayBufferAllocator::\w+|node::UncheckedMalloc<.*|v8::ArrayBuffer::\w*New\w*|v8::internal::BackingStore::(Allocate|TryAllocate)\w*|v8::BackingStore::\w+|v8::ArrayBuffer::NewBackingStore",
    ),
    (
        "SpiderMonkey, JavaScriptCore, QuickJS",
        "JS_ Moz WTF bma js: js_ lre moz pas",
        r"js_(m|c|re|pod_)?(m|c|re)?alloc\w*|js::(gc|detail|MallocProvider|TempAllocPolicy|SystemAllocPolicy|ZoneAllocPolicy|AllocateBigInt)\w*::\w*(alloc|map|Alloc|Map)\w*|js::gc::(MapAligned|MapMemory|TryMap|ArenaList|GCRuntime::\w*[Aa]lloc|Chunk)\w*|MozTagged\w+|moz_x(m|c|re)alloc|WTF::(fast|tryFast|FastMalloc)\w*|bmalloc::.*|pas_\w+|JS_(New|Define)?\w*[mM]alloc\w*|js_def_\w+|lre_realloc",
    ),
    (
        "Rust",
        "<al <co <ha <st __r all cor exc has std",
        r"(<?alloc|hashbrown::raw|core|std)::\w.*|__(rust|rdl|rg)_\w+|alloc::.*|<(alloc|core|std|hashbrown)::.*|exchange_malloc",
    ),
    (
        "Go",
        "_cg cro int run x_c",
        r"runtime\..*|x_cgo_(mmap|malloc|munmap)|_cgo_.*|crosscall\w*|runtime/internal/.*|internal/(abi|runtime)/.*",
    ),
    (
        "OCaml",
        "all cam exp ini rea",
        r"caml_\w+|camlStdlib\w*__\w+|expand_heap|(re)?alloc_(mark_stack|generic_table)|init_heap_chunk\w*",
    ),
    (
        "APR, talloc, jemalloc",
        "_mi _rj _ta all apr je_ mi_ tal tc_",
        r"apr_p(alloc|calloc|strdup|strndup|memdup|ool_create\w*)\w*|allocator_alloc|_?talloc_\w+|(je_|_rjem_)\w+|tc_(m|c|re)alloc|_?mi_[a-z]\w*",
    ),
    (
        "OpenSSL, GnuTLS, libgcrypt",
        "BUF CRY OPE _gc gcr gnu",
        r"CRYPTO_(m|z|re|clear_re|secure_m)alloc\w*|CRYPTO_(str|mem|strn)dup|OPENSSL_(m|z|re)alloc|gnutls_(m|c|re)alloc|_?gcry_x?(m|c|re)alloc\w*|_gcry_private_\w*alloc|BUF_MEM_grow\w*",
    ),
    (
        "Qt",
        "QAr QHa QLi QMa QSt QtP qMa qRe",
        r"Q(Array|List|Hash|Map|String)Data::(allocate\w*|reallocate\w*|detach\w*|realloc\w*)|QArrayData::\w+|qMalloc\w*|qRealloc\w*|QtPrivate::\w*alloc\w*",
    ),
    (
        "Arrow",
        "arr",
        r"arrow::(\(anonymous namespace\)::)?(\w*MemoryPool\w*(<.*>)?|\w*Allocator|PoolBuffer|ResizableBuffer|\w*BufferBuilder(<.*>)?|CPUMemoryManager|MemoryManager)::\w+|arrow::(Allocate\w*(Buffer|Bitmap)\w*|AllocateBufferImpl|ResizePoolBuffer(<.*>)?)",
    ),
    (
        "XLA",
        "xla",
        r"xla::(\(anonymous namespace\)::)?(\w*Allocator|BufferAlloc|\w*DeviceMemory)::Allocate\w*",
    ),
    (
        "libxml2, zlib, cURL",
        "Cur cur xml zca zm_",
        r"xml(Mem)?(Malloc|Realloc|Strdup|MemStrdup|MallocLoc|ReallocLoc)\w*|xmlDict\w*Add\w*|zcalloc|zm_alloc|curl_(do|dbg)?_?(m|c|re)alloc|Curl_c?(m|c|re)alloc|(curl_dbg|curl_easy)_\w*alloc",
    ),
    (
        "Git",
        "ALL all do_ mem str xca xma xre",
        r"(x|do_x)(m|c|re)alloc\w*|mem_pool_(alloc|calloc|init)|alloc_node|strbuf_(grow|init)|ALLOC_GROW",
    ),
    (
        "Tcl, GNU",
        "Tcl _ob all bfd ggc llv obj obs rtx tre",
        r"Tcl_(Db)?(Attempt)?(Cka|Rea|A)lloc\w*|Tcl(pAlloc|pRealloc|AllocateFreeObjects)\w*|_?obstack_(begin|newchunk|begin_1|allocate_from_heap)\w*|_obstack_\w+|ggc_(internal_)?\w*alloc\w*|ggc_\w+|(rtx|tree)_alloc\w*|alloc_page|bfd_(m|z|re)?(m|z)?alloc\w*|objalloc_\w+|_objalloc_\w+|llvm::(safe_(m|c|re)alloc|allocate_buffer|BumpPtrAllocatorImpl<.*|SmallVectorBase<.*|sys::Memory::\w+|StringMapImpl::\w+|FoldingSet\w*::\w+|MallocAllocator.*)",
    ),
)
"""Rows of (program, starts, regular expression). Without starts, names begin in too many ways."""

LIBRARY_WRAPPERS: tuple[tuple[str, str, str], ...] = (
    (
        "SBCL, SWI-Prolog, PARI",
        "PL_ all new os_ par",
        r"os_(alloc_gc_space|validate\w*)|PL_(m|re)alloc(_\w+)?|allocHeap\w*|newblock|new_chunk_resize|pari_(m|re|c)alloc",
    ),
    (
        "any library",
        "",
        r"(\w*_)?((x|s|k|safe_)?(m|c|re|z|v)|mem_?(m|c|re|z)?)alloc(0|z|n|array)?(_(n|nt|x|aux|debug|raw|full|plain|default|warn|unguarded|or_die|internal|aligned|multiple|wrapper|zero|memory|root|dist|array|\d+))*_*|alloc",
    ),
    (
        "any library",
        "",
        r"(\w+::)*(\w*_)?([A-Za-z]*(Malloc|Calloc|Realloc)|(Big|Mid|Aligned|My|Safe|Raw|Checked|Mem|Heap)Alloc)|\w+_mem_?(str|strn)?dup(_\w{1,4})?",
    ),
)
"""Forms of names: of a wrapper in a library, but in a program of one's own also of a function that just uses it."""

DISPATCHERS: tuple[tuple[str, str, str], ...] = (
    (
        "main functions",
        "",
        r"_*main|_start|\w+_main|main\.main|Main|WinMain|wmain|start_thread|__?clone\d?|JavaMain|mono_main|ThreadJavaMain",
    ),
    (
        "interpreters",
        "R_R R_T R_e R_t R_w Rf_ bcE do_ for run set",
        r"Rf_(eval|applyClosure|ReplIteration|mainloop|usemethod|DispatchOrEval|run_Rmainloop|initEmbeddedR)|R_(execMethod|ReplDLLdo1|ReplFile|tryCatch\w*|ToplevelExec|withCallingErrorHandler|execClosure)|run_Rmainloop|setup_Rmainloop|bcEval\w*|do_(begin|eval|External|docall|dotcall|dotCode|internal|lapply|set)|forcePromise",
    ),
    (
        "interpreters",
        "inv rb_ rub vm_",
        r"rb_(vm_exec|vm_\w*invoke\w*|vm_call\w*|iseq_eval\w*|funcall\w*|yield\w*|ensure|rescue2?|protect|call\w*|exec_recursive\w*|block_call|catch\w*|thread_\w+|fiber_\w+|ec_\w+|respond_to|each|iterate)|vm_(exec|call|invoke|sendish)\w*|ruby_(run_node|exec_node|init|setup|options|process_options|sysinit|executable_node)|invoke_\w+",
    ),
    (
        "interpreters",
        "do_ exe php zen",
        r"execute_ex|zend_(execute\w*|call_function|call_known_\w+|include_or_eval|hash_apply\w*|hash_(add|find|update|real_init)?_?\w*resize)|php_execute_script\w*|php_cli\w*|do_cli|php_(module|request)_startup|zend_startup\w*",
    ),
    (
        "interpreters",
        "Per S_p S_r doc lua per pma",
        r"lua_p?callk?|luaD_\w+|luaV_(execute|finishOp)|luaL_(dofile|callmeta)|docall|pmain|Perl_(runops_\w+|call_sv|call_list|yyparse|pp_(entersub|require|entereval))|perl_(run|parse|construct)|S_(run_body|parse_body)",
    ),
    (
        "interpreters",
        "GC_ scm vm_",
        r"scm_(call\w*|apply\w*|eval\w*|primitive_(eval|load)\w*|c_(with|catch|call|call_with)\w*|with_\w+|shell|boot_guile|internal_catch|dynamic_wind|load_startup_files|i_\w*eval\w*|i_with\w*|throw)|vm_(debug|regular)_engine|GC_(call_with\w*|do_blocking\w*)",
    ),
    (
        "interpreters",
        "mon",
        r"mono_(runtime_\w*invoke\w*|jit_\w*(exec|compile)\w*|interp_exec\w*|main\w*|mini_init|compile_method\w*|jit_runtime_invoke|runtime_exec_main\w*|thread_\w*start\w*)",
    ),
    (
        "interpreters",
        "erl ert pro sch sql",
        r"process_main|erts_dirty_process_main|erts_sched_thread_\w+|erl_start|sched_\w*thread_func|sqlite3_(step|exec|prepare\w*)|sqlite3VdbeExec|sqlite3Run\w*",
    ),
    (
        "interpreters",
        "Bui JNI Jav Thr VMT cal ini jni nod thr v8:",
        r"v8::internal::(Execution|Invoke|\(anonymous namespace\)::Invoke)\w*(::.*)?|v8::(Function::Call|Script::Run|internal::Builtin_\w+)|Builtins_\w*(Entry|Trampoline|Call|Invoke)\w*|node::(Start\w*|LoadEnvironment|InternalMakeCallback|MakeCallback|SpinEventLoop\w*|NodeMainInstance::\w+)|JavaCalls::\w+|(JavaThread|Thread|VMThread)::\w*(run|call_run|thread_main)\w*|thread_native_entry|JNI_CreateJavaVM|Threads::create_vm|init_globals|call_stub|jni_(Call|Invoke)\w*",
    ),
    (
        "interpreters",
        "byt com eva loa nor sta",
        r"load-with-code-conversion|eval-(buffer|region|expression)|byte-code|command-line(-1)?|normal-top-level|startup--\S+",
    ),
    (
        "thread pools",
        "<cr <fu <ra <to cro fut ray tok",
        r"<?rayon(_core)?::(?!thread_pool::ThreadPool>::install::<+(?!rayon|\()).*|<?(tokio::(runtime|task)|crossbeam\w*|futures_\w+)::.*",
    ),
    (
        "thread pools",
        "Eig arr tbb tsl",
        r"arrow::internal::(FnOnce|ThreadPool|TaskGroup|SerialExecutor|Executor|WorkerLoop|LaunchWorker)\b.*|(tsl|Eigen)::(\w+::)*ThreadPool\w*.*|tbb::detail::.*",
    ),
    (
        "event loops",
        "Bac Pos Ser aeM aeP do_ ev_ eve g_m han ngx uv_",
        r"g_main_(context|loop)_\w+|uv_run|uv__\w*(io_poll|run)\w*|event_base_\w*loop|aeMain|aeProcessEvents|ev_run|ngx_(master_process_cycle|spawn_process|single_process_cycle|process_events_and_timers|worker_process_cycle|start_worker_processes)|ServerLoop|BackendRun|PostmasterMain|PostgresMain|handle_one_connection|do_handle_one_connection",
    ),
    (
        "runtimes",
        "CRY GOM __l __p _dl cal dl_ dlo lt_ run",
        r"GOMP_\w+|lt_dl\w+|(call|_dl)_init|_dl_\w+|__libc_\w+|__pthread_\w+|dlopen\w*|dl_open_worker\w*|CRYPTO_THREAD_run_once|runtime\.(main|goexit\w*|rt0_go|mstart\w*|schedule|gcBgMarkWorker\w*|bgsweep\w*)",
    ),
)
"""Functions that run other code: never named as owners while another function is on the stack."""


def _by_start(rows: tuple[tuple[str, str, str], ...]) -> dict[str, list[str]]:
    """Return the regular expressions by the first letters of the names that they match; "": of any."""
    found: dict[str, list[str]] = {"": []}
    for _, starts, pattern in rows:
        for start in starts.split() or [""]:
            found.setdefault(start, []).append(pattern)
    return found


_WRAPPERS = _by_start(WRAPPERS)
_LIBRARY_WRAPPERS = _by_start(LIBRARY_WRAPPERS)
_DISPATCHERS = _by_start(DISPATCHERS)
_compiled = cache(re.compile)


def _matches(rows: dict[str, list[str]], function: str) -> bool:
    likely = [*rows[""], *rows.get(function[:START], ())]
    return any(_compiled(pattern).fullmatch(function) for pattern in likely)


def is_wrapper(function: str, *, library: bool = False) -> bool:
    """Return whether a native function allocates on behalf of its callers. `library`: it is not the user's own."""
    return _matches(_WRAPPERS, function) or (library and _matches(_LIBRARY_WRAPPERS, function))


def is_dispatcher(function: str) -> bool:
    """Return whether a native function runs the code of others: a main, an interpreter, an event loop."""
    return _matches(_DISPATCHERS, function)
