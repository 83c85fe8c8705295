// Keeps strings and vectors, and appends to FILE what keep() has live: known_strings FILE
#include <cstdio>
#include <string>
#include <vector>

__attribute__((noinline, noclone)) static std::string *keep(std::size_t size)
{
	return new std::string(size, 'x');
}

int main(int argc, char **argv)
{
	std::size_t live = 0;
	if (argc < 2)
		return 2;
	static std::string *volatile held[30000];
	for (std::size_t i = 0; i < 30000; i++) {
		held[i] = keep(600 + i % 300);
		live += sizeof(std::string) + 600 + i % 300 + 1;
	}
	std::FILE *file = std::fopen(argv[1], "a");
	if (!file)
		return 1;
	std::fprintf(file, "{\"shape\": \"strings\", \"live\": %zu, \"peak\": %zu, \"allocated\": %zu}\n", live,
		     live, live);
	return std::fclose(file);
}
