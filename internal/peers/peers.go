// Package peers makes the command lines of the proxies that others wrote and
// the tools compare the chapters with: nginx, HAProxy, and the C programs.
package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Place is where a peer runs.
type Place struct {
	Dir      string   // for generated files
	Listen   string   // its address
	Backends []string // addresses
}

// Find returns the path of a program, "" if it is not installed. It looks in
// sbin too, where servers live and the PATH of a plain user does not look.
func Find(name string) string {
	for _, dir := range []string{"", "/usr/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// Version is the first line a command prints, "" when it is not installed.
func Version(name string, args ...string) string {
	path := Find(name)
	if path == "" {
		return ""
	}
	out, _ := exec.Command(path, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	line = strings.TrimPrefix(strings.TrimSpace(line), "nginx version: ")
	line, _, _ = strings.Cut(line, " - http")
	return line
}

// Fill fills a text in: DIR, LISTEN and PORT stand for the place's, SERVERS for
// one line for each backend: server, with # for its number and ADDR for its
// address. More pairs, old and new, may follow.
func (p Place) Fill(text, server string, pairs ...string) string {
	var servers []string
	for i, addr := range p.Backends {
		one := strings.NewReplacer("#", strconv.Itoa(i+1), "ADDR", addr)
		servers = append(servers, one.Replace(server))
	}
	_, port, _ := net.SplitHostPort(p.Listen)
	return strings.NewReplacer(append(pairs, "DIR", p.Dir, "LISTEN", p.Listen, "PORT", port,
		"SERVERS", strings.Join(servers, "\n"))...).Replace(text)
}

// write writes a file into the place. HAProxy takes no last line without an end.
func (p Place) write(name, text string) (file string, err error) {
	file, text = filepath.Join(p.Dir, name), strings.TrimSuffix(text, "\n")+"\n"
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// Nginx is the command line of nginx with a configuration, filled in.
func (p Place) Nginx(conf string) ([]string, error) {
	file, err := p.write("nginx.conf", conf)
	return []string{Find("nginx"), "-p", p.Dir, "-c", file}, err
}

// HAProxy is the command line of HAProxy with a configuration, filled in.
func (p Place) HAProxy(conf string) ([]string, error) {
	file, err := p.write("haproxy.cfg", conf)
	return []string{Find("haproxy"), "-q", "-db", "-f", file}, err
}

var port = regexp.MustCompile(`\b(8080|800[012])\b`)

// C compiles a copy of a C program that has other port numbers, with cc -O2: the
// original's are fixed, and without SO_REUSEADDR each stays taken for a minute
// after traffic.
func (p Place) C(source string) ([]string, error) {
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	ports := map[string]string{"8080": p.Listen}
	for i, addr := range p.Backends {
		ports[strconv.Itoa(8000+i)] = addr
	}
	code := port.ReplaceAllStringFunc(string(text), func(was string) string {
		if _, own, err := net.SplitHostPort(ports[was]); err == nil {
			return own
		}
		return was
	})
	name := filepath.Base(source)
	file, err := p.write(name, code)
	if err != nil {
		return nil, err
	}
	program := strings.TrimSuffix(file, ".c")
	out, err := exec.Command("cc", "-O2", "-w", "-pthread", "-o", program, file).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("cc %s: %w: %s", name, err, out)
	}
	return []string{program}, err
}
