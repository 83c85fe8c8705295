my @kept = map { "text $_" x 5 } 1 .. 300000;
my %hash = map { $_ => "v$_" } 1 .. 150000;
sleep 2;
print scalar(@kept) + scalar(keys %hash), "\n";
exit 6;
