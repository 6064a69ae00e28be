package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"reverseproxy/scripts/reader/site"
)

// server serves the book. It builds it anew when one of its sources has changed, so
// that a page reloaded after an edit is up to date.
type server struct {
	options  site.Options
	listener net.Listener
	out      io.Writer

	mu    sync.Mutex
	built *site.Site
	stamp string // of the sources when it was built
}

// Limits of a request; the reader serves a few readers on this machine.
const (
	headerTimeout = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 2 * time.Second
	maxHeader     = 16 << 10 // bytes
)

func newServer(s settings, out io.Writer) (*server, error) {
	srv := &server{options: s.site, out: out}
	if _, err := srv.site(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program: choose another address with "+
			"-listen, or -listen 127.0.0.1:0 for a free port", s.listen)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", s.listen, err)
	}
	srv.listener = listener
	return srv, nil
}

// serve is the reader without -o: it serves until Ctrl+C.
func serve(ctx context.Context, s settings, stdout io.Writer) error {
	srv, err := newServer(s, stdout)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Ready on %s: open http://%s/ (Ctrl+C ends it)\n", srv.addr(), srv.addr())
	return srv.serve(ctx)
}

func (s *server) addr() string { return s.listener.Addr().String() }

// serve returns when ctx ends, or with the error that serving failed with.
func (s *server) serve(ctx context.Context) error {
	h := &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	failed := make(chan error, 1)
	// This goroutine ends with Shutdown or Close below, or when serving fails.
	go func() { failed <- h.Serve(s.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if h.Shutdown(limit) != nil {
		return h.Close()
	}
	return nil
}

// site returns the built book, built anew if a source has changed.
func (s *server) site() (*site.Site, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.built != nil && s.stamp == stamp(s.built.Sources) {
		return s.built, nil
	}
	built, err := site.Build(s.options)
	if err != nil {
		return nil, err
	}
	s.built, s.stamp = built, stamp(built.Sources)
	report(built, s.out)
	return built, nil
}

// stamp is different when a file has been changed, made or removed.
func stamp(files []string) string {
	var b strings.Builder
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			fmt.Fprintf(&b, "%d.%d ", info.ModTime().UnixNano(), info.Size())
		} else {
			b.WriteString("- ")
		}
	}
	return b.String()
}

// ServeHTTP answers with a page of the book. The Host of a request must be this
// machine or a bare address: a page of another site that has its name resolve to
// this address (DNS rebinding) gets nothing.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; "+
		"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cache-Control", "no-cache")
	if !localHost(r.Host) {
		http.Error(w, "The reader answers only under this machine's address.",
			http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "The reader only shows.", http.StatusMethodNotAllowed)
		return
	}
	built, err := s.site()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	body, ok := built.Files[name]
	if !ok {
		http.Error(w, "The book has no such page.", http.StatusNotFound)
		return
	}
	switch {
	case strings.HasPrefix(name, site.Runs):
		head.Set("Content-Security-Policy", "frame-ancestors 'none'") // beside its own
	case name == site.Playground: // may compile the program that it holds
		policy := head.Get("Content-Security-Policy")
		head.Set("Content-Security-Policy",
			strings.Replace(policy, "script-src", "script-src 'wasm-unsafe-eval'", 1))
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		head.Set("Content-Type", t)
	}
	head.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

// localHost says whether a Host field names this machine or is an IP address.
func localHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}
