"""Print reads in SAM format."""

print("@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:1000000")
for read in range(200_000):
    print(
        f"r{read}\t0\tchr1\t{read * 7919 % 999_000 + 1}\t60\t50M\t*\t0\t0\t{'ACGTT' * 10}\t{'I' * 50}"
    )
