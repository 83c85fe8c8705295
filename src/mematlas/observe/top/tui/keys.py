"""The keys and signs of `mematlas top`, as its help shows them."""

HELP = """\
[b]Order and filter[/b]
  1 … 9, 0   sort by PSS, USS, RSS, swap, THP, faults, major faults,
             growth, PID, command; pressed again: reverse
  s, S       sort by the next or previous column; r: reverse
  t u c n    tree; group by user, cgroup, program; again: list
  /          filter: words of the command, user:root, cgroup:/app,
             pid:12, state:D, pss>100M (or uss, rss, swap, thp)
[b]Move[/b]
  ↑ ↓ PgUp PgDn Home End, or the mouse; click a heading to sort
  Enter      open a process: growth, address space, pages, faults;
             or list the processes of a group
  Esc        back; on the list: clear the filter
[b]Time[/b]
  space      pause, continue
  + -        longer or shorter interval; in a replay: faster, slower
  →          take a snapshot now
  ← → \\[ ]    in a replay: back, forward, to the start, to the end
[b]Signs[/b]
  …          not read yet         ?   access denied
  [i]italic[/i]     read over 30 s ago   -   zero
  PSS        each page divided by its number of users
  growth/s   change of RSS since the previous snapshot

  d  dark or light     ?  this     q  quit
"""
