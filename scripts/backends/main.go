// Command backends starts the demo backends on their own, for a proxy started
// in another terminal:
//
//	go run ./scripts/backends [-host 127.0.0.1] [-ports 8000,8001,8002] [-capacity 100]
//
// One line for each backend, "Ready on HOST:PORT ...", says that it listens
// and where. Ctrl+C (SIGINT) or SIGTERM ends all with a tally and exit code 0; an
// address that cannot be taken ends the program with 1, a bad flag with 2.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"reverseproxy/internal/backends"
	"reverseproxy/internal/book"
)

const (
	defaultPorts = "8000,8001,8002"
	maxBackends  = 100    // more than that is a slip of the finger
	maxCapacity  = 10_000 // requests a second: the clock is no finer
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run starts the backends, waits for the context's end and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	host, ports, capacity, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	addrs := make([]string, len(ports))
	for i, port := range ports {
		addrs[i] = net.JoinHostPort(host, port)
	}
	group, err := backends.StartLimited(addrs, capacity)
	if err != nil {
		fmt.Fprintln(stderr, cure(err))
		return 1
	}
	defer group.Close()
	announce(stdout, group.Addrs())
	<-ctx.Done()
	group.Close()
	tally(stdout, group)
	return 0
}

// parse reads the flags. What is wrong with them has been printed when it
// returns an error.
func parse(args []string, stderr io.Writer) (host string, ports []string, capacity int,
	err error) {
	flags := flag.NewFlagSet("backends", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&host, "host", "127.0.0.1", "`address` of this machine to listen on")
	list := flags.String("ports", defaultPorts,
		"`ports` separated by commas, one backend each; 0 takes a free one")
	flags.IntVar(&capacity, "capacity", 0, "most `requests` a second that each backend serves, "+
		"one after another;\n200 wait, or the work of 2 s, and others get 503; "+
		"0 serves all at once")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Starts demo backends for a proxy to stand in front of.\n\n"+
			"Usage: go run ./scripts/backends [flags]\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nEach backend answers:\n", backends.Endpoints)
	}
	if err := flags.Parse(args); err != nil {
		return "", nil, 0, err
	}
	if capacity < 0 || capacity > maxCapacity {
		err = fmt.Errorf("-capacity must be 0 to %d", maxCapacity)
	} else if flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: ports are given as -ports %s",
			flags.Arg(0), defaultPorts)
	} else {
		ports, err = splitPorts(*list)
	}
	if err != nil {
		fmt.Fprintf(stderr, "backends: %v\n", err)
	}
	return host, ports, capacity, err
}

// splitPorts reads a list of port numbers, 0 to 65535, without duplicates
// other than 0.
func splitPorts(list string) ([]string, error) {
	ports := strings.Split(list, ",")
	if len(ports) > maxBackends {
		return nil, fmt.Errorf("-ports names %d ports, more than %d", len(ports), maxBackends)
	}
	seen := make(map[string]bool)
	for i, port := range ports {
		n, err := strconv.ParseUint(strings.TrimSpace(port), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("-ports: %q is no port number from 0 to 65535; write for "+
				"example -ports %s",
				port, defaultPorts)
		}
		port = strconv.FormatUint(n, 10)
		if n != 0 && seen[port] {
			return nil, fmt.Errorf("-ports names %s twice", port)
		}
		seen[port] = true
		ports[i] = port
	}
	return ports, nil
}

// cure words a start-up error for somebody who started this program.
func cure(err error) string {
	var listen *backends.ListenError
	if !errors.As(err, &listen) {
		return "backends: " + err.Error()
	}
	if listen.InUse {
		return fmt.Sprintf("backends: something already listens on %s, perhaps these backends in "+
			"another "+
			"terminal: use those, or choose other ports, for example -ports 8100,8101,8102",
			listen.Addr)
	}
	return fmt.Sprintf("backends: %v; -host names the address, -ports the ports", listen.Unwrap())
}

// announce prints a readiness line for each backend, and what to try next.
func announce(w io.Writer, addrs []string) {
	for _, addr := range addrs {
		fmt.Fprintf(w, "Ready on %s    try: curl http://%s/api/data\n", addr, addr)
	}
	several, one := book.Of(5), book.Of(4)
	flags := ""
	if list := strings.Join(addrs, ","); list != strings.Join(several.Backends, ",") {
		flags = " -backends " + list
	}
	fmt.Fprintf(w, "Next, in another terminal:  go run ./%s%s\n", several.Dir, flags)
	flags = ""
	if addrs[0] != one.Backends[0] {
		flags = " -backend " + addrs[0]
	}
	fmt.Fprintf(w, "or, with one backend only:  go run ./%s%s\n", one.Dir, flags)
	fmt.Fprintln(w, "Ctrl+C ends the backends.")
}

// tally prints how many requests each backend has received.
func tally(w io.Writer, group *backends.Group) {
	fmt.Fprintln(w)
	for i, addr := range group.Addrs() {
		n, plural := group.Requests(i), "s"
		if n == 1 {
			plural = ""
		}
		fmt.Fprintf(w, "%s received %d request%s\n", addr, n, plural)
	}
}
