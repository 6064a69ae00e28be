package chooser

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch2_basic_proxy/http1"
	"reverseproxy/ch9_balancing_algorithms/choose"
)

// sticky is the algorithm that works with a cookie.
const sticky = "sticky-cookie"

// cookieName is the name of the cookie that names a client's backend: by a hash, as
// the client need not know its address.
const cookieName = "proxy-backend"

// cookie returns the hash that the request's cookie names, or 0.
func cookie(r *forward.Request) (hash uint64) {
	for i := range r.Fields {
		if f := &r.Fields[i]; isField(f, "Cookie") {
			for part := range bytes.SplitSeq(f.Value, []byte(";")) {
				if value, ok := ours(part); ok && hash == 0 {
					hash, _ = strconv.ParseUint(string(value), 16, 64)
				}
			}
		}
	}
	return hash
}

// ours returns the value of a cookie, if it is this proxy's.
func ours(part []byte) (value []byte, ok bool) {
	name, value, _ := bytes.Cut(bytes.TrimSpace(part), []byte("="))
	return value, string(name) == cookieName
}

func isField(f *http1.Field, name string) bool {
	return len(f.Name) == len(name) && strings.EqualFold(string(f.Name), name)
}

// takeCookie takes the cookie out of the request: it is between the client and this
// proxy, and no backend's. It tells if the backend that it names is another one than
// the one chosen.
func (c *Choice) takeCookie() {
	if hash := cookie(c.request); hash != 0 {
		c.cookie = hash
	}
	kept := c.request.Fields[:0]
	for _, f := range c.request.Fields {
		if isField(&f, "Cookie") && bytes.Contains(f.Value, []byte(cookieName)) {
			if f.Value = without(f.Value); len(f.Value) == 0 {
				continue
			}
		}
		kept = append(kept, f)
	}
	c.request.Fields = kept
	if c.cookie != 0 && c.cookie != choose.Hash(c.backend.Name) {
		c.log.Cookie(fmt.Sprintf("its cookie names %s: it moves to %s", c.chooser.named(c.cookie),
			c.backend.Name))
	}
}

// without returns a Cookie field's value without this proxy's cookie.
func without(value []byte) []byte {
	var kept [][]byte
	for part := range bytes.SplitSeq(value, []byte(";")) {
		if _, ok := ours(part); !ok {
			kept = append(kept, part)
		}
	}
	return bytes.TrimSpace(bytes.Join(kept, []byte(";")))
}

// named says which backend a cookie names.
func (c *Chooser) named(hash uint64) string {
	for _, b := range c.backends {
		if choose.Hash(b.Name) == hash {
			return b.Name + ", which cannot have this request"
		}
	}
	return "no backend"
}

// setCookie has the answer name the backend that gave it, unless the client knows.
func (c *Choice) setCookie(r *http1.Response) {
	if hash := choose.Hash(c.backend.Name); hash != c.cookie {
		makePrivate(r)
		r.Add("Set-Cookie",
			fmt.Sprintf("%s=%016x; Path=/; HttpOnly; SameSite=Lax", cookieName, hash))
	}
}

// makePrivate makes an answer one for its client alone: a cache that gave the cookie to
// others would send them all to one backend. What the backend says of caches stays, as
// far as it agrees with that.
func makePrivate(r *http1.Response) {
	directives, private := []string{}, false
	for d := range strings.SplitSeq(string(r.Get("Cache-Control")), ",") {
		d = strings.TrimSpace(d)
		name, _, _ := strings.Cut(strings.ToLower(d), "=")
		switch {
		case name == "", name == "public", name == "s-maxage":
			continue
		case strings.EqualFold(d, "private"), name == "no-store":
			private = true
		case name == "private", strings.Contains(d, `"`): // of some fields only, and their list
			continue
		}
		directives = append(directives, d)
	}
	if !private {
		directives = append(directives, "private")
	}
	r.Fields = slices.DeleteFunc(r.Fields, func(f http1.Field) bool {
		return isField(&f, "Cache-Control")
	})
	r.Add("Cache-Control", strings.Join(directives, ", "))
}
