// Package live serves the live page: the connections that run through a proxy,
// as they happen, in a browser.
//
// The proxy's narrator calls Sink for each event. Sink counts the event and
// packs it into a ring that holds the last minute; it does nothing else, so a
// page that nobody watches costs next to nothing. While somebody watches, one
// goroutine takes what is new from the ring twenty times a second and hands it
// to every viewer as a server-sent event.
package live

import (
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/narrate"
)

//go:embed static
var static embed.FS

// Backends are the demo backends, which the page can stop and start. The index
// of a backend is that of its address.
type Backends interface {
	Addrs() []string
	Running(i int) bool
	Stop(i int) error
	Restart(i int) error
}

// Config says what the page shows.
type Config struct {
	Chapter      string            // the program's name, "ch4_threaded"
	Narrator     *narrate.Narrator // for slow motion; may be nil
	Backends     Backends          // the demo backends; nil without -demo
	BackendAddrs []string          // the backends' addresses, in order
	Workers      string            // the worker model in words, "a goroutine for each connection"
	Single       bool              // the main goroutine serves all clients, one at a time
	RawCalls     bool              // the program makes the socket calls itself
	Keeps        bool              // it keeps connections for further requests
}

// Server is a running live page. Its methods may be called from any goroutine.
type Server struct {
	config   Config
	col      *collector
	hub      *hub
	shots    *shooter
	listener net.Listener
	http     *http.Server
	token    string // actions must carry it
	hosts    Hosts
	limits   limits
	saving   chan struct{} // holds one value for each recording that is being sent

	mu        sync.Mutex
	proxy     string // where the proxy listens
	drain     func(addr string, drain bool) error
	balancing Balancing

	closing sync.Once
	running sync.WaitGroup
}

const (
	headerLimit = 16 << 10 // bytes
	maxConns    = 256      // connections to the page, viewers included
	lastWords   = 500 * time.Millisecond
)

// limits say how long a client may take. Each of them is needed: a client that
// may take for ever keeps one of the maxConns places for ever.
type limits struct {
	header  time.Duration // to send a request's header
	request time.Duration // to send the request, its body included
	idle    time.Duration // between two requests
	write   time.Duration // to take an answer, or one piece of a recording
	saving  time.Duration // to take a whole recording
}

var usual = limits{header: 5 * time.Second, request: 10 * time.Second, idle: 5 * time.Second,
	write: viewerWrite, saving: time.Minute}

// Start listens on addr and serves the page there until Close. An address
// without a host means 127.0.0.1.
func Start(addr string, c Config) (*Server, error) { return startWith(addr, c, usual) }

func startWith(addr string, c Config, lim limits) (*Server, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the live page: %w", err)
	}
	if chapter, known := book.Find(c.Chapter); known {
		c.Workers = cmp.Or(c.Workers, chapter.Worker)
		c.Single, c.RawCalls = chapter.Serial, chapter.Raw
		c.Keeps = chapter.Forwards() && !chapter.Has(book.OneRequest)
	}
	secret := make([]byte, 16)
	rand.Read(secret)
	s := &Server{config: c, token: hex.EncodeToString(secret),
		listener: &limitListener{Listener: l, slots: make(chan struct{}, maxConns)},
		hosts:    AllowedHosts(addr, l.Addr()), limits: lim,
		saving: make(chan struct{}, maxRecordings)}
	s.col = newCollector(time.Now(), c.BackendAddrs)
	s.col.pools = c.Keeps
	s.shots = newShooter(s.col)
	s.hub = newHub(s.col, s.snapshot)
	// Streams outlive these: net/http lifts the read deadline once it has the
	// whole request, and eventWriter sets a write deadline of its own.
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: lim.header,
		ReadTimeout: lim.request, IdleTimeout: lim.idle, WriteTimeout: lim.write,
		MaxHeaderBytes: headerLimit, ErrorLog: quietLog}
	s.running.Add(2)
	go func() { // ends when Close closes hub.done
		defer s.running.Done()
		s.hub.run()
	}()
	go func() { // ends when Close closes the listener
		defer s.running.Done()
		s.http.Serve(s.listener)
	}()
	return s, nil
}

// Addr returns the address that the page is served on, "127.0.0.1:9090".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// SetProxy tells where the proxy listens; before that the buttons do nothing.
func (s *Server) SetProxy(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy = addr
}

// Drains says what the buttons call that drain a backend, which then gets no
// new requests, or end that. Until then there are no such buttons.
func (s *Server) Drains(f func(addr string, drain bool) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain = f
}

func (s *Server) drains() func(addr string, drain bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain
}

// Balancing is a choice among the algorithms by which backends are chosen.
type Balancing struct {
	Names []string // of all algorithms
	Using func() string
	Use   func(name string) error
}

// Balances says which algorithms the page can switch to. Until then there is no list
// of them.
func (s *Server) Balances(b Balancing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.balancing = b
}

func (s *Server) balances() Balancing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.balancing
}

func (s *Server) proxyAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proxy
}

// Sink takes one event. It takes well under a microsecond, never waits for a
// viewer and allocates nothing once it has seen a minute of traffic.
func (s *Server) Sink(e narrate.Event) { s.col.sink(e) }

// Close ends the page and its clients. Viewers get what is left first; one
// that is too slow for it is cut off after half a second.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.shots.close()
		s.hub.end()
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.http.Close()
		}
	})
	s.running.Wait()
}

// handler routes the page's requests; guard has checked them.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /events", s.stream)
	mux.HandleFunc("GET /recording.html", s.recording)
	mux.HandleFunc("POST /shoot", s.action(s.shoot))
	mux.HandleFunc("POST /steady", s.action(s.keepSending))
	mux.HandleFunc("POST /backend", s.action(s.switchBackend))
	mux.HandleFunc("POST /drain", s.action(s.drainBackend))
	mux.HandleFunc("POST /algorithm", s.action(s.balance))
	mux.HandleFunc("POST /slow", s.action(s.slowMotion))
	return s.guard(mux)
}

// hello returns what opens a viewer's stream, or, without a token, a recording.
func (s *Server) hello(token string, viewer uint64) hello {
	open := s.col.open()
	s.col.mu.Lock()
	defer s.col.mu.Unlock()
	h := hello{Chapter: s.config.Chapter, Workers: s.config.Workers, Proxy: s.proxyAddr(),
		Single: s.config.Single, RawCalls: s.config.RawCalls,
		Forwards: len(s.config.BackendAddrs) > 0, Keeps: s.config.Keeps,
		Demo: s.config.Backends != nil, Token: token, Viewer: viewer,
		StartedAt: s.col.start.UnixMilli(),
		Now:       s.col.now(), Listening: append([]record{}, s.col.listening...),
		Children: []record{}, Open: open}
	for _, started := range s.col.workers {
		h.Children = append(h.Children, started)
	}
	return h
}

// snapshot returns the counts as viewers get them.
func (s *Server) snapshot() snapshot {
	counts, _ := s.col.snapshot()
	now := snapshot{At: s.col.now(), Counts: counts, Drains: s.drains() != nil,
		Steady: s.shots.rateNow()}
	if b := s.balances(); b.Using != nil {
		now.Algorithm, now.Algorithms = b.Using(), b.Names
	}
	if s.config.Narrator != nil {
		now.SlowMS = s.config.Narrator.Pause().Milliseconds()
	}
	if s.config.Backends == nil {
		return now
	}
	for i, addr := range s.config.Backends.Addrs() {
		for j := range now.Backends {
			if now.Backends[j].Addr == addr {
				now.Backends[j].Running = s.config.Backends.Running(i)
			}
		}
	}
	return now
}

// command is the body of every action.
type command struct {
	What    string `json:"what"`    // shoot, algorithm: which; backend, drain: what to do
	Backend int    `json:"backend"` // backend, drain: its index
	MS      int    `json:"ms"`      // slow: milliseconds
	Rate    int    `json:"rate"`    // steady: requests a second
	Viewer  uint64 `json:"viewer"`  // steady: who asks
}

const (
	maxCommand    = 1 << 10 // bytes of an action's body
	maxSlowMotion = 2000    // milliseconds
)

// errRefused is an action that cannot be done; the text is for people.
type errRefused string

func (e errRefused) Error() string { return string(e) }

// action decodes an action's body and answers 204, or why not.
func (s *Server) action(do func(command) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var c command
		body := http.MaxBytesReader(w, r.Body, maxCommand)
		if err := json.NewDecoder(body).Decode(&c); err != nil {
			http.Error(w, "the body must be a JSON object", http.StatusBadRequest)
			return
		}
		if err := do(c); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) shoot(c command) error {
	if c.What == "row" && !s.config.Keeps {
		return errRefused("this program keeps no connection for another request")
	}
	return s.shots.fire(s.proxyAddr(), c.What)
}

func (s *Server) switchBackend(c command) error {
	b := s.config.Backends
	switch {
	case b == nil:
		return errRefused("only the backends of -demo can be stopped and started here")
	case c.Backend < 0 || c.Backend >= len(b.Addrs()):
		return errRefused("there is no such backend")
	case c.What == "stop":
		return b.Stop(c.Backend)
	case c.What == "start":
		return b.Restart(c.Backend)
	}
	return errRefused("a backend can be stopped or started")
}

func (s *Server) drainBackend(c command) error {
	drain := s.drains()
	switch {
	case drain == nil:
		return errRefused("this program drains no backend")
	case c.Backend < 0 || c.Backend >= len(s.config.BackendAddrs):
		return errRefused("there is no such backend")
	case c.What != "drain" && c.What != "resume":
		return errRefused("a backend can be drained, or that be ended")
	}
	return drain(s.config.BackendAddrs[c.Backend], c.What == "drain")
}

// balance has the backends chosen by another algorithm. How long their answers take
// is counted anew, so that what it changes is seen.
func (s *Server) balance(c command) error {
	b := s.balances()
	if b.Use == nil {
		return errRefused("this program has one way to choose a backend")
	}
	if err := b.Use(c.What); err != nil {
		return err
	}
	s.col.timeAnew()
	return nil
}

func (s *Server) slowMotion(c command) error {
	if s.config.Narrator == nil {
		return errRefused("this program has no slow motion")
	}
	if c.MS < 0 || c.MS > maxSlowMotion {
		return errRefused("the pause must be between 0 and 2000 milliseconds")
	}
	s.config.Narrator.SlowMotion(time.Duration(c.MS) * time.Millisecond)
	return nil
}

// limitListener keeps the page's connections below a limit.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

// Accept waits for a client; one above the limit is closed at once.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		if t, ok := c.(*net.TCPConn); ok {
			t.SetWriteBuffer(viewerBuffer)
		}
		return &limitedConn{Conn: c, release: func() { <-l.slots }}, nil
	}
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *limitedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}

// Shows reports whether viewers are shown the open connection of that number.
func (s *Server) Shows(conn uint64) bool { return s.col.shows(conn) }
