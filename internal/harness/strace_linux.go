package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Traced is Launch with the program under strace. The second result returns,
// after the program has ended, what it did in order: the system calls on its
// sockets that succeeded ("socket", "accept", "read client", "write backend",
// ...) and, for each step that it narrated in JSON, "told 4". Where one call
// follows another of the same kind on the same socket, it is named once. Which
// of a connection's two sockets is closed first is not told: the backend's is
// named first. The list ends with the first connection.
func Traced(t *testing.T, l Launch) (Launch, func() []string) {
	t.Helper()
	Need(t, "strace")
	file := filepath.Join(t.TempDir(), "trace")
	l.Under = []string{"strace", "-f", "-s", "1000", "-o", file,
		"-e", "trace=socket,bind,listen,accept,accept4,connect,read,readv,recvfrom,write,writev," +
			"sendto,splice,close"}
	return l, func() []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return parseTrace(string(text))
	}
}

// tracedSocket is a socket that the traced program has made or accepted.
type tracedSocket struct {
	role string // "listener", "client", "backend"; "" as long as it is not known
}

type tracedCall struct {
	name   string
	socket *tracedSocket // nil for "told N"
}

var (
	traceLine  = regexp.MustCompile(`^(\d+) +(.*)$`)
	unfinished = regexp.MustCompile(`^(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	callLine   = regexp.MustCompile(`^(\w+)\((\d*)(.*)\) += (-?\d+)(.*)$`)
	toldStep   = regexp.MustCompile(`\\"event\\":\\"step\\",.*?\\"step\\":(\d+)`)
)

// parseTrace turns strace's output into the list that Traced describes. A call
// counts at the moment it returns.
func parseTrace(text string) []string {
	begun := map[string]string{} // thread: the call it is in
	sockets := map[int]*tracedSocket{}
	var calls []tracedCall
	for line := range strings.Lines(text) {
		m := traceLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		thread, rest := m[1], m[2]
		if u := unfinished.FindStringSubmatch(rest); u != nil {
			begun[thread] = u[1]
			continue
		}
		if r := resumed.FindStringSubmatch(rest); r != nil {
			rest = begun[thread] + r[1]
		}
		if c := callLine.FindStringSubmatch(rest); c != nil {
			fd, _ := strconv.Atoi(c[2])
			result, _ := strconv.Atoi(c[4])
			calls = append(calls, tracedCalls(sockets, c[1], fd, result, c[3], c[5])...)
		}
	}
	return story(calls)
}

// tracedCalls returns what one system call adds to the list.
func tracedCalls(sockets map[int]*tracedSocket, name string, fd, result int, args,
	rest string) []tracedCall {
	s := sockets[fd]
	switch name {
	case "socket":
		if result >= 0 {
			s = &tracedSocket{}
			sockets[result] = s
			return []tracedCall{{"socket", s}}
		}
		return nil
	case "accept", "accept4":
		if s != nil && result >= 0 {
			sockets[result] = &tracedSocket{role: "client"}
			return []tracedCall{{"accept", s}}
		}
		return nil
	case "write":
		if fd == 1 {
			var told []tracedCall
			for _, m := range toldStep.FindAllStringSubmatch(args, -1) {
				told = append(told, tracedCall{"told " + m[1], nil})
			}
			return told
		}
	}
	inProgress := name == "connect" && strings.Contains(rest, "EINPROGRESS")
	if s == nil || result < 0 && !inProgress {
		return nil
	}
	switch name {
	case "listen":
		s.role = "listener"
	case "connect":
		s.role = "backend"
	case "close":
		delete(sockets, fd)
	}
	return []tracedCall{{name, s}}
}

// story names the calls on sockets whose role has become known, and the steps
// told, up to step 10.
func story(calls []tracedCall) []string {
	var list []string
	for _, c := range calls {
		name := c.name
		if c.socket != nil {
			if c.socket.role == "" {
				continue // Go looks at its start which protocols the kernel has
			}
			switch name {
			case "read", "write", "close":
				name = fmt.Sprintf("%s %s", name, c.socket.role)
			}
		}
		last := len(list) - 1
		switch {
		case last >= 0 && list[last] == name:
		case last >= 0 && name == "close backend" && list[last] == "close client":
			list = append(list[:last], name, "close client")
		default:
			list = append(list, name)
		}
		if name == "told 10" {
			break
		}
	}
	return list
}
