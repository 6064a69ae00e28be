// Command runs records a run of each chapter as one HTML file, which replays
// anywhere: docs/runs/ch2.html and so on. The clients are those of the live page's
// buttons.
//
//	go run ./internal/live/runs [-o docs/runs] [-only ch5]
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/proc"
)

const (
	mostBytes    = 300_000 // of a file
	readyTimeout = time.Minute
	stopTimeout  = 10 * time.Second
	snapshotGap  = 250_000 // microseconds between two counts, as where the page saves
	rate         = 5       // requests a second of the stream
	share        = 12      // requests of the stream before the next thing happens
)

func main() {
	out := flag.String("o", "docs/runs", "`folder` for the files")
	only := flag.String("only", "", "record only this chapter, such as `ch5`")
	flag.Parse()
	for _, chapter := range book.Chapters {
		if *only != "" && *only != chapter.Short() {
			continue
		}
		name := filepath.Join(*out, chapter.Short()+".html")
		size, err := record(chapter, name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", chapter.Dir, err)
			os.Exit(1)
		}
		fmt.Printf("%s  %d kB\n", name, size/1000)
	}
}

// record runs a chapter and writes its file.
func record(chapter book.Chapter, name string) (size int, err error) {
	root, err := book.Root()
	if err != nil {
		return 0, err
	}
	bin, err := os.MkdirTemp("", "runs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	if err := proc.Build(root, bin+string(filepath.Separator), "./"+chapter.Dir); err != nil {
		return 0, err
	}
	program := proc.New(append([]string{filepath.Join(bin, chapter.Dir), "-log", "off",
		"-listen", "127.0.0.1:0", "-watch", "127.0.0.1:0"}, chapter.Demo()...)...)
	if err := program.Start(); err != nil {
		return 0, err
	}
	defer program.Stop(stopTimeout)
	// The proxy says that it is ready after the page has.
	watched := regexp.MustCompile(`(?m)^Watch live on http://(\S+)/$(?s:.*)^Ready on `)
	addrs, err := program.Ready(readyTimeout, watched, 1)
	if err != nil {
		return 0, err
	}
	p, err := open("http://" + addrs[0] + "/")
	if err != nil {
		return 0, err
	}
	defer p.stream.Close()
	if err := p.play(chapter); err != nil {
		return 0, err
	}
	file, err := p.file()
	if err != nil {
		return 0, err
	}
	if len(file) > mostBytes {
		return 0, fmt.Errorf("the file has %d bytes, more than %d", len(file), mostBytes)
	}
	return len(file), os.WriteFile(name, file, 0o644)
}

// page is a live page that is watched.
type page struct {
	url    string
	empty  []byte // what it saved before anything happened
	stream io.ReadCloser
	lines  *bufio.Reader
	hello  struct {
		Token  string
		Viewer uint64
	}
	now     counts
	events  []json.RawMessage
	history []json.RawMessage
	kept    int64 // T of the latest that stays in history
}

// counts are those that are waited for.
type counts struct {
	T           int64 // microseconds since the page's start
	Connections int
	Requests    int
	InFlight    int
	Idle        int
}

// quiet says that no connection is open.
func (c counts) quiet() bool { return c.InFlight+c.Idle == 0 }

func open(url string) (*page, error) {
	p := &page{url: url}
	saved, err := http.Get(url + "recording.html")
	if err != nil {
		return nil, err
	}
	defer saved.Body.Close()
	if p.empty, err = io.ReadAll(saved.Body); err != nil {
		return nil, err
	}
	answer, err := http.Get(url + "events")
	if err != nil {
		return nil, err
	}
	p.stream, p.lines = answer.Body, bufio.NewReader(answer.Body)
	for p.hello.Token == "" {
		if err := p.read(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// read takes one event of the stream.
func (p *page) read() error {
	var name, data []byte
	for {
		line, err := p.lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the page has ended: %w", err)
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			break
		}
		if field, value, _ := bytes.Cut(line, []byte(": ")); string(field) == "event" {
			name = value
		} else {
			data = value
		}
	}
	switch string(name) {
	case "hello":
		return json.Unmarshal(data, &p.hello)
	case "tick":
		return p.tick(data)
	case "lost":
		return errors.New("the page was too fast for this program")
	}
	return nil
}

// tick keeps events and, four times a second, counts.
func (p *page) tick(data []byte) error {
	var tick map[string]json.RawMessage
	var events []json.RawMessage
	err := errors.Join(json.Unmarshal(data, &p.now), json.Unmarshal(data, &tick))
	if err == nil {
		err = json.Unmarshal(tick["events"], &events)
	}
	if err != nil {
		return err
	}
	p.events = append(p.events, events...)
	delete(tick, "events")
	snapshot, err := json.Marshal(tick)
	if p.now.T-p.kept < snapshotGap && len(p.history) > 0 {
		p.history = p.history[:len(p.history)-1] // the newest is always there
	} else {
		p.kept = p.now.T
	}
	p.history = append(p.history, snapshot)
	return err
}

// do presses a button.
func (p *page) do(path, command string) error {
	request, err := http.NewRequest("POST", p.url+path, bytes.NewBufferString(command))
	if err != nil {
		return err
	}
	request.Header.Set("X-Live-Token", p.hello.Token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		why, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s %s: %s", path, command, why)
	}
	return nil
}

// until reads the stream until it is so.
func (p *page) until(seen func() bool) error {
	for !seen() {
		if err := p.read(); err != nil {
			return err
		}
	}
	return nil
}

// play does what the chapter is about.
func (p *page) play(chapter book.Chapter) error {
	name, clients := "ten", 10
	switch {
	case !chapter.Forwards():
		name, clients = "one", 1
	case len(chapter.Backends) > 1 && !chapter.Has(book.OneRequest):
		name, clients = "row", 1
	}
	err := p.do("shoot", `{"what":"`+name+`"}`)
	if err != nil {
		return err
	}
	done := func() bool { return p.now.Connections >= clients && p.now.quiet() }
	if err := p.until(done); err != nil || len(chapter.Backends) < 2 {
		return err
	}
	// A stream of requests, a stopped backend, its return.
	stream := func(rate int) error {
		return p.do("steady", fmt.Sprintf(`{"rate":%d,"viewer":%d}`, rate, p.hello.Viewer))
	}
	more := func() error {
		goal := p.now.Requests + share
		return p.until(func() bool { return p.now.Requests >= goal })
	}
	for _, step := range []func() error{
		func() error { return stream(rate) }, more,
		func() error { return p.do("backend", `{"what":"stop","backend":1}`) }, more,
		func() error { return p.do("backend", `{"what":"start","backend":1}`) }, more,
		func() error { return stream(0) },
		func() error { return p.until(done) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// file is what the page saved, with what has happened since.
func (p *page) file() ([]byte, error) {
	from := bytes.Index(p.empty, []byte(`,"history":[`))
	to := bytes.Index(p.empty, []byte(`]}</script>`))
	if from < 0 || to < from {
		return nil, errors.New("the page saves something else than it did")
	}
	history, err := json.Marshal(p.history)
	if err != nil {
		return nil, err
	}
	events, err := json.Marshal(p.events)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `%s,"history":%s,"events":%s%s`, p.empty[:from], history,
		events, p.empty[to+1:]), nil
}
