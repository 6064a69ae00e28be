package http1

// A name is one of the field names that this package acts on, or other.
type name uint8

const (
	other name = iota
	host
	via
	forwardedFor
	forwardedHost
	forwardedProto
	maxForwards
	expect
	date
	trailer
	connection
	keepAlive
	proxyConnection
	proxyAuthenticate
	proxyAuthorization
	te
	transferEncoding
	contentLength
	upgrade
	http2Settings
	names // how many there are
)

// spelling has each name in lower case.
var spelling = [names]string{
	host: "host", via: "via", date: "date", expect: "expect", trailer: "trailer",
	forwardedFor: "x-forwarded-for", forwardedHost: "x-forwarded-host",
	forwardedProto: "x-forwarded-proto", maxForwards: "max-forwards",
	connection: "connection", keepAlive: "keep-alive",
	proxyConnection: "proxy-connection", proxyAuthenticate: "proxy-authenticate",
	proxyAuthorization: "proxy-authorization", te: "te", transferEncoding: "transfer-encoding",
	contentLength: "content-length", upgrade: "upgrade", http2Settings: "http2-settings",
}

// byLength has the names by their length, so that a field is compared with one
// or two of them.
var byLength = func() (table [len("proxy-authorization") + 1][]name) {
	for n := other + 1; n < names; n++ {
		table[len(spelling[n])] = append(table[len(spelling[n])], n)
	}
	return table
}()

// known returns the name that s spells, in any case.
func known(s []byte) name {
	if len(s) < len(byLength) {
		for _, n := range byLength[len(s)] {
			if fold(s, spelling[n]) {
				return n
			}
		}
	}
	return other
}

// hopByHop are the fields that speak of one connection only and are never
// forwarded (RFC 9110, section 7.6.1). Framing is among them: each connection
// gets the one that its own writer uses.
var hopByHop = [names]bool{
	connection: true, keepAlive: true, proxyConnection: true, te: true,
	transferEncoding: true, contentLength: true, upgrade: true, http2Settings: true,
	proxyAuthenticate: true, proxyAuthorization: true,
}

// notInTrailers are further fields that change how a message is read, routed or
// trusted; behind the body they come too late (RFC 9110, section 6.5.1).
var notInTrailers = map[string]bool{
	"host": true, "trailer": true, "via": true, "max-forwards": true, "expect": true,
	"authorization": true, "cookie": true, "set-cookie": true, "cache-control": true,
	"content-type": true, "content-encoding": true, "content-range": true,
	"x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true,
}
