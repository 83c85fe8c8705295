<?php
function keep($n) { $kept = []; for ($i = 0; $i < $n; $i++) { $kept[] = str_repeat("x", 100) . $i; } return $kept; }
$kept = keep(200000);
if (PHP_SAPI === 'cli') { sleep(2); }
echo count($kept), " done\n";
