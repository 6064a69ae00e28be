package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// HalfCloseGrace is how long a client that has sent FIN is waited for without
// progress.
const HalfCloseGrace = 1 * time.Second

// The write that ends a request is waited for, when the answer is there already, for so
// long and so many looks: on a busy machine it may have returned long ago, and its
// goroutine not have run.
const (
	endGrace = 100 * time.Millisecond
	endLooks = 100
)

// Request is one request, of which the header has been read. Its body is still
// on the client's connection.
type Request struct {
	http1.Request
	fields [16]http1.Field // most have no more: no memory of its own for them

	Client *Client
	Tries  int // how often it has been written to a backend

	body  []byte // as much of a body of known length as came with the header
	rest  body   // what of it is still on the connection
	taken bool   // a part of that has been read
	read  bool   // it has been read to its end, or there is none

	mu        sync.Mutex // Abandon and Uploading may come at any time
	try       *try       // the last one; nil: none
	over      *Error     // Abandon's
	continued bool       // a backend has sent 100 Continue
}

// A try is one step 6, or the steps 7 to 9 on one backend, and what runs beside
// them: the goroutine that sends the rest of the body, and then watches whether
// the client leaves. It ends with the next step 6 or 7, and with Backend.Close.
type try struct {
	request *Request
	client  *Client
	backend *Backend           // nil: in Wait, as in step 6
	cancel  context.CancelFunc // ends that
	status  int                // of the response, once its header has come

	ended    chan struct{} // closed when the goroutine has ended; nil if there is none
	over     chan struct{} // closed when the response's side has ended, or a tunnel begins
	overOnce sync.Once

	mu         sync.Mutex // guards the rest
	finished   bool       // endTry has been called
	sending    bool       // the rest of the body is being sent
	owed       bool       // it has begun to be sent, and has not been sent to its end
	before     int64      // bytes that the backend's connection had taken before that
	ending     bool       // and the last of it has been given to the kernel, or is about to be
	answering  bool       // bytes go to the client: of an interim response, or of the answer
	responding bool       // the response has begun: the server timeout is met
	complete   bool       // the request has been read and sent to its end
	switching  bool       // the response is 101: what the client sends next is the tunnel's
	err        error      // what ended the request's side before its time
}

// Keep has the body kept while it is sent, so that the request can be written
// once more, unless it is larger than most bytes.
func (r *Request) Keep(most int) {
	if r.Length <= int64(most) {
		r.rest.keep = most
	}
}

// Again reports whether the request can be written once more, to this or another
// backend, and if not, why: a body that has left the client's connection is kept
// only after Keep.
func (r *Request) Again() (ok bool, reason string) {
	if t := r.try; t != nil && !t.finished && t.backend != nil && !t.sent() {
		return false, "its body is still being sent"
	}
	if r.taken && r.rest.keep == 0 || r.rest.lost {
		return false, "a part of its body is gone"
	}
	return true, ""
}

// Status returns the status of the response that the last try brought, or 0. The
// client may have seen another one.
func (r *Request) Status() int {
	if r.try == nil {
		return 0
	}
	return r.try.status
}

// begin begins a try, unless the request has been abandoned.
func (r *Request) begin(t *try) error {
	r.endTry()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.request, t.client = r, r.Client
	if r.try = t; r.over != nil {
		t.err = r.over
		return t.failed(r.over)
	}
	return nil
}

// Wait has something done for the request before it is written to a backend. It is
// to end with ctx: after that time, or when the client leaves or the request is
// abandoned, which is the error then.
func (r *Request) Wait(within time.Duration, do func(ctx context.Context) *Error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	t := &try{cancel: cancel}
	if err := r.begin(t); err != nil {
		return err
	}
	watch := time.AfterFunc(watchAfter, t.watchWait)
	failure := do(ctx)
	watch.Stop()
	r.endTry()
	if failure == nil {
		return nil
	}
	return t.failed(failure)
}

// Abandon gives the request up: the step that is under way ends with err, and so
// does each that follows. A client that has seen a part of the answer sees a
// reset. Any goroutine may call it, at any time; after the last step it does
// nothing.
func (r *Request) Abandon(err *Error) {
	r.mu.Lock()
	r.over = err
	t := r.try
	r.mu.Unlock()
	if t == nil {
		return
	}
	t.abandon(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answering && !t.finished {
		t.client.stop(false, true)
	}
}

// abandoned reports whether Abandon has been called.
func (r *Request) abandoned() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over != nil
}

// Uploading reports whether the next byte of the request's body is the client's
// to give, and how many bytes it has given in this try, and the backend has taken.
// A client that has said Expect may wait for 100 Continue: that is the backend's to
// give. Any goroutine may call it.
func (r *Request) Uploading() (bytes int64, waiting bool) {
	r.mu.Lock()
	t, asked := r.try, r.continued || len(r.body) > 0 || r.Get("Expect") == nil
	r.mu.Unlock()
	if t == nil {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.finished || !t.sending {
		return 0, false
	}
	bytes = t.backend.sent.Load() - t.before
	return bytes, (asked || bytes > 0) && !t.backend.writing.Load()
}

// Write is step 7: it writes the request's header to the backend, with as much
// of the body as is there. The rest of the body follows while the response is
// awaited, because a backend may answer before it has read it all. That is also
// why a write that fails is no error yet: the answer may be there already, and
// step 8 tells.
func (r *Request) Write(b *Backend) error {
	r.endTry()
	if ok, reason := r.Again(); !ok {
		return &Error{Status: http.StatusBadGateway, By: ByProxy,
			Reason: "the request cannot be sent again: " + reason}
	}
	t := &try{backend: b}
	b.begin(t)
	if err := r.begin(t); err != nil {
		return err
	}
	r.Tries++

	buf := headBuffers.Get().(*[headSize]byte)
	defer headBuffers.Put(buf)
	out := append(r.Append(buf[:0], b.hop(r)), r.body...)
	out = append(out, r.rest.kept...) // what a try before this one has had
	n, err := b.Write(out)
	b.wrote = n > 0
	e := narrate.Event{Calls: "write", Bytes: int64(n)}
	if err != nil && isTimeout(err) {
		return stepFailed(r.Client.log, narrate.ForwardRequest, t.failed(ErrNotTaken), e)
	}
	r.Client.log.Step(narrate.ForwardRequest, e)

	b.broken = err
	if err == nil && !r.read {
		t.setSending(true) // now, for the backend may break off before sendBody runs
		t.start(t.sendBody)
		return nil
	}
	b.slow = t.watch
	t.await(err == nil)
	return nil
}

// ErrNotTaken is the error of a backend that takes none of the request for too long.
var ErrNotTaken = backendError(http.StatusGatewayTimeout,
	"the backend does not take the request", nil)

// start lets side run beside the response's side. It ends with the try: end
// stops the reads and writes it waits in.
func (t *try) start(side func()) {
	t.ended, t.over = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.ended)
		defer func() {
			if p := recover(); p != nil {
				t.abandon(PanicError(p))
			}
		}()
		side()
	}()
}

// watchWait begins to watch the client in Wait.
func (t *try) watchWait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.finished {
		t.start(t.watchClient)
	}
}

// watch begins to watch the client. A backend that answers quickly is not worth
// it: nobody leaves so soon, and who does is noticed when the answer is written.
func (t *try) watch() { t.start(t.watchClient) }

// sendBody sends the rest of the request's body, starts the server timeout, and
// then watches the client.
func (t *try) sendBody() {
	r, c := t.request, t.client
	r.taken, c.readIdle = true, c.settings.Idle
	r.rest.last = t.end
	err := r.rest.copy(&t.backend.peer, &c.peer)
	t.setSending(false)
	switch {
	case err == nil:
		r.read = true
		c.log.Body(t.backend.sent.Load())
		if !t.await(true) {
			t.watchClient()
		}
	case isWriteError(err) && isTimeout(err):
		t.abandon(ErrNotTaken)
	case isWriteError(err):
		t.await(false) // it does not want the rest; perhaps it has answered
	default:
		t.abandon(RequestError(err))
	}
}

func (t *try) setSending(sending bool) {
	t.mu.Lock()
	t.sending, t.before, t.owed = sending, t.backend.sent.Load(), true
	t.mu.Unlock()
}

// end notes that what is written next is the end of the request.
func (t *try) end() {
	t.mu.Lock()
	t.ending = true
	t.mu.Unlock()
}

// await starts the server timeout, unless the response has already begun. It
// reports whether that was 101, so that nobody is to read from the client.
func (t *try) await(complete bool) (switching bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.complete, t.ending = complete, false
	t.owed = t.owed && !complete
	if !t.responding {
		t.backend.answerBy(time.Now().Add(t.client.settings.Server))
	}
	return t.switching
}

// sent reports whether the whole request has been sent. The backend may have had
// its last byte, and answered, before the goroutine that wrote that has come to say
// so: it is waited for.
func (t *try) sent() bool {
	until := time.Now().Add(endGrace)
	for looks := 0; ; looks++ {
		t.mu.Lock()
		complete, waits := t.complete, t.ending && t.err == nil
		t.mu.Unlock()
		if !waits || looks > endLooks && time.Now().After(until) {
			return complete
		}
		time.Sleep(endGrace / 1000)
	}
}

// begun notes that a response has begun or, after an interim one, that the
// next is awaited.
func (t *try) begun(responding bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.responding = responding
	switch {
	case t.complete && responding:
		// The server timeout runs already, and for the whole header.
	case t.complete || responding:
		t.backend.answerBy(time.Now().Add(t.client.settings.Server))
	default:
		t.backend.answerBy(time.Time{}) // the request is still being sent
	}
}

// abandon gives the try up because of the request's side: the backend's work is
// cancelled, and the response's side learns the reason.
func (t *try) abandon(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.finished {
		return
	}
	if t.err == nil {
		t.err = err
	}
	t.stop()
}

// stop ends what waits for the backend. The try is locked.
func (t *try) stop() {
	if t.backend != nil {
		t.backend.stop(true, true)
	} else {
		t.cancel()
	}
}

// failed returns e with what had happened by then; or, if the request's side
// ended the try, that one's error.
func (t *try) failed(failure *Error) *Error {
	t.mu.Lock()
	if t.err != nil {
		errors.As(t.err, &failure)
	}
	owed := t.owed
	t.mu.Unlock()
	e := *failure // errors that are variables are shared
	e.Owed = owed
	e.Answered = t.client.answered != 0
	if b := t.backend; b != nil {
		e.Sent = b.wrote
		e.Stale = b.Reused && !b.heard && e.Broken
	}
	return &e
}

// watchClient waits, while the backend works, for a client that goes away. What
// comes is kept: for a tunnel that is its beginning, otherwise it is the next
// request. When the buffer is full of that, the watch ends.
func (t *try) watchClient() {
	c := t.client
	c.readIdle = 0
	if c.readBy(time.Time{}) != nil {
		return // it is all over already
	}
	for {
		if len(c.held()) > 0 && (c.w == len(c.buf) || t.request.Upgrade != nil) {
			return
		}
		switch err := c.fill(); {
		case err == nil:
		case isTimeout(err): // end stopped the wait
			return
		case err == io.EOF:
			t.halfClosed()
			return
		default:
			t.abandon(ClientGone(err))
			return
		}
	}
}

// halfClosed decides about a client that has sent FIN. It may be gone, or it
// may only have nothing more to say (nc -N). TCP does not tell which: it is
// taken to be gone after a second in which there was nothing to send to it; one
// that is gone answers what is sent with RST.
func (t *try) halfClosed() {
	sent, since := t.client.sent.Load(), time.Now()
	for time.Since(since) < HalfCloseGrace {
		select {
		case <-t.over:
			return
		case <-time.After(HalfCloseGrace / 10):
		}
		if n := t.client.sent.Load(); n != sent || t.client.writing.Load() {
			sent, since = n, time.Now()
		}
	}
	t.abandon(ErrHalfClosed)
}

// ErrHalfClosed is the error of a client that has ended its sending, and may be gone.
var ErrHalfClosed = refuse(http.StatusRequestTimeout,
	"the client left, or ended its sending, and no answer came within a second")

// goOn notes that the client has been told to send its request's body.
func (r *Request) goOn() {
	r.mu.Lock()
	r.continued = true
	r.mu.Unlock()
}

// answer says whether the client is being written to, so that Abandon has to end
// that, too.
func (t *try) answer(answering bool) {
	t.mu.Lock()
	t.answering = answering
	t.mu.Unlock()
}

// done says that the response's side needs the request's side no more.
func (t *try) done() { t.overOnce.Do(func() { close(t.over) }) }

// endTry stops what runs beside the request's last try, and waits for its end.
func (r *Request) endTry() {
	t := r.try
	if t == nil || t.finished {
		return
	}
	if t.backend != nil && t.ended != nil {
		t.sent() // it may become so just now
	}
	t.mu.Lock()
	t.finished = true
	if !t.complete && t.ended != nil && t.backend != nil {
		t.stop()
	}
	t.mu.Unlock()
	if t.ended == nil { // nothing runs beside it, and nothing is to begin
		if t.backend != nil {
			t.backend.slow = nil
		}
		if t.err != nil { // Abandon may have come just now
			t.client.resume()
		}
		return
	}
	t.done()
	t.client.stop(true, false)
	<-t.ended
	t.client.resume()
	if t.backend == nil {
		return
	}
	if t.complete && t.err == nil { // it may have become so just now
		t.backend.resume()
	}
}
