package http1

import "strconv"

// Hop is what one connection says of itself in a message that is written to it.
type Hop struct {
	Via        string // this proxy's name
	Host       string // requests: the Host where the client named none
	For        string // requests: the client's address, without its port; "" if it is not known
	Date       string // responses: the Date where the backend gave none
	Connection string // "close", "keep-alive", or "" for nothing
}

// Append appends the request's header as the next server is to see it: without
// the hop-by-hop fields, with the fields that tell of this proxy, and with
// h.Connection. It changes nothing, so that it can be called again for another
// server.
func (r *Request) Append(b []byte, h Hop) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if len(r.Host) > 0 || r.count(host) > 0 {
		b = append(b, r.Host...)
	} else {
		b = append(b, h.Host...)
	}
	b = append(b, "\r\n"...)

	hops, counted := r.MaxForwards()
	named := r.named()
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.name {
		case other:
		case host, via, forwardedFor, forwardedHost, forwardedProto:
			continue // written below
		case maxForwards:
			if counted {
				continue
			}
		case expect:
			if r.Minor == 0 || r.Framing == NoBody {
				continue // means nothing there (RFC 9110, section 10.1.1)
			}
		case trailer:
			if r.Framing != Chunked {
				continue // there will be none
			}
		default:
			if hopByHop[f.name] {
				continue
			}
		}
		b = f.append(b, named)
	}

	b = r.appendVia(b, h.Via)
	if h.For != "" {
		b = append(b, "X-Forwarded-For: "...)
		if !named["x-forwarded-for"] {
			b = r.appendList(b, forwardedFor)
		}
		b = append(append(b, h.For...), "\r\n"...)
	}
	if len(r.Host) > 0 {
		b = append(append(append(b, "X-Forwarded-Host: "...), r.Host...), "\r\n"...)
	}
	b = append(b, "X-Forwarded-Proto: http\r\n"...)
	if counted {
		b = appendNumber(b, "Max-Forwards: ", hops-1)
	}
	b = appendFraming(b, r.Framing, r.Length)

	trailers := r.Minor == 1 && r.has(te, "trailers")
	if trailers {
		b = append(b, "TE: trailers\r\n"...)
	}
	option := h.Connection
	if r.Upgrade != nil {
		b = append(append(append(b, "Upgrade: "...), r.Upgrade...), "\r\n"...)
		option = "Upgrade"
	}
	if trailers {
		option = options(option, "TE")
	}
	return appendEnd(b, option)
}

// Append appends the response's header as the client is to see it; framing is
// how its body will be written. An interim response (1xx) has none.
func (r *Response) Append(b []byte, framing Framing, h Hop) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(append(b, r.Reason...), "\r\n"...)
	named := r.named()
	delete(named, "date")
	delete(named, demanded[r.Status])
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case f.name == other:
		case f.name == via, f.name == trailer && framing != Chunked && r.Framing != NoBody:
			continue
		case f.name == proxyAuthenticate && r.Status == 407: // it asks for this one
		case hopByHop[f.name]:
			continue
		}
		b = f.append(b, named)
	}
	b = r.appendVia(b, h.Via)
	if r.Interim() {
		return append(b, "\r\n"...)
	}
	option := h.Connection
	switch {
	case r.Status == 101:
		option, framing = "Upgrade", NoBody
	case r.Status == 426 && r.Upgrade != nil: // it has to say to what (RFC 9110, section 15.5.22)
		option = options(option, "Upgrade")
	}
	if h.Date != "" && r.Status != 101 && !r.Dated() {
		b = append(append(append(b, "Date: "...), h.Date...), "\r\n"...)
	}
	if framing == NoBody && r.count(contentLength) > 0 && r.Status >= 200 && r.Status != 204 {
		framing = Length // it tells what the body's length would be: HEAD, 304
	}
	b = appendFraming(b, framing, r.Length)
	if r.Upgrade != nil {
		b = append(append(append(b, "Upgrade: "...), r.Upgrade...), "\r\n"...)
	}
	return appendEnd(b, option)
}

// demanded has the field that a status demands, whatever Connection says of it
// (RFC 9110, sections 11.6.1, 11.7.1, 15.3.7, 15.5.6). That of 426 is Upgrade.
var demanded = map[int]string{
	206: "content-range", 401: "www-authenticate", 405: "allow", 407: "proxy-authenticate",
}

// options returns a Connection with one option more.
func options(list, option string) string {
	if list == "" {
		return option
	}
	return list + ", " + option
}

// append appends the field, unless Connection names it and it is not this proxy's own.
func (f *Field) append(b []byte, named map[string]bool) []byte {
	if named != nil && !f.own && named[lower(f.Name)] {
		return b
	}
	b = append(b, f.Name...)
	b = append(b, ": "...)
	b = append(b, f.Value...)
	return append(b, "\r\n"...)
}

// appendVia appends Via with one entry more than came: this proxy's.
func (m *Message) appendVia(b []byte, proxy string) []byte {
	b = m.appendList(append(b, "Via: "...), via)
	b = append(b, '1', '.', '0'+byte(m.Minor), ' ')
	return append(append(b, proxy...), "\r\n"...)
}

// appendList appends the values of a list field, for one more to follow.
func (m *Message) appendList(b []byte, n name) []byte {
	if m.counts[n] > 0 {
		for _, f := range m.Fields {
			if f.name == n && len(f.Value) > 0 {
				b = append(append(b, f.Value...), ", "...)
			}
		}
	}
	return b
}

func appendFraming(b []byte, framing Framing, length int64) []byte {
	switch framing {
	case Length:
		return appendNumber(b, "Content-Length: ", length)
	case Chunked:
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return b
}

func appendNumber(b []byte, name string, n int64) []byte {
	return append(strconv.AppendInt(append(b, name...), n, 10), "\r\n"...)
}

// appendEnd appends Connection, if there is anything to say, and the empty line.
func appendEnd(b []byte, option string) []byte {
	if option != "" {
		b = append(append(append(b, "Connection: "...), option...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body: the chunk of size 0, those
// of the trailers that may be forwarded, the empty line. m is the message they
// belong to: what its Connection names stays, in trailers too (RFC 9110, section
// 7.6.1).
func (m *Message) AppendLastChunk(b []byte, trailers []Field) []byte {
	b = append(b, "0\r\n"...)
	named := m.named()
	for i := range trailers {
		if f := &trailers[i]; !hopByHop[known(f.Name)] && !notInTrailers[lower(f.Name)] {
			b = f.append(b, named)
		}
	}
	return append(b, "\r\n"...)
}

// AppendPage appends a whole response that tells the client what failed. To a
// HEAD request it has no content.
func AppendPage(b []byte, status int, reason string, head bool, h Hop) []byte {
	line := strconv.Itoa(status) + " " + StatusText(status)
	body := line + ": " + reason + "\n"
	b = append(b, "HTTP/1.1 "+line+"\r\nDate: "+h.Date+"\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	b = appendEnd(appendFraming(b, Length, int64(len(body))), h.Connection)
	if head {
		return b
	}
	return append(b, body...)
}

// StatusText returns the reason phrase of a status that this project answers
// with, as RFC 9110 and RFC 6585 name it.
func StatusText(status int) string { return statusText[status] }

var statusText = map[int]string{
	200: "OK",
	400: "Bad Request",
	408: "Request Timeout",
	413: "Content Too Large",
	414: "URI Too Long",
	431: "Request Header Fields Too Large",
	500: "Internal Server Error",
	501: "Not Implemented",
	502: "Bad Gateway",
	503: "Service Unavailable",
	504: "Gateway Timeout",
	505: "HTTP Version Not Supported",
	508: "Loop Detected",
}
