package site

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Playground is the page on which chapter 9's algorithms run in the browser.
const Playground = "playground.html"

// wasmDir is the program of that page, which is compiled when the book is made.
const wasmDir = "scripts/playground/wasm"

// wasmSources are the folders whose Go files it is made of.
var wasmSources = []string{wasmDir, "scripts/playground", "ch9_balancing_algorithms/choose",
	"ch9_balancing_algorithms/simulate"}

// playgroundView is what the template "playground" shows.
type playgroundView struct {
	Choose, Simulate, Farm, Chapter string // URLs
	Licence                         bool   // Go's stands beside the program
}

// playground makes the page, if the repository has its program.
func (b *builder) playground() {
	b.depends(wasmDir)
	if _, err := b.repo.Stat(wasmDir); err != nil {
		return
	}
	program, err := b.compile()
	if err != nil {
		b.problem("%s: the playground is left out: %v", wasmDir, err)
		return
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err == nil {
		goroot := strings.TrimSpace(string(root))
		b.site.Files["assets/wasm_exec.js"], err = os.ReadFile(
			filepath.Join(goroot, "lib", "wasm", "wasm_exec.js"))
		if licence, err := os.ReadFile(filepath.Join(goroot, "LICENSE")); err == nil {
			b.site.Files["assets/go-licence.txt"] = licence
		}
	}
	if err != nil {
		b.problem("%s: the playground is left out: %v", wasmDir, err)
		return
	}
	// A page that was opened from a file must not load the program, so it is a script.
	b.site.Files["assets/playground-program.js"] = fmt.Appendf(nil,
		"\"use strict\";\n// package choose and simulate for WebAssembly, packed with gzip\n"+
			"const playgroundProgram = \"%s\";\n", base64.StdEncoding.EncodeToString(program))
	for _, name := range []string{"playground.css", "playground.js"} {
		b.site.Files["assets/"+name], _ = assets.ReadFile("assets/" + name)
	}
	b.nav.Playground = true
	view := playgroundView{Licence: b.site.Files["assets/go-licence.txt"] != nil}
	for dir, url := range map[string]*string{"ch9_balancing_algorithms/choose": &view.Choose,
		"ch9_balancing_algorithms/simulate": &view.Simulate, "scripts/playground": &view.Farm,
		"docs/ch9_balancing_algorithms.md": &view.Chapter} {
		if *url, err = b.place(dir); err != nil {
			b.problem("%s: %v", Playground, err)
		}
	}
	b.page(Playground, "play", "The playground", b.render("playground.html", view))
}

// compiled remembers the program, by the state of its sources.
var compiled struct {
	sync.Mutex
	of      string
	program []byte // WebAssembly, packed with gzip
}

// compile compiles the program, or takes what it compiled last if no source has changed.
func (b *builder) compile() ([]byte, error) {
	of := b.rootName
	for _, dir := range wasmSources {
		b.depends(dir)
		files, err := fs.Glob(b.repo.FS(), dir+"/*.go")
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			b.depends(name)
			if info, err := b.repo.Stat(name); err == nil {
				of += fmt.Sprint(" ", name, info.ModTime().UnixNano(), info.Size())
			}
		}
	}
	compiled.Lock()
	defer compiled.Unlock()
	if compiled.of == of {
		return compiled.program, nil
	}
	dir, err := os.MkdirTemp("", "playground-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "playground.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./"+wasmDir)
	build.Dir = b.rootName
	build.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = w.Write(program) // into memory: no error
	if err := w.Close(); err != nil {
		return nil, err
	}
	compiled.of, compiled.program = of, packed.Bytes()
	return compiled.program, nil
}
