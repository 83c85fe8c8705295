x <- rnorm(4e6)
l <- lapply(1:20000, function(i) seq(1, 100) + i)
Sys.sleep(2)
cat(length(x) + length(l), "\n")
