package cli

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"reverseproxy/internal/narrate"
)

// parse reads the command line and checks it. Mistakes end the program with
// exit code 2.
func (a *App) parse() {
	switch err := a.Flags.Parse(a.Args); {
	case err == flag.ErrHelp:
		a.usage()
		os.Exit(0)
	case err != nil:
		const unknown = "flag provided but not defined: -"
		if name, ok := strings.CutPrefix(err.Error(), unknown); ok {
			err = a.noFlag(name)
		}
		badUsage(a.explainValue(err))
	}
	if a.Flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", a.Flags.Arg(0))
		if near := a.nearest(a.Flags.Arg(0)); near != "" {
			err = fmt.Errorf("%w; did you mean -%s?", err, near)
		}
		badUsage(err)
	}
	for _, check := range append([]func() error{a.checkFlags}, a.checks...) {
		if err := check(); err != nil {
			badUsage(err)
		}
	}
}

// explainValue says what a value should have been, where package flag says only
// that it cannot be parsed.
func (a *App) explainValue(err error) error {
	before, parse := strings.CutSuffix(err.Error(), ": parse error")
	_, name, _ := strings.Cut(before, " for flag -")
	f := a.Flags.Lookup(name)
	if !parse || f == nil {
		return err
	}
	if value, ok := f.Value.(flag.Getter); ok {
		switch value.Get().(type) {
		case time.Duration:
			return errors.New(before + ": it must be a time such as 500ms or 2s")
		case int, int64:
			return errors.New(before + ": it must be a whole number")
		}
	}
	return err
}

func (a *App) checkFlags() error {
	if err := checkAddr("-listen", a.Listen); err != nil {
		return err
	}
	for _, addr := range strings.Split(a.backends, ",") {
		if a.backends == "" {
			break
		}
		addr = strings.TrimSpace(addr)
		if err := checkAddr(a.backendFlag(), addr); err != nil {
			return err
		}
		if freePort(addr) && !a.demo {
			return fmt.Errorf("%s %s: nothing can listen on port 0; "+
				"only with -demo it means any free port",
				a.backendFlag(), addr)
		}
		a.Backends = append(a.Backends, addr)
	}
	if a.Flags.Lookup("backend") != nil && len(a.Backends) != 1 {
		return fmt.Errorf("-backend takes one address; several backends are for ch5_load_balancer")
	}
	if a.Flags.Lookup("backends") != nil && len(a.Backends) == 0 {
		return fmt.Errorf("-backends needs at least one address")
	}
	if a.watch != "" {
		if err := checkAddr("-watch", a.watch); err != nil {
			return err
		}
	}
	if strings.HasPrefix(a.watch, ":") {
		a.watch = "127.0.0.1" + a.watch // the page has buttons: not for everybody, unless asked
	}
	if err := a.checkDistinct(); err != nil {
		return err
	}
	if a.format != "text" && a.format != "json" && a.format != "off" {
		return fmt.Errorf("-log is text, json or off, not %q", a.format)
	}
	if a.slow < 0 {
		return fmt.Errorf("-slow-motion must not be negative")
	}
	return nil
}

// backendFlag is the name of the flag that this chapter has for its backends.
func (a *App) backendFlag() string {
	if a.Flags.Lookup("backends") != nil {
		return "-backends"
	}
	return "-backend"
}

// freePort reports whether addr asks for any free port.
func freePort(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	n, err := net.LookupPort("tcp", port)
	return err == nil && n == 0
}

// checkDistinct refuses one port for two listeners of this program, however it
// is spelled.
func (a *App) checkDistinct() error {
	type listener struct{ name, addr string }
	all := []listener{{"-listen", a.Listen}}
	if a.watch != "" {
		all = append(all, listener{"-watch", a.watch})
	}
	if a.demo {
		for _, addr := range a.Backends {
			all = append(all, listener{"a backend of -demo", addr})
		}
	}
	for i, one := range all {
		for _, other := range all[i+1:] {
			if one.name != other.name && collide(one.addr, other.addr) {
				return fmt.Errorf("%s and %s cannot both have the same port: %s, %s",
					one.name, other.name, one.addr, other.addr)
			}
		}
	}
	return nil
}

// checkAddr wants host:port with a port that can exist.
func checkAddr(name, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q is not an address such as 127.0.0.1:8080", name, addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%s %q: the port must be a number from 0 to 65535", name, addr)
	}
	return nil
}

// CountVar registers a flag for a number that is at least 1.
func (a *App) CountVar(p *int, name string, value int, usage string) {
	*p = value
	a.Flags.Func(name, fmt.Sprintf("%s (default %d)", usage, value), func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("it must be a number of at least 1")
		}
		*p = n
		return nil
	})
}

func badUsage(err error) {
	fmt.Fprintf(os.Stderr, "%s\nThe flags are explained by -h.\n", narrate.Wrap(err.Error(), 0, 4))
	os.Exit(2)
}
