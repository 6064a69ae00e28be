// Package load is the client side of the bench: one thread in an epoll loop
// that sends preformatted requests, reads the answers and notes how long each
// took, in a process of its own.
package load

import (
	"encoding/base64"
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Job says what one run of the generator does. Times are in nanoseconds
// unless the name says otherwise.
type Job struct {
	Target    string `json:"target"`     // IPv4 address and port
	Path      string `json:"path"`       // request target, "/" or "/bytes?n=1000"
	Clients   int    `json:"clients"`    // connections at once; in rate mode the most at once
	KeepAlive bool   `json:"keep_alive"` // one connection a client instead of one a request
	// requests a second; 0 is closed loop: as fast as the answers come
	Rate      float64 `json:"rate"`
	Once      bool    `json:"once"`       // one request a client, all at the same moment
	Idle      int     `json:"idle"`       // silent connections opened beforehand and held
	IdleMS    int     `json:"idle_ms"`    // how long opening them may take
	WarmupMS  int     `json:"warmup_ms"`  // not counted
	RunMS     int     `json:"run_ms"`     // counted
	TimeoutMS int     `json:"timeout_ms"` // a request without a whole answer by then has failed
	Body      int64   `json:"body"`       // expected length of the answer's body, bytes; -1: any
	OneSource bool    `json:"one_source"` // all connections from 127.0.0.1, as wrk makes them
}

// Timeline is what one client of a Once job saw, in microseconds since the
// job's start; -1 for what did not happen.
type Timeline struct {
	Start     int64 `json:"start_us"`
	Connected int64 `json:"connected_us"`
	Arrived   int64 `json:"arrived_us"` // the request was at the backend
	First     int64 `json:"first_us"`   // first byte of the answer
	Done      int64 `json:"done_us"`
}

// Result is what one run of the generator saw.
type Result struct {
	Requests int64 `json:"requests"` // whole answers within the counted time
	// including warm-up and what was still on its way
	AllAnswers int64            `json:"all_answers"`
	ElapsedNS  int64            `json:"elapsed_ns"` // the counted time
	Failures   map[string]int64 `json:"failures"`   // by kind, whenever they happened
	Connects   int64            `json:"connects"`   // connections made
	Bytes      int64            `json:"bytes"`      // body bytes of whole answers
	Idle       int              `json:"idle"`       // silent connections that stand
	// CPU time of the generator itself, nanoseconds
	CPUNS    int64      `json:"generator_cpu"`
	Timeline []Timeline `json:"timeline,omitempty"`

	// Latency in microseconds from the moment the client wanted the answer:
	// before connect, in rate mode from the time the schedule set.
	Latency Histogram `json:"latency"`
	// Sent is the latency from the moment the request was written, which is
	// what wrk reports.
	Sent Histogram `json:"sent"`
}

// Failed is the number of failed requests.
func (r *Result) Failed() int64 {
	var n int64
	for _, v := range r.Failures {
		n += v
	}
	return n
}

// Histogram is an HDR histogram of microseconds that travels as JSON in the
// compressed V2 encoding.
type Histogram struct{ *hdrhistogram.Histogram }

// NewHistogram holds 1 µs to 60 s with three significant digits.
func NewHistogram() Histogram { return Histogram{hdrhistogram.New(1, 60_000_000, 3)} }

// Record adds a latency given in nanoseconds.
func (h Histogram) Record(ns int64) { _ = h.RecordValue(min(max(ns/1000, 1), 60_000_000)) }

// Percentile is the value in microseconds that p per cent do not exceed; 0
// when nothing was recorded.
func (h Histogram) Percentile(p float64) float64 {
	if h.Histogram == nil || h.TotalCount() == 0 {
		return 0
	}
	return float64(h.ValueAtPercentile(p))
}

// MarshalText encodes the histogram; an empty one is the empty string.
func (h Histogram) MarshalText() ([]byte, error) {
	if h.Histogram == nil || h.TotalCount() == 0 {
		return []byte{}, nil
	}
	return h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}

// UnmarshalText decodes what MarshalText made.
func (h *Histogram) UnmarshalText(b []byte) error {
	*h = NewHistogram()
	if len(b) == 0 {
		return nil
	}
	if _, err := base64.StdEncoding.DecodeString(string(b)); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	d, err := hdrhistogram.Decode(b)
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	h.Histogram = d
	return nil
}
