package live

import (
	"encoding/binary"
	"math"

	"reverseproxy/internal/narrate"
)

// The last minute is kept packed, in segments of bytes. Packed events hold no
// pointers, so the garbage collector never looks at them, and segments are
// used again, so that a busy proxy's sink allocates nothing.
const (
	segmentSize = 64 << 10   // bytes
	maxSegments = 96         // 6 MiB, about 80,000 events
	maxString   = 1 << 10    // bytes of one string that are kept
	maxRecord   = 10 << 10   // bytes; eight strings and eleven numbers fit
	minute      = 60_000_000 // microseconds
)

// ring holds the latest records. It is not safe for concurrent use.
type ring struct {
	segments []segment // the segment with serial s is segments[s % maxSegments]
	newest   uint64    // serial of the segment that is written
}

// segment is a run of packed records.
type segment struct {
	data   []byte
	first  uint64 // number of its first record
	count  uint64 // records it holds
	lastAt int64  // time of its last record, microseconds
}

// cursor is a place in a ring: before the record of that number.
type cursor struct {
	serial uint64 // segment
	offset int    // bytes into it
	number uint64 // of the next record
}

// add packs r after all others, overwriting the oldest segment when full.
func (g *ring) add(r *record) {
	if len(g.segments) == 0 {
		g.segments = append(g.segments, segment{data: make([]byte, 0, segmentSize)})
	}
	s := &g.segments[g.newest%maxSegments]
	if len(s.data)+maxRecord > segmentSize {
		next := s.first + s.count
		g.newest++
		if g.newest < maxSegments {
			g.segments = append(g.segments, segment{data: make([]byte, 0, segmentSize)})
		}
		s = &g.segments[g.newest%maxSegments]
		*s = segment{data: s.data[:0], first: next}
	}
	s.data = r.pack(s.data)
	s.count++
	s.lastAt = r.At
}

// end returns the place after the newest record.
func (g *ring) end() cursor {
	if len(g.segments) == 0 {
		return cursor{}
	}
	s := &g.segments[g.newest%maxSegments]
	return cursor{serial: g.newest, offset: len(s.data), number: s.first + s.count}
}

// since returns the place before the first segment that holds a record at or
// after the given time.
func (g *ring) since(at int64) cursor {
	for serial := g.oldest(); serial <= g.newest && len(g.segments) > 0; serial++ {
		if s := &g.segments[serial%maxSegments]; s.lastAt >= at {
			return cursor{serial: serial, number: s.first}
		}
	}
	return g.end()
}

func (g *ring) oldest() uint64 {
	if g.newest < maxSegments {
		return 0
	}
	return g.newest - maxSegments + 1
}

// next copies the packed records from c to the end of c's segment onto buf and
// returns them with the place after them. lost is how many records were
// overwritten before they could be read. Nothing copied means c is the end.
func (g *ring) next(c cursor, buf []byte) (packed []byte, after cursor, lost uint64) {
	if len(g.segments) == 0 {
		return buf, c, 0
	}
	if oldest := g.oldest(); c.serial < oldest {
		s := &g.segments[oldest%maxSegments]
		lost = s.first - c.number
		c = cursor{serial: oldest, number: s.first}
	}
	s := &g.segments[c.serial%maxSegments]
	if c.offset == len(s.data) && c.serial < g.newest {
		c = cursor{serial: c.serial + 1, number: s.first + s.count}
		s = &g.segments[c.serial%maxSegments]
	}
	buf = append(buf, s.data[c.offset:]...)
	return buf, cursor{serial: c.serial, offset: len(s.data), number: s.first + s.count}, lost
}

// record is one thing that happened, as viewers get it.
type record struct {
	At      int64  `json:"t"`                 // microseconds since the page's start
	Kind    string `json:"kind"`              // narrate's, or kindClient
	Conn    uint64 `json:"conn,omitempty"`    // number of the connection
	Request int    `json:"request,omitempty"` // number of the request on it
	Try     int    `json:"try,omitempty"`     // of that request
	Reused  bool   `json:"reused,omitempty"`  // step 6 took an idle connection
	Shot    uint64 `json:"shot,omitempty"`    // number of the page's own client
	Step    int    `json:"step,omitempty"`    // 1–10
	Status  int    `json:"status,omitempty"`  // HTTP status
	Bytes   int64  `json:"bytes,omitempty"`   // bytes moved
	Elapsed int64  `json:"us"`                // microseconds it took; of step 10 the connection's
	Failed  bool   `json:"failed,omitempty"`  // request, step 10: it counts as failed
	Fault   string `json:"fault,omitempty"`   // whose failure Err is
	Worker  string `json:"worker,omitempty"`  // who did it
	State   string `json:"state,omitempty"`   // of a worker, a connection, a try or a backend
	Name    string `json:"name,omitempty"`    // client: which button
	Calls   string `json:"calls,omitempty"`   // system calls
	Peer    string `json:"peer,omitempty"`    // the other end's address
	Text    string `json:"text,omitempty"`    // for people
	Err     string `json:"err,omitempty"`     // what went wrong
}

// kinds gives each kind its packed number.
var kinds = [...]string{narrate.KindStep, narrate.KindRoute, narrate.KindBody, narrate.KindRequest,
	narrate.KindIdle, narrate.KindPool, narrate.KindTry, narrate.KindHealth,
	narrate.KindCheck, narrate.KindWorker, narrate.KindProblem,
	kindClient, narrate.KindCookie}

// kindClient is the kind of what the page's own clients do.
const kindClient = "client"

func kindNumber(kind string) byte {
	for i, k := range kinds {
		if k == kind {
			return byte(i)
		}
	}
	return byte(len(kinds))
}

// pack appends r to b. The order of fields is that of unpack.
func (r *record) pack(b []byte) []byte {
	flags := byte(0)
	if r.Failed {
		flags |= flagFailed
	}
	if r.Reused {
		flags |= flagReused
	}
	b = append(b, kindNumber(r.Kind), byte(r.Step), flags)
	b = binary.AppendUvarint(b, uint64(max(r.At, 0)))
	b = binary.AppendUvarint(b, r.Conn)
	b = binary.AppendUvarint(b, uint64(max(r.Request, 0)))
	b = binary.AppendUvarint(b, uint64(max(r.Try, 0)))
	b = binary.AppendUvarint(b, r.Shot)
	b = binary.AppendUvarint(b, uint64(max(r.Status, 0)))
	b = binary.AppendUvarint(b, uint64(max(r.Bytes, 0)))
	b = binary.AppendUvarint(b, uint64(max(r.Elapsed, 0)))
	for _, s := range r.strings() {
		b = packString(b, *s)
	}
	return b
}

// strings returns the packed strings in their order.
func (r *record) strings() [8]*string {
	return [...]*string{&r.Worker, &r.State, &r.Name, &r.Calls, &r.Peer, &r.Text, &r.Err, &r.Fault}
}

// The bits of a packed record's third byte.
const (
	flagFailed = 1 << iota
	flagReused
)

func packString(b []byte, s string) []byte {
	if len(s) > maxString {
		s = s[:maxString]
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// unpack reads the first record of packed and returns the rest. packed must
// come from pack.
func unpack(packed []byte) (r record, rest []byte) {
	u := unpacker{packed}
	kind := u.byte()
	if int(kind) < len(kinds) {
		r.Kind = kinds[kind]
	}
	r.Step = int(u.byte())
	flags := u.byte()
	r.Failed, r.Reused = flags&flagFailed != 0, flags&flagReused != 0
	r.At = u.number()
	r.Conn = uint64(u.number())
	r.Request = int(u.number())
	r.Try = int(u.number())
	r.Shot = uint64(u.number())
	r.Status = int(u.number())
	r.Bytes = u.number()
	r.Elapsed = u.number()
	for _, s := range r.strings() {
		*s = u.string()
	}
	return r, u.rest
}

type unpacker struct{ rest []byte }

func (u *unpacker) byte() byte {
	b := u.rest[0]
	u.rest = u.rest[1:]
	return b
}

func (u *unpacker) number() int64 {
	n, size := binary.Uvarint(u.rest)
	u.rest = u.rest[size:]
	return int64(min(n, math.MaxInt64))
}

func (u *unpacker) string() string {
	n := u.number()
	s := string(u.rest[:n])
	u.rest = u.rest[n:]
	return s
}
