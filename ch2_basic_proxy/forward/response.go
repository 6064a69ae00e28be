package forward

import (
	"io"
	"net/http"
	"time"

	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/internal/narrate"
)

// Interim responses (1xx) to one request: so many come in a burst, and then so
// many a second, before the backend is taken to send nothing else.
const (
	interimBurst = 1000
	interimRate  = 100 // a second
)

// Response is a response, of which the header has been read. Its body is still
// on the backend's connection.
type Response struct {
	http1.Response
	fields [16]http1.Field // most have no more: no memory of its own for them

	backend *Backend
	request *Request
}

// ReadResponse is step 8: it reads the header of the backend's response to the
// request that was written to it. Interim responses (100 Continue, 103 Early
// Hints) are passed on as they come.
func ReadResponse(b *Backend, r *Request) (*Response, error) {
	log, e := r.Client.log, narrate.Event{Calls: "read"}
	resp, err := b.readResponse(r)
	if err != nil {
		if b.broken != nil && !b.heard {
			err = b.broken
		}
		return nil, stepFailed(log, narrate.ReadResponse, b.try.failed(ResponseError(err)), e)
	}
	if log.On() {
		e.Bytes, e.Status, e.Text = int64(resp.Size), resp.Status, string(resp.Reason)
		log.Step(narrate.ReadResponse, e)
	}
	return resp, nil
}

func (b *Backend) readResponse(r *Request) (*Response, error) {
	resp := &Response{backend: b, request: r}
	resp.Fields = resp.fields[:0]
	began := time.Now()
	for n := 1; ; n++ {
		if len(b.held()) == 0 {
			if err := b.fill(); err != nil {
				return nil, err
			}
		}
		b.heard = true
		b.try.begun(true)
		head, err := b.readHead(http1.RefuseResponse)
		if err != nil {
			return nil, err
		}
		if err := resp.Parse(head, string(r.Method)); err != nil {
			return nil, err
		}
		if !resp.Interim() {
			break
		}
		if err := TooManyInterim(n, time.Since(began)); err != nil {
			return nil, err
		}
		b.try.begun(false)
		if r.Minor == 1 { // HTTP/1.0 knows no interim responses
			b.try.answer(true)
			_, err := r.Client.Write(resp.Append(nil, http1.NoBody, r.Client.hop()))
			b.try.answer(false)
			if err != nil {
				r.Client.answered = resp.Status // a part of it, and nothing can follow that
				return nil, ClientGone(err)
			}
			if resp.Status == http.StatusContinue {
				r.goOn()
			}
		}
	}
	if resp.Status == http.StatusRequestTimeout && resp.Close && b.Reused && b.try.sent() {
		// It had given the idle connection up, and said so (RFC 9110, section
		// 15.5.9): that is not an answer to this request, which came whole.
		b.heard = false
		return nil, io.EOF
	}
	if resp.Status == http.StatusSwitchingProtocols && !resp.Switches(&r.Request) {
		return nil, ErrUnasked
	}
	b.response, b.try.status, b.readIdle = resp, resp.Status, b.settings.Idle
	return resp, nil
}

// ErrUnasked is the error of a response 101 that nobody has asked for.
var ErrUnasked = backendError(http.StatusBadGateway,
	"the backend changed the protocol unasked", nil)

// TooManyInterim returns the error of a backend whose n-th interim response to a
// request has come, so long after the request, if that is too soon.
func TooManyInterim(n int, after time.Duration) error {
	due := time.Duration(n-interimBurst) * time.Second / interimRate
	if n > interimBurst && after < due {
		return backendError(http.StatusBadGateway,
			"the backend sends interim responses without end", nil)
	}
	return nil
}

// Write is step 9: it writes the response to the client, header and body, as it
// comes from the backend. After 101 it carries both directions until they end.
func (r *Response) Write(c *Client) error {
	err := r.write(c)
	if err != nil && r.Status == http.StatusSwitchingProtocols {
		// The backend has left HTTP. Both are to see that something broke, no regular end.
		c.setReset(true)
		r.backend.setReset(true)
	}
	e := narrate.Event{Calls: "write", Bytes: c.sent.Load() - c.before, Status: r.Status}
	if err != nil {
		return stepFailed(c.log, narrate.SendResponse, r.backend.try.failed(err), e)
	}
	c.whole, r.backend.whole = true, true
	c.log.Step(narrate.SendResponse, e)
	return nil
}

func (r *Response) write(c *Client) *Error {
	b := r.backend
	out := body{message: &r.Message, left: r.Length, out: r.Framing}
	switch {
	case r.request.Minor == 0 && r.Framing == http1.Chunked:
		out.out = http1.UntilClose // HTTP/1.0 knows no chunks
	case r.request.Minor == 1 && r.Framing == http1.UntilClose:
		out.out = http1.Chunked // so that a body cut short does not look complete
	}
	c.answered, c.marked = r.Status, out.out != http1.UntilClose

	buf := headBuffers.Get().(*[headSize]byte)
	h := c.hop()
	if !c.marked {
		h.Connection = "close"
	}
	c.closing = h.Connection == "close"
	if !r.Dated() {
		h.Date = Date()
	}
	b.try.answer(true)
	head := r.Append(buf[:0], out.out, h)
	if r.Framing == http1.Length { // what is here of the body goes out in the same write
		part := b.held()[:min(int64(len(b.held())), r.Length)]
		head = append(head, part...)
		b.r += len(part)
		out.left -= int64(len(part))
	}
	_, err := c.Write(head)
	headBuffers.Put(buf) // the body may take long
	if err != nil {
		return BodyError(err)
	}
	switch {
	case r.Status == http.StatusSwitchingProtocols:
		return b.try.tunnel()
	case c.marked:
		if err := out.copy(&c.peer, &b.peer); err != nil {
			return BodyError(err)
		}
	default:
		// The client takes the connection's end for the body's. Until that is
		// whole, any end is a reset, even that of this process.
		c.setReset(true)
		if err := out.copy(&c.peer, &b.peer); err != nil {
			return BodyError(err)
		}
		c.setReset(false)
	}
	return nil
}
