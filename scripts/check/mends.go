package main

import (
	"fmt"
	"strings"
)

// mend says how a failure of a peer goes away: by one more setting, or in a
// newer version. Each was tried with the suite: settings with the versions that
// the scoreboard names, newer ones as nginx 1.31.5 and HAProxy 3.5-dev5 (the version
// that brought it is from their lists of changes).
type mend struct {
	who   string
	cases string // ids
	how   string
}

var mends = []mend{
	{"nginx", "resp-lengths-differ resp-length-invalid resp-length-negative", "nginx 1.23.0"},
	{"nginx", "interim-http10", "nginx 1.29.0"},
	{"nginx", "hop-request", "nginx 1.31, or by the setting `proxy_set_header Proxy-Connection " +
		"\"\"`"},
	{"nginx", "hop-response", "the settings `proxy_hide_header Proxy-Connection` and " +
		"`proxy_hide_header Keep-Alive`"},
	{"nginx", "via-request", "the setting `proxy_set_header Via`, with a `map` of `$http_via`"},
	{"nginx", "date-kept", "the setting `proxy_pass_header Date`"},
	{"nginx", "limit-response-head-16k", "the settings `proxy_buffer_size 32k` and " +
		"`proxy_buffers 4 32k`"},
	{"nginx", "trailer-response", "nginx 1.27.2 with the settings `proxy_pass_trailers on` and " +
		"`proxy_set_header TE $http_te`"},
	{"nginx", "pool-hint", "the setting `keepalive_timeout` of its upstream, if it is less than " +
		"what any backend says"},
	{"nginx", "retry-body", "the setting `proxy_request_buffering on`, its default"},
	{"HAProxy", "pool-race-close pool-race-reset pool-race-408 retry-broken", "the settings " +
		"`retry-on conn-failure empty-response 408` and " +
		"`http-request disable-l7-retry unless METH_GET`"},
	{"HAProxy", "resp-nul smuggle-nul", "HAProxy 3.0"},
	{"HAProxy", "limit-uri-414 limit-head-431", "HAProxy 3.3"},
	{"HAProxy", "line-high-bytes", "a newer HAProxy (3.5-dev5)"},
	{"HAProxy", "smuggle-host-invalid", "a newer HAProxy (3.5-dev5), or by an `http-request " +
		"deny` on `req.hdr(host)`"},
	{"HAProxy", "smuggle-host-none", "the setting `http-request deny deny_status 400 unless { " +
		"req.hdr_cnt(host) eq 1 }`"},
	{"HAProxy", "via-request", "the setting `http-request add-header Via \"1.1 haproxy\"`"},
	{"HAProxy", "date-added", "an `http-response set-header Date` for responses that have none"},
	{"HAProxy", "basic-origin-form", "the setting `http-request set-uri %[pathq] if { url_beg " +
		"http:// }`"},
	{"HAProxy", "hop-request", "the settings `http-request del-header Keep-Alive` and " +
		"`Proxy-Connection`"},
	{"HAProxy", "hop-response", "the settings `http-response del-header Keep-Alive` and " +
		"`Proxy-Connection`"},
	{"HAProxy", "max-forwards-zero", "an `http-request return` for OPTIONS with `Max-Forwards: 0`"},
	{"HAProxy", "upgrade-grammar", "an `http-request deny` on `req.hdr(Upgrade)`"},
	{"HAProxy", "limit-response-head-16k", "the setting `tune.bufsize 65536`"},
	{httputilName, "basic-encoding basic-no-invention", "the setting " +
		"`Transport.DisableCompression`"},
	{httputilName, "basic-query", "`r.Out.URL.RawQuery = r.In.URL.RawQuery` in Rewrite, whose " +
		"documentation warns of what that opens"},
	{httputilName, "via-request", "a line in Rewrite that adds Via"},
	{httputilName, "error-body timeout-504", "an ErrorHandler of one's own"},
	{httputilName, "pool-hint", "the setting `Transport.IdleConnTimeout`, if it is less than " +
		"what any backend says"},
	{httputilName, "limit-line-64k", "the setting `Server.MaxHeaderBytes`"},
}

// mendOf returns what mends a case of a peer, as a sentence, or "".
func mendOf(who, id string) string {
	for _, m := range mends {
		if m.who == who && strings.Contains(" "+m.cases+" ", " "+id+" ") {
			return fmt.Sprintf(" *Mended by* %s.", m.how)
		}
	}
	return ""
}
