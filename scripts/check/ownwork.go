package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"reverseproxy/internal/book"
	"reverseproxy/scripts/check/suite"
)

// ownWork looks whether a Go program leaves the work to package net/http; what it
// returns says so kindly. The imports are those of the program and of all that it
// imports, but for the standard library and this book's own packages.
func ownWork(s *suite.Subject) (note string, err error) {
	if s.Chapter == "" || ofTheBook(s.Chapter) {
		return "", nil
	}
	list := exec.Command("go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}} {{join .Imports \" \"}}{{end}}", ".")
	list.Dir = s.Chapter
	out, err := list.Output()
	if err != nil {
		return "", nil // go build will say what is wrong
	}
	imports, main := map[string][]string{}, ""
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 0 {
			imports[words[0]] = words[1:]
			main = words[0] // comes after all that it imports
		}
	}
	seen := map[string]bool{}
	var look func(pkg, by string) string
	look = func(pkg, by string) string {
		if isHTTP(pkg) {
			return by
		}
		if seen[pkg] || pkg != main && strings.HasPrefix(pkg, module) && !below(pkg, main) {
			return ""
		}
		seen[pkg] = true
		for _, i := range imports[pkg] {
			if found := look(i, pkg); found != "" {
				return found
			}
		}
		return ""
	}
	by := look(main, "")
	if by == "" {
		return "", nil
	}
	where := by + " imports net/http"
	if by == main {
		where = "it imports net/http"
	}
	return fmt.Sprintf(`A note first: %s. That is a good
choice at work. On this path you write by hand what it would do for you: use net.Listen
and net.Dial, and read and write the bytes yourself. Once they are gone from your
imports, the stages begin. (To walk the path with net/http all the same, name the program
by its command line, with -cmd: then nobody looks at its imports.)`, where), nil
}

// module is the prefix of this module's packages.
const module = "reverseproxy/"

func isHTTP(pkg string) bool {
	return pkg == "net/http" || strings.HasPrefix(pkg, "net/http/")
}

// below reports whether a package is in the folder of another one, or further down.
func below(pkg, of string) bool { return strings.HasPrefix(pkg, of+"/") }

// ofTheBook reports whether a folder is a chapter's: its packages use constants of
// net/http.
func ofTheBook(dir string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	for _, c := range book.Proxies() {
		if filepath.Base(abs) == c.Dir {
			return true
		}
	}
	return false
}
