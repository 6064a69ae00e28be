// Command drawings makes the drawings of the chapters' pages, one for each:
//
//	go run ./scripts/drawings [-o docs/img]
//
// A test compares the files with what it makes, and looks whether a text leaves its
// box or meets a line. They are light or dark as the system is.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// folder is where the drawings lie, from the root of the repository.
const folder = "docs/img"

func main() {
	out := flag.String("o", folder, "write the drawings into this `folder`")
	flag.Parse()
	for name, d := range drawings() {
		if err := os.WriteFile(filepath.Join(*out, name), d.SVG(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "drawings:", err)
			os.Exit(1)
		}
	}
}

// drawings makes all of them, by the names of their files.
func drawings() map[string]*drawing {
	return map[string]*drawing{
		"draw-ch0.svg":  connection(),
		"draw-ch1.svg":  queue(),
		"draw-ch2.svg":  between(),
		"draw-ch3.svg":  descriptors(),
		"draw-ch4.svg":  goroutines(),
		"draw-ch5.svg":  turns(),
		"draw-ch6.svg":  pool(),
		"draw-ch7.svg":  deadlines(),
		"draw-ch8.svg":  states(),
		"draw-ch9.svg":  ring(),
		"draw-ch10.svg": insideOut(),
	}
}
