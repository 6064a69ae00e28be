// Command compare shows the live pages of two programs side by side. What is
// pressed is sent to both at the same moment:
//
//	go run ./scripts/compare ./ch2_basic_proxy ./ch4_threaded
//	go run ./scripts/compare ./ch3_process_model './ch3_process_model -prefork 4'
//	go run ./scripts/compare docs/runs/ch2.html docs/runs/ch4.html
//
// A side is a chapter's folder, with flags of its program if it is quoted, or a
// file that a live page has saved. Chapters run with demo backends of their own.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/live"
	"reverseproxy/internal/proc"
)

//go:embed static
var static embed.FS

const (
	listen       = "127.0.0.1:9092"
	readyTimeout = time.Minute // for a program that was just built
	stopTimeout  = 10 * time.Second
	readTimeout  = 10 * time.Second // of a request
	maxHeader    = 16 << 10         // bytes
)

// Policies of the page, and of a recording in its frame, which may load nothing.
const (
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; " +
		"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	recorded = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

var watched = regexp.MustCompile(`(?m)^Watch live on http://(\S+)/$`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "compare:", err)
		}
		os.Exit(2)
	}
}

// run serves the page until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("listen", listen, "`address` for the page")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: go run ./scripts/compare [-listen ADDR] SIDE SIDE\n"+
			"A SIDE is a chapter's folder or a saved recording, such as ./ch4_threaded")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		flags.Usage()
		return errors.New("name two sides")
	}
	if strings.HasPrefix(*addr, ":") {
		*addr = "127.0.0.1" + *addr // the page has buttons: not for everybody, unless asked
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with -listen",
			*addr, err)
	}
	defer listener.Close()
	bin, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)

	mux := http.NewServeMux()
	files, err := fs.Sub(static, "static")
	if err != nil {
		return err
	}
	mux.Handle("/", http.FileServerFS(files))
	for i, name := range []string{"left", "right"} {
		side, stop, err := open(flags.Arg(i), bin)
		if err != nil {
			return fmt.Errorf("%s: %w", flags.Arg(i), err)
		}
		defer stop()
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, side))
	}
	hosts := live.AllowedHosts(*addr, listener.Addr())
	server := &http.Server{Handler: live.Guard(hosts, policy, mux), ReadHeaderTimeout: readTimeout,
		ReadTimeout: readTimeout, IdleTimeout: readTimeout, MaxHeaderBytes: maxHeader}
	fmt.Fprintf(stdout, "Ready on %s: open http://%[1]s/ (Ctrl+C ends it)\n", listener.Addr())
	go func() { // ends with ctx
		<-ctx.Done()
		server.Close() // streams have no end of their own
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// open returns what answers for a side, and what ends it.
func open(side, bin string) (http.Handler, func(), error) {
	if strings.HasSuffix(side, ".html") {
		if _, err := os.Stat(side); err != nil {
			return nil, nil, err
		}
		return recording(side), func() {}, nil
	}
	command := strings.Fields(side)
	if len(command) == 0 {
		return nil, nil, errors.New("name a folder or a recording")
	}
	chapter, known := book.Find(filepath.Base(command[0]))
	if !known {
		return nil, nil, errors.New("this is neither a chapter's folder nor a recording")
	}
	root, err := book.Root()
	if err != nil {
		return nil, nil, err
	}
	if err := proc.Build(root, bin+string(filepath.Separator), "./"+chapter.Dir); err != nil {
		return nil, nil, err
	}
	args := append([]string{filepath.Join(bin, chapter.Dir), "-log", "off",
		"-listen", "127.0.0.1:0", "-watch", "127.0.0.1:0"}, chapter.Demo()...)
	program := proc.New(append(args, command[1:]...)...)
	program.Cmd.Dir = root
	if err := program.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() { program.Stop(stopTimeout) }
	addrs, err := program.Ready(readyTimeout, watched, 1)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return page(addrs[0]), stop, nil
}

// page passes requests on to a live page. Guard has seen that they come from our
// own page; the live page sees them come from its own, and asks for its token.
func page(addr string) http.Handler {
	const policy = "Content-Security-Policy"
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			for _, field := range []string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"} {
				r.Out.Header.Del(field)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			for name := range r.Header { // Guard has written those that they share
				if !strings.HasPrefix(name, "Content-") {
					r.Header.Del(name)
				}
			}
			r.Header.Set(policy, live.Framed(r.Header.Get(policy)))
			return nil
		},
		FlushInterval: -1, // each event at once
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del(policy) // Guard's, which is our own page's
		proxy.ServeHTTP(w, r)
	})
}

// recording serves a file that a live page has saved.
func recording(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := os.ReadFile(name)
		if err != nil || r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Security-Policy", recorded)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(body)
	})
}
