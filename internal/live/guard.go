package live

import (
	"crypto/subtle"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// policy lets the page load nothing but its own files, and nobody frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Framed is the live page's policy, changed so that a page of the same address may
// show it in a frame.
func Framed(policy string) string {
	return strings.Replace(policy, "frame-ancestors 'none'", "frame-ancestors 'self'", 1)
}

var quietLog = log.New(io.Discard, "", 0)

// guard refuses what does not come from the page itself. A page elsewhere that
// posts here cannot know the token.
func (s *Server) guard(next http.Handler) http.Handler {
	withToken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !s.hasToken(r) {
			refuse(w, "the page's token is missing", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	return Guard(s.hosts, policy, withToken)
}

// Guard refuses what does not come from a page that next serves, and gives every
// answer the policy.
//
// A name that an attacker makes resolve to 127.0.0.1 (DNS rebinding) comes
// with that name as Host. A page elsewhere that posts here comes with its own
// Origin.
func Guard(hosts Hosts, policy string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !hosts.allow(r.Host) {
			refuse(w, "the live page answers only to its own address",
				http.StatusMisdirectedRequest)
			return
		}
		if !ownOrigin(r) {
			refuse(w, "the live page answers only its own requests", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers a stranger, who may not keep a connection that the page needs.
func refuse(w http.ResponseWriter, why string, status int) {
	w.Header().Set("Connection", "close")
	http.Error(w, why, status)
}

// ownOrigin reports whether a browser says that the page itself asks, or the
// user by typing the address. What is no browser may leave both fields out.
func ownOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	case "cross-site", "same-site":
		// Following a link to the page is harmless, loading a part of it is not.
		if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" ||
			r.URL.Path != "/" {
			return false
		}
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && strings.EqualFold(u.Host, r.Host)
}

func (s *Server) hasToken(r *http.Request) bool {
	given := r.Header.Get("X-Live-Token")
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) == 1
}

// Hosts says which Host fields a page answers to.
type Hosts struct {
	port   string
	name   string // the host that -watch named
	anyIP  bool   // it listens on every address of the machine
	bound  net.IP // the address it listens on
	onLoop bool   // which is a loopback address
}

// AllowedHosts derives the hosts from the address asked for and the one bound.
func AllowedHosts(asked string, bound net.Addr) Hosts {
	h := Hosts{}
	h.name, _, _ = net.SplitHostPort(asked)
	if t, ok := bound.(*net.TCPAddr); ok {
		h.bound, h.onLoop = t.IP, t.IP.IsLoopback()
		h.anyIP = t.IP.IsUnspecified()
		_, h.port, _ = net.SplitHostPort(t.String())
	}
	return h
}

// allow reports whether a Host field names this server. An IP address cannot
// be rebound, so on a server that listens everywhere all of them are good.
func (h Hosts) allow(field string) bool {
	name, port, err := net.SplitHostPort(field)
	if err != nil {
		name, port = strings.Trim(field, "[]"), "80"
	}
	if port != h.port {
		return false
	}
	ip := net.ParseIP(name)
	switch {
	case ip == nil && strings.EqualFold(name, "localhost"):
		return h.onLoop || h.anyIP
	case ip == nil:
		return name != "" && strings.EqualFold(name, h.name)
	case ip.IsLoopback():
		return h.onLoop || h.anyIP
	}
	return h.anyIP || ip.Equal(h.bound)
}
