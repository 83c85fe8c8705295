set terminal svg size 800,600
set output "out.svg"
set isosamples 400
set samples 20000
plot sin(x), [t=0:10] cos(t * x)
splot x * y, x ** 2 - y ** 2
