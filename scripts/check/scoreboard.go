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
	"strings"
	"time"

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
SERVERS    keepalive 32;
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
SERVERS  }
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
	nginxServer   = "    server ADDR;\n"
	haproxyServer = "  server s# ADDR\n"
)

// configured fills in a configuration.
func configured(conf, server, dir, listen string, backends []string) string {
	servers := ""
	for i, b := range backends {
		servers += strings.NewReplacer("#", fmt.Sprint(i+1), "ADDR", b).Replace(server)
	}
	return strings.NewReplacer("DIR", dir, "LISTEN", listen, "SERVERS", servers).Replace(conf)
}

// prepare writes a configuration and returns the command that uses it.
func prepare(dir, name, conf, server string, argv ...string) func(string, []string) ([]string, error) {
	return func(listen string, backends []string) ([]string, error) {
		dir, err := os.MkdirTemp(dir, "run-") // several may run at once
		if err != nil {
			return nil, err
		}
		os.Chmod(dir, 0o755) // nginx's worker may be another user
		text := configured(conf, server, dir, listen, backends)
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return nil, err
		}
		args := append([]string(nil), argv...)
		for i := range args {
			args[i] = strings.Replace(args[i], "DIR", dir, 1)
		}
		return append(args, file), nil
	}
}

// findTool looks for a program, also where Debian keeps daemons.
func findTool(name string) string {
	for _, p := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

// versionOf runs a program and takes the first match of its output.
func versionOf(pattern string, argv ...string) string {
	out, _ := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if m := regexp.MustCompile(pattern).FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return "unknown"
}

// chapterNames are the chapters that are proxies, in order.
var chapterNames = []string{"ch2_basic_proxy", "ch3_process_model", "ch4_threaded", "ch5_load_balancer"}

const httputilName = "httputil.ReverseProxy"

// contestants collects everybody who can be started here.
func (o *options) contestants(dir string) (list []*contestant, missing []string, err error) {
	for _, name := range chapterNames {
		if _, err := os.Stat(name); err != nil {
			missing = append(missing, name+": no such directory")
			continue
		}
		list = append(list, &contestant{name: name, version: "this repository, " + runtime.Version(),
			how: "`go run ./scripts/check ./" + name + "`", subject: &suite.Subject{Name: name, Chapter: "./" + name}})
	}
	for _, p := range []struct {
		name, tool, version string
		conf, plain, server string
		argv                []string
	}{
		{"nginx", "nginx", `nginx/(\S+)`, nginxConf, nginxPlain, nginxServer, []string{"-p", "DIR", "-c"}},
		{"HAProxy", "haproxy", `version (\S+)`, haproxyConf, haproxyPlain, haproxyServer, []string{"-q", "-f"}},
	} {
		tool := findTool(p.tool)
		if tool == "" {
			missing = append(missing, p.name+": not installed")
			continue
		}
		argv := append([]string{tool}, p.argv...)
		version := versionOf(p.version, tool, "-v")
		for _, plain := range []bool{false, true} {
			c := &contestant{name: p.name, version: version, plain: plain, how: "the configuration below, three backends"}
			conf := p.conf
			if plain {
				conf = p.plain
			}
			c.subject = &suite.Subject{Name: p.name, Count: 3, Harmless: true, Timeouts: shortSet,
				Prepare: prepare(dir, p.tool+".conf", conf, p.server, argv...)}
			list = append(list, c)
		}
	}
	std := filepath.Join(dir, "httputilproxy.exe")
	if out, err := exec.Command("go", "build", "-o", std, "./scripts/check/httputilproxy").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("go build ./scripts/check/httputilproxy failed: %s", out)
	}
	argv := []string{std, "-listen", "127.0.0.1:0", "-backends", "%BACKENDS%"}
	set := append(argv[:len(argv):len(argv)], "-request-timeout", shortSet.Header.String(),
		"-server-timeout", shortSet.Server.String(), "-connect-timeout", shortSet.Connect.String())
	timeouts := shortSet
	timeouts.Idle = 0 // net/http has none for a body
	list = append(list,
		&contestant{name: httputilName, version: runtime.Version(), how: "`scripts/check/httputilproxy`, three backends",
			subject: &suite.Subject{Name: httputilName, Count: 3, Timeouts: timeouts, Argv: set}},
		&contestant{name: httputilName, version: runtime.Version(), plain: true,
			subject: &suite.Subject{Name: httputilName, Count: 3, Argv: append(argv, "-plain"),
				Timeouts: suite.Timeouts{Header: 3 * time.Second, Server: 2 * time.Second}}}) // none: no need to wait longer
	if o.cdir != "" {
		c, absent, err := cContestants(o.cdir, dir)
		if err != nil {
			return nil, nil, err
		}
		list, missing = append(list, c...), append(missing, absent...)
	}
	return list, missing, nil
}

// cProxies are the C originals that are proxies, with their backends.
var cProxies = []struct {
	file     string
	backends int
}{
	{"Reverse_Proxy.c", 1}, {"fork_proxy.c", 1}, {"threaded_proxy.c", 1}, {"proxy_load_balancer.c", 3},
}

// cContestants compiles the C originals, each time for the ports that the
// checker has chosen: a temporary copy names them instead of 8080 and 8000.
func cContestants(cdir, dir string) (list []*contestant, missing []string, err error) {
	cc := findTool("cc")
	if cc == "" {
		return nil, []string{"the C originals: no C compiler"}, nil
	}
	for _, p := range cProxies {
		source, err := os.ReadFile(filepath.Join(cdir, p.file))
		if err != nil {
			missing = append(missing, p.file+": not in "+cdir)
			continue
		}
		prepare := func(listen string, backends []string) ([]string, error) {
			return compile(cc, dir, p.file, source, listen, backends)
		}
		list = append(list, &contestant{name: p.file, version: "compiled by " + versionOf(`(?m)^(.*)$`, cc, "--version"),
			how: "a temporary copy with other ports",
			subject: &suite.Subject{Name: p.file, Count: p.backends, Prepare: prepare,
				// They have none: no need to wait longer.
				Timeouts: suite.Timeouts{Header: time.Second, Server: time.Second}}})
	}
	return list, missing, nil
}

// compile builds a copy of a C original for other ports.
func compile(cc, dir, file string, source []byte, listen string, backends []string) ([]string, error) {
	port := func(a string) string { return a[strings.LastIndexByte(a, ':')+1:] }
	text := regexp.MustCompile(`\b8080\b`).ReplaceAllString(string(source), port(listen))
	for i, b := range backends {
		text = regexp.MustCompile(fmt.Sprintf(`\b%d\b`, 8000+i)).ReplaceAllString(text, port(b))
	}
	dir, err := os.MkdirTemp(dir, "run-") // several may run at once
	if err != nil {
		return nil, err
	}
	c := filepath.Join(dir, file)
	if err := os.WriteFile(c, []byte(text), 0o644); err != nil {
		return nil, err
	}
	bin := strings.TrimSuffix(c, ".c")
	if out, err := exec.Command(cc, "-O2", "-w", "-pthread", "-o", bin, c).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s does not compile: %s", file, out)
	}
	return []string{bin}, nil
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
		fmt.Fprintf(stderr, "check: -run %s matches none of those who can be started here\n", o.only)
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
		c.report, err = suite.Run(c.subject, opts)
		c.subject.Clean()
		if err != nil {
			fmt.Fprintf(stdout, "not run: %v\n", err)
			missing = append(missing, c.row()+": "+err.Error())
			failed = true
			continue
		}
		l := c.report.Score().Levels
		fmt.Fprintf(stdout, "must %-8s should %-7s quality %-7s %5.1f s\n", l["must"], l["should"], l["quality"],
			float64(c.report.Millis)/1000)
	}
	if o.only != "" && o.out == "" {
		fmt.Fprintf(stdout, "%s is left as it is; -o FILE writes a page of these alone\n", scoreboardPage)
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
