package peers

import "os"

// The configurations of scripts/bench: one worker, every limit far away. One
// request a connection is nginx's own default towards the backend; keeping
// connections needs the upstream block's keepalive.

const nginxFast = `daemon off; worker_processes 1; worker_rlimit_nofile 20000;
pid DIR/pid; error_log DIR/error.log crit;
USER
events { worker_connections 16000; }
http {
  access_log off; keepalive_requests 1000000; client_header_timeout 60s;
  client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3;
  uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5; proxy_max_temp_file_size 0;
  CONTENT
}
`

const nginxProxy = `upstream backend { SERVERS KEEP }
  server { listen LISTEN backlog=4096; location / { proxy_pass http://backend; HTTP11 } }`

const haproxyFast = `global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  MODE
frontend in
  bind LISTEN backlog 4096
  default_backend out
backend out
SERVERS`

// NginxServing is nginx with these servers, as a backend.
func (p Place) NginxServing(servers string) ([]string, error) {
	return p.Nginx(p.Fill(nginxFast, "", "USER", rootUser(), "CONTENT", servers))
}

// NginxFast is nginx as scripts/bench races it.
func (p Place) NginxFast(keepAlive bool) ([]string, error) {
	keep, http11 := "", ""
	if keepAlive {
		keep = "keepalive 256; keepalive_requests 1000000;"
		http11 = `proxy_http_version 1.1; proxy_set_header Connection "";`
	}
	return p.NginxServing(p.Fill(nginxProxy, "server ADDR;", "KEEP", keep, "HTTP11", http11))
}

// HAProxyFast is HAProxy as scripts/bench races it.
func (p Place) HAProxyFast(keepAlive bool) ([]string, error) {
	mode := "option httpclose"
	if keepAlive {
		mode = "option http-keep-alive\n  http-reuse always"
	}
	return p.HAProxy(p.Fill(haproxyFast, "  server s# ADDR", "MODE", mode))
}

// rootUser lets nginx's worker write into a directory of root's.
func rootUser() string {
	if os.Getuid() == 0 {
		return "user root;"
	}
	return ""
}
