package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"reverseproxy/internal/book"
	"reverseproxy/internal/peers"
	"reverseproxy/scripts/check/cases"
	"reverseproxy/scripts/check/suite"
)

// contestant is one column of the scoreboard.
type contestant struct {
	name    string
	version string
	how     string // how it was started
	plain   bool   // without any setting: a second row
	subject *suite.Subject
	report  *suite.Report
}

// The timeouts that nginx and HAProxy are set to, so that the timed cases
// need not wait for their defaults (60 s and none).
var shortSet = suite.Timeouts{Header: 1500 * time.Millisecond, Server: 3 * time.Second,
	Idle: 3 * time.Second, Connect: time.Second}

// nginxHead is what nginx needs to run here, and timeouts that nobody has to
// wait for.
const nginxHead = `daemon off;
worker_processes 1;
pid DIR/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  client_max_body_size 0;
  client_header_timeout 1500ms; client_body_timeout 3s;
  proxy_connect_timeout 1s; proxy_read_timeout 3s; proxy_send_timeout 3s;
`

// nginxConf is nginx as its documentation configures a reverse proxy with
// WebSockets and streaming (websocket.html, ngx_http_proxy_module.html,
// ngx_http_upstream_module.html).
const nginxConf = nginxHead + `  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream backends {
SERVERS
    keepalive 32;
  }
  server {
    listen LISTEN;
    server_name www.example.test;
    location / {
      proxy_pass http://backends;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Proto $scheme;
    }
  }
}
`

// nginxPlain is nginx without any setting.
const nginxPlain = nginxHead + `  upstream backends {
SERVERS
  }
  server {
    listen LISTEN;
    location / { proxy_pass http://backends; }
  }
}
`

// haproxyHead is what HAProxy needs to run here.
const haproxyHead = `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout http-request 1500ms
  timeout client 3s
  timeout server 3s
  timeout tunnel 1m
`

// haproxyConf is HAProxy as its documentation configures a reverse proxy.
const haproxyConf = haproxyHead + `  option forwardfor
  option redispatch 1
  http-reuse always
frontend in
  bind LISTEN
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Forwarded-Proto http
  default_backend backends
backend backends
  balance roundrobin
SERVERS`

// haproxyPlain is HAProxy without any setting.
const haproxyPlain = haproxyHead + `frontend in
  bind LISTEN
  default_backend backends
backend backends
SERVERS`

// How each of them names a backend; # is its number.
const (
	nginxServer   = "    server ADDR;"
	haproxyServer = "  server s# ADDR"
)

// inPlace prepares a peer in a folder of its own: several may run at once.
func inPlace(dir string, argv func(peers.Place) ([]string, error)) func(string,
	[]string) ([]string, error) {
	return func(listen string, backends []string) ([]string, error) {
		dir, err := os.MkdirTemp(dir, "run-")
		if err != nil {
			return nil, err
		}
		os.Chmod(dir, 0o755) // nginx's worker may be another user
		return argv(peers.Place{Dir: dir, Listen: listen, Backends: backends})
	}
}

const httputilName = "httputil.ReverseProxy"

// contestants collects everybody who can be started here.
func (o *options) contestants(dir string) (list []*contestant, missing []string, err error) {
	for _, ch := range book.Proxies() {
		list = append(list, &contestant{name: ch.Dir,
			version: "this repository, " + runtime.Version(),
			how: "`go run ./scripts/check ./" + ch.Dir +
				"`", subject: &suite.Subject{Name: ch.Dir, Chapter: "./" + ch.Dir}})
	}
	for _, p := range []struct {
		name, tool, version string
		start               func(p peers.Place, conf string) ([]string, error)
		conf, plain, server string
	}{
		{"nginx", "nginx", peers.Version("nginx", "-v"), peers.Place.Nginx, nginxConf, nginxPlain,
			nginxServer},
		{"HAProxy", "haproxy", peers.Version("haproxy", "-v"), peers.Place.HAProxy, haproxyConf,
			haproxyPlain, haproxyServer},
	} {
		if peers.Find(p.tool) == "" {
			missing = append(missing, p.name+": not installed")
			continue
		}
		for _, plain := range []bool{false, true} {
			conf := p.conf
			if plain {
				conf = p.plain
			}
			start := func(place peers.Place) ([]string, error) {
				return p.start(place,
					place.Fill(conf, p.server))
			}
			list = append(list, &contestant{name: p.name, version: number.FindString(p.version),
				plain: plain,
				how:   "the configuration below, three backends",
				subject: &suite.Subject{Name: p.name, Count: 3, Harmless: true,
					Timeouts: shortSet, Prepare: inPlace(dir, start)}})
		}
	}
	std := filepath.Join(dir, "httputilproxy.exe")
	if out, err := exec.Command("go", "build", "-o", std,
		"./scripts/check/httputilproxy").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("go build ./scripts/check/httputilproxy failed: %s", out)
	}
	argv := []string{std, "-listen", "127.0.0.1:0", "-backends", "%BACKENDS%"}
	set := append(argv[:len(argv):len(argv)], "-request-timeout", shortSet.Header.String(),
		"-server-timeout", shortSet.Server.String(), "-connect-timeout", shortSet.Connect.String())
	timeouts := shortSet
	timeouts.Idle = 0 // net/http has none for a body
	list = append(list,
		&contestant{name: httputilName, version: runtime.Version(),
			how:     "`scripts/check/httputilproxy`, three backends",
			subject: &suite.Subject{Name: httputilName, Count: 3, Timeouts: timeouts, Argv: set}},
		&contestant{name: httputilName, version: runtime.Version(), plain: true,
			subject: &suite.Subject{Name: httputilName, Count: 3, Argv: append(argv, "-plain"),
				Timeouts: suite.Timeouts{Header: 3 * time.Second,
					Server: 2 * time.Second}}}) // none: no need to wait longer
	if o.cdir != "" {
		c, absent := cContestants(o.cdir, dir)
		list, missing = append(list, c...), append(missing, absent...)
	}
	return list, missing, nil
}

// number is a version in what a program prints.
var number = regexp.MustCompile(`[0-9]+\.[0-9.]+\S*`)

// cContestants are the C originals that are proxies, each compiled for the ports
// that the checker has chosen.
func cContestants(cdir, dir string) (list []*contestant, missing []string) {
	if peers.Find("cc") == "" {
		return nil, []string{"the C originals: no C compiler"}
	}
	for _, ch := range book.Proxies() {
		if ch.C == nil {
			continue
		}
		source := filepath.Join(cdir, ch.C.File)
		if _, err := os.Stat(source); err != nil {
			missing = append(missing, ch.C.File+": not in "+cdir)
			continue
		}
		start := func(p peers.Place) ([]string, error) { return p.C(source) }
		list = append(list, &contestant{name: ch.C.File,
			version: "compiled by " + peers.Version("cc", "--version"),
			how:     "a temporary copy with other ports",
			subject: &suite.Subject{Name: ch.C.File, Count: len(ch.Backends),
				Prepare: inPlace(dir, start),
				// They have none: no need to wait longer.
				Timeouts: suite.Timeouts{Header: time.Second, Server: time.Second}}})
	}
	return list, missing
}

// writeScoreboard checks everybody and writes the page.
func (o *options) writeScoreboard(stdout, stderr io.Writer) int {
	dir, err := os.MkdirTemp("", "scoreboard-")
	if err != nil {
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755) // nginx's worker may be another user
	list, missing, err := o.contestants(dir)
	if err != nil {
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	only, err := regexp.Compile("(?i)" + o.only)
	if err != nil {
		fmt.Fprintf(stderr, "check: -run: %v\n", err)
		return exitUsage
	}
	list = slices.DeleteFunc(list, func(c *contestant) bool { return !only.MatchString(c.name) })
	if len(list) == 0 {
		fmt.Fprintf(stderr, "check: -run %s matches none of those who can be started here\n",
			o.only)
		return exitUsage
	}
	failed := false
	for _, c := range list {
		fmt.Fprintf(stdout, "%-32s ", c.row())
		opts := suite.Options{}
		if o.verbose {
			fmt.Fprintln(stdout)
			opts.OnEvent = func(r suite.Result) { printLine(stdout, r) }
		}
		c.report, err = suite.Run(c.subject, cases.All(), opts)
		c.subject.Clean()
		if err != nil {
			fmt.Fprintf(stdout, "not run: %v\n", err)
			missing = append(missing, c.row()+": "+err.Error())
			failed = true
			continue
		}
		l := c.report.Score().Levels
		fmt.Fprintf(stdout, "must %-8s should %-7s quality %-7s %5.1f s\n", l["must"],
			l["should"], l["quality"],
			float64(c.report.Millis)/1000)
	}
	if o.only != "" && o.out == "" {
		fmt.Fprintf(stdout, "%s is left as it is; -o FILE writes a page of these alone\n",
			scoreboardPage)
		return exitCode(failed)
	}
	if o.out == "" {
		o.out = scoreboardPage
	}
	if err := os.WriteFile(o.out, []byte(page(list, missing)), 0o644); err != nil {
		fmt.Fprintf(stderr, "check: %v\n", err)
		return exitFails
	}
	fmt.Fprintf(stdout, "%s written\n", o.out)
	return exitCode(failed)
}

// scoreboardPage is the page of everybody.
const scoreboardPage = "docs/scoreboard.md"

func exitCode(failed bool) int {
	if failed {
		return exitFails
	}
	return exitOK
}

// row is what a contestant is called in the first table.
func (c *contestant) row() string {
	if c.plain {
		return c.name + ", defaults"
	}
	return c.name
}
