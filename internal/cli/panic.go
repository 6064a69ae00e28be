package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"reverseproxy/internal/narrate"
)

// TellPanic writes a recovered panic to standard error, whatever -log says: its
// value, and the lines of this program's code where it happened, the innermost
// first, up to the first in main.go's package. Without it a mistake in the code
// would be an answer of 500 and nothing else. Call it in the function that has
// called recover.
func TellPanic(value any) {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(1, pcs)]
	tellPanic(os.Stderr, value, runtime.CallersFrames(pcs))
}

func tellPanic(w io.Writer, value any, frames *runtime.Frames) {
	var b strings.Builder
	fmt.Fprintln(&b, narrate.Wrap("panic: "+narrate.Clean(fmt.Sprint(value)), 0, 4))
	panicked := false
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || f.Function == "runtime.gopanic"
		case !panicked || !own(f.Function):
		default:
			fmt.Fprintf(&b, "    at %s:%d, in %s\n",
				shortPath(f.File), f.Line, shortName(f.Function))
			more = more && packageOf(f.Function) != "main"
		}
	}
	io.WriteString(w, b.String()) // one write: lines of several panics do not mix
}

// own reports whether a function belongs to the main program or its module.
func own(function string) bool {
	pkg := packageOf(function)
	if pkg == "main" {
		return true
	}
	info, ok := debug.ReadBuildInfo()
	return ok && info.Main.Path != "" && strings.HasPrefix(pkg+"/", info.Main.Path+"/")
}

// packageOf returns the import path in "reverseproxy/ch2/forward.(*T).Close".
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	return function[:slash] + name
}

// shortName returns a function's name without its package.
func shortName(function string) string {
	return strings.TrimPrefix(function, packageOf(function)+".")
}

// shortPath returns a file's name as seen from the working directory, if that
// is shorter.
func shortPath(file string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, file); err == nil && len(rel) < len(file) {
			return rel
		}
	}
	return file
}
