// Command httputil is the yardstick from the standard library: a reverse
// proxy of fifteen lines around net/http/httputil.
//
//	go run ./scripts/bench/httputil -listen 127.0.0.1:8080 -backend 127.0.0.1:8000
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	backend := flag.String("backend", "127.0.0.1:8000", "address of the backend")
	pool := flag.Int("pool", http.DefaultMaxIdleConnsPerHost, "idle backend connections kept")
	flag.Parse()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = *pool
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: *backend})
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Ready on %s\n", ln.Addr())
	log.Fatal(http.Serve(ln, proxy))
}
