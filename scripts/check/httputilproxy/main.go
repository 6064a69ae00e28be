// The plain httputil.ReverseProxy of the scoreboard: what one gets from the
// standard library in a few lines, without any setting.
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
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	backends := flag.String("backends", "127.0.0.1:8000", "backends, with commas between, taken in turn")
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
			r.SetXForwarded()
		},
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("Ready on", ln.Addr())
	server := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
	fmt.Fprintln(os.Stderr, server.Serve(ln))
	os.Exit(1)
}
