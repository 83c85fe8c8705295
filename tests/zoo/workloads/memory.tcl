for {set i 0} {$i < 200000} {incr i} { set a($i) "value $i"; lappend l [list $i [expr {$i * 2}]] }
after 1500
puts "[array size a] [llength $l]"
exit 2
