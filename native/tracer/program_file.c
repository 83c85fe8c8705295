/* Reads program files before their exec: scripts, ELF headers, the loader's path, needed libraries. */
#define _GNU_SOURCE
#include "program_file.h"

#include <alloca.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "syscall.h"

#define MAX_SCRIPTS 4 /* as the kernel follows */
#define SCRIPT_BYTES 256 /* as the kernel reads */
#define MAX_HEADERS 64u
#define MAX_DYNAMIC 512u
#define MAX_CHAIN 64
#define MAX_STRINGS (1ul << 20)
#define DEFAULT_PATH "/bin:/usr/bin"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

static bool read_at(int fd, uint64_t offset, void *buffer, size_t size)
{
	return trace_syscall(SYS_pread64, fd, buffer, size, offset) == (long)size;
}

/* Reads a string that the file may end within; always terminated. */
static bool read_text(int fd, uint64_t offset, char *text, size_t size)
{
	long length = trace_syscall(SYS_pread64, fd, text, size - 1, offset);

	text[length > 0 ? length : 0] = 0;
	return length > 0;
}

/* The loader ignores LD_PRELOAD in a program that gains privileges. Root's real user ID hides file
 * capabilities from that rule. */
static bool gains_privileges(int fd, const struct stat *stat)
{
	char capability[1];

	if ((stat->st_mode & S_ISUID) && stat->st_uid != geteuid())
		return true;
	if ((stat->st_mode & S_ISGID) && (stat->st_mode & S_IXGRP) && stat->st_gid != getegid())
		return true;
	return geteuid() != 0 &&
	       trace_syscall(SYS_fgetxattr, fd, "security.capability", capability, 0) > 0;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The names of glibc's loader on its platforms. musl's and bionic's loaders cannot relocate a library
 * built against glibc. */
static bool is_glibc_loader(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	return starts_with(name, "ld-linux") || starts_with(name, "ld-2.") ||
	       starts_with(name, "ld64.so") || starts_with(name, "ld-lsb") ||
	       starts_with(name, "ld.so");
}

/* What the program headers and the dynamic section tell; offsets in the file, 0: none.
 *
 *   dynamic_count <= MAX_DYNAMIC */
struct image {
	int fd;
	uint32_t headers; /* number of program headers */
	uint64_t headers_at;
	uint64_t dynamic_at;
	uint32_t dynamic_count;
	bool has_interpreter;
	char interpreter[128];
	uint64_t strings_at, strings_size, symbols_at, hash_at;
};

static bool read_header(const struct image *image, uint32_t i, Elf64_Phdr *header)
{
	return read_at(image->fd, image->headers_at + i * sizeof *header, header, sizeof *header);
}

static uint64_t offset_of_address(const struct image *image, uint64_t address)
{
	Elf64_Phdr header;

	for (uint32_t i = 0; i < image->headers && read_header(image, i, &header); i++)
		if (header.p_type == PT_LOAD && address - header.p_vaddr < header.p_filesz)
			return address - header.p_vaddr + header.p_offset;
	return 0;
}

static void read_headers(struct image *image, const Elf64_Ehdr *elf)
{
	Elf64_Phdr header;

	image->headers_at = elf->e_phoff;
	if (elf->e_phentsize == sizeof header)
		image->headers = elf->e_phnum < MAX_HEADERS ? elf->e_phnum : MAX_HEADERS;
	for (uint32_t i = 0; i < image->headers && read_header(image, i, &header); i++) {
		if (header.p_type == PT_INTERP)
			image->has_interpreter =
				read_text(image->fd, header.p_offset, image->interpreter,
					  sizeof image->interpreter);
		if (header.p_type == PT_DYNAMIC) {
			uint64_t count = header.p_filesz / sizeof(Elf64_Dyn);
			image->dynamic_at = header.p_offset;
			image->dynamic_count = count < MAX_DYNAMIC ? (uint32_t)count : MAX_DYNAMIC;
		}
	}
}

static bool read_dynamic(const struct image *image, uint32_t i, Elf64_Dyn *entry)
{
	return i < image->dynamic_count &&
	       read_at(image->fd, image->dynamic_at + i * sizeof *entry, entry, sizeof *entry) &&
	       entry->d_tag != DT_NULL;
}

static void locate_tables(struct image *image)
{
	Elf64_Dyn entry;

	for (uint32_t i = 0; read_dynamic(image, i, &entry); i++) {
		if (entry.d_tag == DT_STRTAB)
			image->strings_at = offset_of_address(image, entry.d_un.d_ptr);
		else if (entry.d_tag == DT_STRSZ)
			image->strings_size = entry.d_un.d_val;
		else if (entry.d_tag == DT_SYMTAB)
			image->symbols_at = offset_of_address(image, entry.d_un.d_ptr);
		else if (entry.d_tag == DT_GNU_HASH)
			image->hash_at = offset_of_address(image, entry.d_un.d_ptr);
	}
}

/* Has the dynamic section a string of that tag which starts with one of the prefixes? */
static bool has_string(const struct image *image, int64_t tag, const char *const *prefixes)
{
	Elf64_Dyn entry;
	char text[32];

	for (uint32_t i = 0; image->strings_at && read_dynamic(image, i, &entry); i++) {
		if (entry.d_tag != tag ||
		    !read_text(image->fd, image->strings_at + entry.d_un.d_val, text, sizeof text))
			continue;
		for (const char *const *prefix = prefixes; *prefix; prefix++)
			if (starts_with(text, *prefix))
				return true;
	}
	return false;
}

/* DT_GNU_HASH: header, bloom filter of 64-bit words, buckets, chains. */
struct hash_header {
	uint32_t buckets, first_symbol, bloom_words, bloom_shift;
};

static bool is_chained(const struct image *image, const struct hash_header *header, uint32_t hash,
		       uint32_t symbol, const char *name)
{
	uint64_t chains =
		image->hash_at + sizeof *header + header->bloom_words * 8ul + header->buckets * 4ul;
	uint32_t chain = 0;
	Elf64_Sym entry;
	char text[32];

	for (int steps = 0; symbol >= header->first_symbol && !(chain & 1) && steps < MAX_CHAIN;
	     symbol++, steps++) {
		if (!read_at(image->fd, chains + (symbol - header->first_symbol) * 4ul, &chain, 4))
			return false;
		if ((chain | 1) == (hash | 1) &&
		    read_at(image->fd, image->symbols_at + symbol * sizeof entry, &entry,
			    sizeof entry) &&
		    entry.st_shndx != SHN_UNDEF &&
		    read_text(image->fd, image->strings_at + entry.st_name, text, sizeof text) &&
		    strcmp(text, name) == 0)
			return true;
	}
	return false;
}

/* Does the program define a function of that name for its libraries? */
static bool defines(const struct image *image, const char *name)
{
	struct hash_header header;
	uint32_t hash = 5381, bucket;
	uint64_t bloom;

	for (const char *at = name; *at; at++)
		hash = hash * 33 + (unsigned char)*at;
	if (!image->hash_at || !read_at(image->fd, image->hash_at, &header, sizeof header) ||
	    header.buckets == 0 || header.bloom_words == 0)
		return false;
	uint64_t filter = image->hash_at + sizeof header;
	if (!read_at(image->fd, filter + hash / 64 % header.bloom_words * 8ul, &bloom, 8) ||
	    !(bloom >> (hash % 64) & 1) || !(bloom >> ((hash >> header.bloom_shift) % 64) & 1))
		return false;
	return read_at(image->fd, filter + header.bloom_words * 8ul + hash % header.buckets * 4ul,
		       &bucket, 4) &&
	       is_chained(image, &header, hash, bucket, name);
}

/* Is there a dynamic symbol whose name contains a text? */
static bool names_contain(const struct image *image, const char *text)
{
	char block[1024];
	size_t overlap = strlen(text);

	for (uint64_t at = 0; at < image->strings_size && at < MAX_STRINGS;
	     at += sizeof block - overlap) {
		long length = trace_syscall(SYS_pread64, image->fd, block, sizeof block,
					    image->strings_at + at);
		if (length <= 0)
			return false;
		if (memmem(block, (size_t)length, text, overlap))
			return true;
	}
	return false;
}

/* The runtimes of sanitizers intercept the same functions as the tracer, print the frames of their
 * callers, and hang or crash where another library called them first. UBSan intercepts nothing. */
static bool is_sanitized(const struct image *image)
{
	static const char *const runtimes[] = {"libasan.so",         "libtsan.so",
					       "liblsan.so",         "libhwasan.so",
					       "libclang_rt.asan",   "libclang_rt.tsan",
					       "libclang_rt.hwasan", "libclang_rt.lsan",
					       "libclang_rt.msan",   NULL};

	return has_string(image, DT_NEEDED, runtimes) ||
	       (defines(image, "malloc") &&
		(names_contain(image, "__sanitizer_") || names_contain(image, "__lsan_")));
}

static enum trace_left_kind classify_elf(int fd, const char *head)
{
	static const char *const loader[] = {"ld-linux", NULL};
	struct image image = {.fd = fd};
	Elf64_Ehdr elf;

	if (head[EI_CLASS] != ELFCLASS64 || head[EI_DATA] != ELFDATA2LSB ||
	    !read_at(fd, 0, &elf, sizeof elf) || elf.e_machine != MACHINE)
		return TRACE_LEFT_FOREIGN;
	read_headers(&image, &elf);
	locate_tables(&image);
	/* The loader itself, run as a program, loads what LD_PRELOAD names. */
	if (!image.has_interpreter)
		return has_string(&image, DT_SONAME, loader) ? TRACE_LEFT_NOT : TRACE_LEFT_STATIC;
	if (!is_glibc_loader(image.interpreter))
		return TRACE_LEFT_OTHER_LIBC;
	return is_sanitized(&image) ? TRACE_LEFT_SANITIZED : TRACE_LEFT_NOT;
}

/* Cuts the interpreter's path out of a #! line; NULL: none. */
static const char *find_interpreter(char *head)
{
	char *path = head + 2 + strspn(head + 2, " \t");

	path[strcspn(path, " \t\n")] = 0;
	return *path ? path : NULL;
}

/* Returns a descriptor or -errno. Only a regular file is opened: opening a device may act on it. */
static int open_program(int directory, const char *path, int flags, struct stat *stat)
{
	char link[32];

	if (flags & AT_EMPTY_PATH && !*path) {
		/* The descriptor may be O_PATH, which cannot be read. */
		int digits = 0;
		strcpy(link, "/proc/self/fd/");
		for (int rest = directory; rest; rest /= 10)
			digits++;
		digits += digits == 0;
		link[14 + digits] = 0;
		for (int rest = directory; digits-- > 0; rest /= 10)
			link[14 + digits] = (char)('0' + rest % 10);
		path = link;
	}
	int fd = (int)trace_syscall(SYS_openat, directory, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	bool regular = trace_syscall(SYS_newfstatat, fd, "", stat, AT_EMPTY_PATH) == 0 &&
		       S_ISREG(stat->st_mode);
	trace_syscall(SYS_close, fd);
	return regular ? (int)trace_syscall(SYS_openat, directory, path,
					    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0)
		       : -EINVAL;
}

/* Reads one file. True: a script, whose interpreter's path is left in `head`. */
static bool read_program(int fd, const struct stat *stat, char *head, enum trace_left_kind *left)
{
	if (!read_text(fd, 0, head, SCRIPT_BYTES))
		return false;
	if (starts_with(head, "#!"))
		return true;
	/* The kernel ignores a script's own set-user-ID bit. */
	if (gains_privileges(fd, stat))
		*left = TRACE_LEFT_PRIVILEGED;
	else if (starts_with(head, ELFMAG))
		*left = classify_elf(fd, head);
	return false;
}

enum trace_left_kind trace_program_read(int directory, const char *path, int flags)
{
	enum trace_left_kind left = TRACE_LEFT_NOT;
	char head[SCRIPT_BYTES];
	struct stat stat;
	bool is_script = true;
	int saved = errno;

	for (int depth = 0; path && is_script && depth <= MAX_SCRIPTS; depth++) {
		int fd = open_program(directory, path, flags, &stat);
		/* Without a descriptor to read the program, bare is the safe way to run it. A program that
		 * may be executed but not read is loaded as any other. */
		if (fd == -EMFILE || fd == -ENFILE)
			left = TRACE_LEFT_UNREAD;
		if (fd < 0)
			break;
		is_script = read_program(fd, &stat, head, &left);
		trace_syscall(SYS_close, fd);
		path = is_script ? find_interpreter(head) : NULL;
		directory = AT_FDCWD;
		flags = 0;
	}
	errno = saved;
	return left;
}

static bool is_executable(const char *path)
{
	struct stat stat;

	return trace_syscall(SYS_newfstatat, AT_FDCWD, path, &stat, 0) == 0 &&
	       S_ISREG(stat.st_mode) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

enum trace_left_kind trace_program_search(const char *file)
{
	const char *path = getenv("PATH");
	int saved = errno;

	if (strchr(file, '/') || !*file)
		return trace_program_read(AT_FDCWD, file, 0);
	if (!path)
		path = DEFAULT_PATH;
	char *candidate = alloca(strlen(path) + 1 + strlen(file) + 1);
	for (const char *at = path;; at++) {
		size_t length = strcspn(at, ":");
		memcpy(candidate, at, length);
		candidate[length] = '/';
		strcpy(candidate + length + (length > 0), file);
		if (is_executable(candidate)) {
			errno = saved;
			return trace_program_read(AT_FDCWD, candidate, 0);
		}
		at += length;
		if (!*at)
			break;
	}
	errno = saved;
	return TRACE_LEFT_NOT;
}
