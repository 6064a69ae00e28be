package keep

import (
	"fmt"
	"time"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/internal/cli"
)

// hintMargin is how much earlier than it says a backend is taken to close an
// idle connection. A request that is sent just then would be lost.
const hintMargin = 1 * time.Second

// Reuse says which connections a request may go over (HAProxy: http-reuse).
type Reuse string

// The ways, from the most careful to the most economical.
const (
	Never      Reuse = "never"      // those of the same client
	Safe       Reuse = "safe"       // also others', but not for a client's first request
	Aggressive Reuse = "aggressive" // for that, too, if they have been reused before
	Always     Reuse = "always"     // any
)

// Limits are the rules by which connections are kept, with nginx's and HAProxy's
// words. They know no connection, only what is to be known of one.
type Limits struct {
	Size     int           // -keepalive: the most idle connections to a backend
	Requests int           // -keepalive-requests: the most requests on a connection
	Timeout  time.Duration // -keepalive-timeout: the longest idle time
	Age      time.Duration // -keepalive-time: the age at which a connection is used no more
	Reuse    Reuse         // -reuse
}

// LimitFlags registers the flags of Limits, and returns those that they set.
func LimitFlags(app *cli.App) *Limits {
	l, fs := &Limits{Reuse: Safe}, app.Flags
	fs.IntVar(&l.Size, "keepalive", 256,
		"most idle `connections` kept for each backend; 0 keeps none")
	app.CountVar(&l.Requests, "keepalive-requests", 1000,
		"most `requests` on a connection, on either side")
	fs.DurationVar(&l.Timeout, "keepalive-timeout", 60*time.Second,
		"`time` a connection may be idle, on either side")
	fs.DurationVar(&l.Age, "keepalive-time", time.Hour,
		"`age` at which a connection takes no more requests, on either side")
	fs.Func("reuse", "`whose` idle connections a request may go over: "+
		"never, safe, aggressive, always (default safe)", l.setReuse)
	app.Check(l.check)
	return l
}

func (l *Limits) setReuse(s string) error {
	switch l.Reuse = Reuse(s); l.Reuse {
	case Never, Safe, Aggressive, Always:
		return nil
	}
	return fmt.Errorf("it must be never, safe, aggressive or always")
}

func (l *Limits) check() error {
	switch {
	case l.Size < 0:
		return fmt.Errorf("-keepalive must not be negative")
	case l.Timeout <= 0:
		return fmt.Errorf("-keepalive-timeout must be more than 0, such as 60s")
	case l.Age <= 0:
		return fmt.Errorf("-keepalive-time must be more than 0, such as 1h")
	}
	return nil
}

// Last reports whether the request that comes next on a client's connection is to
// be its last: it has carried as many before, and is so old.
func (l *Limits) Last(requests int, age time.Duration) bool {
	return requests+1 >= l.Requests || age > l.Age
}

// ReasonLast is why a connection that has carried its last request is closed.
const ReasonLast = "it has carried its last request (-keepalive-requests, -keepalive-time)"

// MayShare reports whether a client's request, its n-th, may go over an idle
// connection that has carried so many requests; own says that those were the same
// client's. Only a client that has had an answer on its connection may repeat by
// itself what is lost, so the first request is the one to be careful with.
func (l *Limits) MayShare(n, carried int, own bool) bool {
	switch l.Reuse {
	case Never:
		return own
	case Safe:
		return n > 1
	case Aggressive:
		return n > 1 || carried > 1
	}
	return true
}

// Until returns until when a connection to a backend may be kept idle, or why it may
// not. It was made at since and has carried so many requests; hint is how long the
// backend will keep it, if it has said so (Keep-Alive: timeout=5).
func (l *Limits) Until(now, since time.Time, requests int, hint time.Duration, said bool) (
	until time.Time, reason string) {
	end := since.Add(l.Age)
	until = now.Add(l.Timeout)
	if said {
		until = earlier(until, now.Add(hint-hintMargin))
	}
	switch {
	case requests >= l.Requests:
		return until, "it has carried as many requests as it may (-keepalive-requests)"
	case !end.After(now):
		return until, "it is too old (-keepalive-time)"
	case !until.After(now):
		return until, "the backend will close it too soon (Keep-Alive)"
	}
	return earlier(until, end), ""
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// RaceLost reports whether a request that failed with e may be sent once more, over a
// fresh connection to the same backend. That is so if the backend closed an idle
// connection just when the request was written: no byte of an answer came, and
// either nothing had been sent, or the request may be processed twice (RFC 9112,
// section 9.3.1; RFC 9110, section 9.2.2).
func RaceLost(e *forward.Error, method []byte) bool {
	return e.Stale && !e.Answered && (!e.Sent || Idempotent(method))
}

// Idempotent reports whether a request may be processed twice as well as once, so
// that it may be repeated without being asked (RFC 9110, section 9.2.2; QUERY is
// a safe method of its own RFC).
func Idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE":
		return true
	}
	return false
}
