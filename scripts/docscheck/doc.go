// Command docscheck keeps the book true: it compares what the pages quote, show
// and link to with the source and with fresh runs of the programs.
//
//	go run ./scripts/docscheck [-u] [-norun] [-c DIR] [PAGE.md ...]
//
// Without arguments it checks README.md, docs/**/*.md and scripts/**/README.md.
// It prints FILE:LINE and the difference for everything that has drifted and
// exits 1; -u rewrites the drifted blocks in place (look at the result with git
// diff before you commit it); -norun leaves the transcripts alone, which makes a
// check take no longer than a blink.
//
// A directive is an HTML comment directly before a fenced block (a blank line
// between them is allowed). Files are named from the root of the repository.
//
// # Quotes
//
//	<!-- quote ch4_threaded/main.go#accept-loop -->  // region accept-loop to // endregion
//	<!-- quote ch4_threaded/main.go func serve -->   a function with its comment; Type.Method
//	<!-- quote ch4_threaded/main.go type limits -->  also "const NAME" and "var NAME"
//	<!-- quote ch4_threaded/main.go step 5 -->       from the comment "// 5. ..." to the next
//	<!-- quote ch4_threaded/main.go step 5..9 -->    several steps of one function
//	<!-- quote ch4_threaded/main.go header -->       the comment that opens the file
//	<!-- quote go.mod -->                            the whole file
//
// The block holds the lines as they stand, common indentation removed, marker
// lines of regions left out. Write an empty fenced block and run -u to fill it.
//
// # Diffs
//
//	<!-- diff ch2_basic_proxy/main.go ch4_threaded/main.go -->
//	<!-- diff ch2_basic_proxy/main.go ch4_threaded/main.go func serve -->
//
// before a block marked "diff": a unified diff with one line of context. The
// second form compares only that part; every selector of quote works.
//
// # Transcripts
//
// The block is a terminal. Lines that start with "$ " are commands, everything
// else is what they printed, standard output and standard error together:
//
//	<!-- run -->
//	```console
//	$ go run ./ch4_threaded -demo &
//	Demo backends on 127.0.0.1:8000
//	Ready on 127.0.0.1:8080 ...
//	$ curl -s http://127.0.0.1:8080/api/data
//	{"backend":"8000","request":1,"path":"/api/data"}
//	^C
//	Summary: 1 connections, ...
//	```
//
// Each command runs in sh, in the root of the repository. One that ends in "&"
// runs in the background: a program of this repository is waited for until its
// readiness line, any other until it waits for something itself. It has no ";", after which
// alone a shell would run in the background. What a foreground command prints comes
// directly under it, then what background commands print until they stand still, and as many
// lines as the page shows have come: how long that takes is the machine's business. "^C" interrupts
// the last background command that still runs and waits for it. "$ wait" waits for
// all background commands but the programs of this repository. In a command "$!" is
// the pid of the last background command. A line that ends in a backslash is
// continued on the next one. Background commands left at the end are stopped.
//
// Commands can also stand in the comment; the block then shows only the output:
//
//	<!-- run go run ./ch4_threaded -h -->
//
//	<!-- run
//	go run ./ch4_threaded -demo &
//	curl -s http://127.0.0.1:8080/
//	^C
//	-->
//
// Programs are built once and run as binaries; "go run ./X" is replaced by the
// binary and a failing one adds "exit status N" as go run does. The ports 8080,
// 8000, 8001, 8002, 9090 and 9091 are replaced by free ones of four digits while
// the commands run, in the commands and as the programs' defaults, and replaced
// back in what they print. Output is not coloured, and curl names itself
// curl/8.14.1, so that byte counts stay the same everywhere.
//
// Compared are the lines with runs of blanks as one and without what differs from run to
// run: port numbers of five digits after an address, pids and numbers of goroutines and threads,
// clock times and dates, durations in ns, µs or ms or with a fraction, CPU
// and memory figures. A line "..." in the block stands for any number of lines. A block
// that agrees is left alone by -u; one that does not is replaced whole.
//
// Options stand between run and the command:
//
//	-backends        the demo backends run beside the commands; what they print is not shown
//	-unordered       compare the lines under each command in any order
//	-mask REGEXP     what it matches is not compared (no blanks in it; may be repeated)
//	-needs A,B       skip, with a note, when program A or B is not installed (fail when CI=true)
//	-timeout 5m      for each foreground command; 2m if not given
//
// A block that shows a command, "$ ", has a directive; without one nobody would know
// whether it is true. One that cannot be run says so: the line above it is
// "*Not run by docscheck: REASON*".
//
// # C programs
//
// DIR/X.c in a command is a C program: that of the folder that -c names, or a stand-in
// in testdata/c, which makes the same mistakes. Either is copied with free ports in the
// place of its fixed ones.
//
// # Links
//
// Relative links and images must lead to an existing file or directory of the
// repository, "#name" to a heading (GitHub's rules for its name), "#L10" to a line that
// exists. Addresses with a scheme are not looked up. Pages hold no HTML but comments.
//
// The tests of this package check the code in the same way: the step comments of
// the chapters against the table of internal/book, the size of main.go and of the
// differences between chapters, and the direction of imports.
package main
