/* Sorts the exported functions of a library by address. */
#include "functions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
/* Sorted. Functions that wait, and that no allocator calls. */
static const char *const waits[] = {
	"__poll", "__poll_chk", "__read", "__select", "__sigsuspend", "__wait", "__waitpid",
	"accept", "accept4", "connect", "epoll_pwait", "epoll_pwait2", "epoll_wait", "flock",
	"fsync", "io_getevents", "mq_receive", "mq_timedreceive", "msgrcv", "pause", "poll",
	"ppoll", "pread", "pread64", "pselect", "pthread_barrier_wait", "pthread_clockjoin_np",
	"pthread_cond_clockwait", "pthread_cond_timedwait", "pthread_cond_wait", "pthread_join",
	"pthread_timedjoin_np", "pthread_tryjoin_np", "read", "readv", "recv", "recvfrom",
	"recvmmsg", "recvmsg", "select", "sem_clockwait", "sem_timedwait", "sem_wait", "semop",
	"semtimedop", "send", "sendmsg", "sendto", "sigpause", "sigsuspend", "sigtimedwait",
	"sigwait", "sigwaitinfo", "wait", "wait3", "wait4", "waitid", "waitpid", "write",
	"writev",
};

/* Sorted. Plain wrappers of system calls and functions without a lock; an allocator linked into the
 * program may call them while it holds one of its own. */
static const char *const calls[] = {
	"__clock_gettime", "__clock_nanosleep", "__nanosleep", "__sched_yield", "__write",
	"clock_gettime", "clock_nanosleep", "close", "fcntl", "fcntl64", "fdatasync", "fstat",
	"ftruncate", "getpid", "getppid", "getrusage", "gettid", "gettimeofday", "ioctl", "kill",
	"lseek", "lseek64", "madvise", "mmap", "mmap64", "mprotect", "munmap", "nanosleep",
	"open", "open64", "openat", "openat64", "pthread_kill", "pthread_mutex_lock",
	"pthread_mutex_timedlock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock",
	"pthread_spin_lock", "pwrite", "pwrite64", "raise", "sched_yield", "sigaction",
	"sigprocmask", "stat", "syscall", "tgkill", "time", "usleep",
};

/* Sorted. Around a call of the program, or around a function that waits. */
static const char *const around[] = {
	"_IO_default_uflow", "_IO_default_xsputn", "_IO_do_write", "_IO_fflush",
	"_IO_file_fopen", "_IO_file_overflow", "_IO_file_read", "_IO_file_sync",
	"_IO_file_underflow", "_IO_file_write", "_IO_file_xsgetn", "_IO_file_xsputn",
	"_IO_flush_all_linebuffered", "_IO_fputs", "_IO_fwrite", "_IO_getc", "_IO_getline",
	"_IO_getline_info", "_IO_putc", "_IO_puts", "_IO_sgetn", "__clone", "__fprintf_chk",
	"__getdelim", "__isoc99_fscanf", "__isoc99_scanf", "__libc_start_main", "__overflow",
	"__printf_chk", "__syslog_chk", "__uflow", "__underflow", "__vfprintf_chk",
	"__vsyslog_chk", "bsearch", "call_once", "clone", "dprintf", "fflush", "fgetc", "fgets",
	"fprintf", "fputc", "fputs", "fread", "ftw", "ftw64", "fwrite", "getaddrinfo", "getc",
	"getchar", "getdelim", "getline", "lfind", "lsearch", "nftw", "nftw64", "pclose",
	"perror", "printf", "pthread_create", "pthread_once", "putc", "putchar", "puts", "qsort",
	"qsort_r", "sleep", "syslog", "system", "twalk", "vfprintf", "vprintf", "vsyslog",
};

/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int compare_names(const void *name, const void *entry)
{
	return strcmp(name, *(const char *const *)entry);
}

static bool is_in(const char *name, const char *const *names, size_t count)
{
	return bsearch(name, names, count, sizeof *names, compare_names) != NULL;
}

static enum function_kind kind_of(const char *name)
{
	return is_in(name, waits, COUNT(waits))     ? FUNCTION_WAITS
	       : is_in(name, calls, COUNT(calls))   ? FUNCTION_CALLS
	       : is_in(name, around, COUNT(around)) ? FUNCTION_AROUND
						    : FUNCTION_OTHER;
}

static int by_address(const void *first, const void *second)
{
	const struct function *a = first, *b = second;

	return a->start < b->start ? -1 : a->start > b->start;
}

static void collect(const struct image *image, struct functions *functions)
{
	for (uint64_t i = 0; i < functions->symbols.count; i++) {
		const Elf64_Sym *symbol = &functions->symbols.entries[i];
		unsigned type = ELF64_ST_TYPE(symbol->st_info);
		const char *name = symbols_name(&functions->symbols, symbol);
		if (symbol->st_shndx == SHN_UNDEF || symbol->st_size == 0 ||
		    (type != STT_FUNC && type != STT_GNU_IFUNC))
			continue;
		functions->entries[functions->count++] = (struct function){
			.start = symbol->st_value + image->bias,
			.end = symbol->st_value + image->bias + symbol->st_size,
			.name = symbol->st_name,
			.kind = kind_of(name),
		};
	}
}

/* Of two names of one function, the one whose kind is known, else the one that programs use. */
static bool is_better(const struct functions *functions, const struct function *entry,
		      const struct function *kept)
{
	if ((entry->kind == FUNCTION_OTHER) != (kept->kind == FUNCTION_OTHER))
		return entry->kind != FUNCTION_OTHER;
	return functions_name(functions, kept)[0] == '_';
}

/* Keeps one entry of each address. */
static void merge_aliases(struct functions *functions)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < functions->count; i++) {
		struct function *entry = &functions->entries[i];
		struct function *last = kept ? &functions->entries[kept - 1] : NULL;
		if (!last || last->start != entry->start)
			functions->entries[kept++] = *entry;
		else if (is_better(functions, entry, last))
			*last = *entry;
	}
	functions->count = kept;
}

int functions_read(struct process_memory *memory, const struct image *image, struct functions *ret)
{
	*ret = (struct functions){0};
	int error = symbols_read(memory, image, &ret->symbols);
	if (error)
		return error;
	ret->entries = calloc(ret->symbols.count, sizeof *ret->entries);
	if (!ret->entries) {
		functions_free(ret);
		return -ENOMEM;
	}
	collect(image, ret);
	qsort(ret->entries, ret->count, sizeof *ret->entries, by_address);
	merge_aliases(ret);
	return 0;
}

void functions_free(struct functions *functions)
{
	free(functions->entries);
	symbols_free(&functions->symbols);
	*functions = (struct functions){0};
}

const struct function *functions_at(const struct functions *functions, uint64_t address)
{
	uint64_t low = 0, high = functions->count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (functions->entries[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	const struct function *found = low ? &functions->entries[low - 1] : NULL;
	return found && address < found->end ? found : NULL;
}

const char *functions_name(const struct functions *functions, const struct function *function)
{
	return function->name < functions->symbols.names_size
		       ? functions->symbols.names + function->name
		       : "";
}
