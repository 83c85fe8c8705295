"""The keys of the live view, as its help shows them."""

HELP = """\
[b]What is shown[/b]
  m, M       rank lines by the next or previous metric
  w          what the last 10 s, minute, 10 minutes allocated and left
             live; pressed again: the whole run
  /          filter: only lines with these words in function or file
  Enter      the line: its figures and its heaviest call stack
  r          the whole report, or the lines again
  o          the output of the program so far, or the lines again
  Esc        back; on the lines: clear the filter, end the window
[b]Move[/b]
  ↑ ↓ PgUp PgDn Home End, or the mouse
[b]Run[/b]
  space      stop reading, or go on; the recording goes on
  Ctrl-C     interrupt the program, or detach from an attached one
  q          leave: `run` waits for the program, `attach` detaches
[b]Figures[/b]
  Bytes are those of the account, the moment of the highest RSS so
  far; allocated and temporary bytes are those of the whole run.

  d  dark or light     ?  this     q  quit
"""
