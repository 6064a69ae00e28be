package forward

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxHops is how many proxies a request may have passed (entries of Via)
// before it is taken to run in a circle.
const maxHops = 32

// hopByHop are the fields that speak of one connection only and are never
// forwarded (RFC 9110, section 7.6.1). Framing is among them: each connection
// gets the one that its own writer uses.
var hopByHop = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true,
	"transfer-encoding": true, "content-length": true, "upgrade": true, "http2-settings": true,
	"proxy-authenticate": true, "proxy-authorization": true,
}

// appendFields appends those of m's fields that are forwarded: not the
// hop-by-hop ones, not what Connection names, not those in skip.
func (m *Message) appendFields(b []byte, skip ...string) []byte {
	named := m.named()
	for _, f := range m.Fields {
		if name := lower(f.Name); hopByHop[name] || named[name] || contains(skip, name) {
			continue
		}
		b = appendField(b, f.Name, f.Value)
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// appendHead appends the request's header as the backend is to see it. host is
// used if the client named none; remote is the client's address, name this
// proxy's in Via.
func (req *Request) appendHead(b []byte, host, remote, name string) []byte {
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, req.Target...)
	b = append(b, " HTTP/1.1\r\n"...)
	if req.Host != "" || req.count("Host") > 0 {
		host = req.Host
	}
	b = appendField(b, "Host", host)
	hops, counted := req.maxForwards()
	skip := []string{"host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
	if counted {
		skip = append(skip, "max-forwards")
	}
	if req.Minor == 0 {
		skip = append(skip, "expect") // to be ignored (RFC 9110, section 10.1.1)
	}
	b = req.appendFields(b, skip...)
	b = appendField(b, "Via", after(req.Get("Via"), "1."+strconv.Itoa(req.Minor)+" "+name))
	if ip, _, err := net.SplitHostPort(remote); err == nil {
		b = appendField(b, "X-Forwarded-For", after(req.forwardedFor(), ip))
	}
	if req.Host != "" {
		b = appendField(b, "X-Forwarded-Host", req.Host)
	}
	b = appendField(b, "X-Forwarded-Proto", "http")
	if counted {
		b = appendField(b, "Max-Forwards", strconv.FormatInt(hops-1, 10))
	}
	switch req.Framing {
	case Length:
		b = appendField(b, "Content-Length", strconv.FormatInt(req.Length, 10))
	case Chunked:
		b = appendField(b, "Transfer-Encoding", "chunked")
	}
	connection := "close"
	if contains(req.tokens("TE"), "trailers") && req.Minor == 1 {
		connection = "close, TE"
		b = appendField(b, "TE", "trailers")
	}
	if req.Upgrade != "" {
		connection = strings.Replace(connection, "close", "Upgrade", 1)
		b = appendField(b, "Upgrade", req.Upgrade)
	}
	b = appendField(b, "Connection", connection)
	return append(b, "\r\n"...)
}

// forwardedFor returns the X-Forwarded-For that earlier proxies wrote, unless
// the client asked by Connection to have it removed.
func (req *Request) forwardedFor() string {
	if contains(req.tokens("Connection"), "x-forwarded-for") {
		return ""
	}
	return req.Get("X-Forwarded-For")
}

// maxForwards returns the Max-Forwards of an OPTIONS or TRACE request, which
// every proxy counts down (RFC 9110, section 7.6.2).
func (req *Request) maxForwards() (hops int64, ok bool) {
	if req.Method != http.MethodOptions && req.Method != http.MethodTrace {
		return 0, false
	}
	return parseLength(req.Get("Max-Forwards"))
}

// after returns the list with one element more.
func after(list, element string) string {
	if list == "" {
		return element
	}
	return list + ", " + element
}

// appendHead appends the response's header as the client is to see it; framing
// is how its body will be written. An interim response (1xx) has none.
func (resp *Response) appendHead(b []byte, framing Framing, name string) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(resp.Status), 10)
	b = append(b, ' ')
	b = append(b, resp.Reason...)
	b = append(b, "\r\n"...)
	b = resp.appendFields(b, "via")
	b = appendField(b, "Via", after(resp.Get("Via"), "1."+strconv.Itoa(resp.Minor)+" "+name))
	if resp.Status < 200 && resp.Status != http.StatusSwitchingProtocols {
		return append(b, "\r\n"...)
	}
	if resp.Status >= 200 && resp.count("Date") == 0 {
		b = appendField(b, "Date", time.Now().UTC().Format(http.TimeFormat))
	}
	switch {
	case resp.Status == http.StatusSwitchingProtocols:
		b = appendField(b, "Upgrade", resp.Get("Upgrade"))
		b = appendField(b, "Connection", "Upgrade")
		return append(b, "\r\n"...)
	case framing == Chunked:
		b = appendField(b, "Transfer-Encoding", "chunked")
	case framing == Length,
		framing == NoBody && resp.count("Content-Length") > 0 && resp.Status != http.StatusNoContent:
		// Without a body (HEAD, 304) it tells what the body's length would be.
		b = appendField(b, "Content-Length", strconv.FormatInt(resp.Length, 10))
	}
	b = appendField(b, "Connection", "close")
	return append(b, "\r\n"...)
}
