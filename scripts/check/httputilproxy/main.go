// The httputil.ReverseProxy of the scoreboard, set up as the documentation of
// net/http and httputil advises; with -plain as it comes, without a setting.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	backends := flag.String("backends", "127.0.0.1:8000", "backends, with commas between, taken "+
		"in turn")
	plain := flag.Bool("plain", false, "no timeouts, no flushing")
	header := flag.Duration("request-timeout", 10*time.Second, "for a client's header")
	server := flag.Duration("server-timeout", 15*time.Second, "for a backend's header")
	connect := flag.Duration("connect-timeout", 5*time.Second, "for a backend to accept")
	flag.Parse()
	var targets []*url.URL
	for _, b := range strings.Split(*backends, ",") {
		targets = append(targets, &url.URL{Scheme: "http", Host: b})
	}
	var next atomic.Uint64
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(targets[(next.Add(1)-1)%uint64(len(targets))])
			if !*plain {
				// SetXForwarded appends to what came.
				r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			}
			r.SetXForwarded()
		},
	}
	service := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	if !*plain {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = (&net.Dialer{Timeout: *connect}).DialContext
		t.ResponseHeaderTimeout = *server
		proxy.Transport = t
		proxy.FlushInterval = -1 // after each write
		service.ReadHeaderTimeout = *header
		service.IdleTimeout = time.Minute
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("Ready on", ln.Addr())
	fmt.Fprintln(os.Stderr, service.Serve(ln))
	os.Exit(1)
}
