//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The pages docs/models_compared.md and, of -loop and -syscalls, docs/ch10_event_loop.md
// quote tables between
//
//	<!-- bench NAME -->
//	<!-- /bench -->
//
// where NAME is a cell, machine, contestants or goals. With -docs they are
// written anew, together with the pictures in docs/img.
const (
	docsPage = "models_compared.md"
	loopPage = "ch10_event_loop.md"
)

// The tables of -syscalls, -profile, -techniques and -narration. Each run leaves the
// others' alone.
const (
	syscallsBlock, profileBlock = "syscalls", "profile"
	techniquesBlock             = "techniques"
	narrationBlock              = "narration"
)

var ownBlocks = []string{syscallsBlock, profileBlock, techniquesBlock, narrationBlock}

var docsBlock = regexp.MustCompile(`(?s)(<!-- bench ([a-z0-9]+) -->\n).*?(<!-- /bench -->)`)

// writeDocs puts the pictures and tables of a run into the docs folder.
func (r *results) writeDocs(dir, name string) error {
	page := filepath.Join(dir, name)
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	img := filepath.Join(dir, "img")
	if err := os.MkdirAll(img, 0o755); err != nil {
		return err
	}
	for _, f := range r.figures() {
		if bytes.Contains(text, []byte(f.Name+".svg")) {
			if err := f.Write(img, false); err != nil {
				return err
			}
		}
	}
	var missing []string
	text = fillBlocks(text, func(name string) string {
		body := r.docsTable(name, page == filepath.Join(dir, loopPage))
		if body == "" && !slices.Contains(ownBlocks, name) {
			missing = append(missing, name)
		}
		return body
	})
	if len(missing) > 0 {
		return fmt.Errorf("%s asks for %s, which this run has not", page,
			strings.Join(missing, ", "))
	}
	return os.WriteFile(page, text, 0o644)
}

// fillBlock writes one table into the page of the loops, if -docs says so.
func (b *bench) fillBlock(block string, lines [][]string) error {
	if b.o.docs == "" {
		return nil
	}
	page := filepath.Join(b.o.docs, loopPage)
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	return os.WriteFile(page, fillBlocks(text, func(name string) string {
		if name != block {
			return ""
		}
		return markdown(lines, len(lines[0])-1)
	}), 0o644)
}

// fillBlocks writes a page's blocks anew, but for those that body has no text for.
func fillBlocks(text []byte, body func(name string) string) []byte {
	return docsBlock.ReplaceAllFunc(text, func(block []byte) []byte {
		m := docsBlock.FindSubmatch(block)
		body := body(string(m[2]))
		if body == "" {
			return block
		}
		return []byte(string(m[1]) + "\n" + body + "\n" + string(m[3]))
	})
}

// loopColumns are what the page of the loops shows.
var loopColumns = []string{"proxy", "requests/s", "p99 ms", "CPU µs/request", "ratio", "user",
	"system", "failed", "remarks"}

// docsTable is what stands in a block, "" if the run has it not. A narrow one of
// a closed loop has loopColumns only.
func (r *results) docsTable(name string, narrow bool) string {
	switch name {
	case "machine":
		return r.docsMachine()
	case "contestants":
		lines := [][]string{{"name", "how it serves many clients", "version"}}
		for _, c := range r.Contestants {
			if c.Family != "chapter" { // a commit's name would only grow old
				lines = append(lines, []string{c.ID, c.Model, c.Version})
			} else {
				lines = append(lines, []string{c.ID, c.Model, "this repository"})
			}
		}
		return markdown(lines, 0)
	case "goals":
		lines := [][]string{{"what", "against", "goal", "", "figure"}}
		for _, g := range r.Goals {
			if g.Verdict != notMeasured {
				lines = append(lines, []string{g.What, g.Against, g.Goal, g.Verdict, g.Figure})
			}
		}
		return markdown(lines, 0)
	}
	for _, w := range r.Cells {
		if w.ID == name {
			t := r.table(w)
			if len(t.Rows) == 0 {
				return ""
			}
			if narrow && w.closedLoop() {
				t = t.only(loopColumns)
			}
			note := ""
			if t.Note != "" {
				note = "\n" + t.Note + "\n"
			}
			return markdown(append([][]string{t.Head}, t.Rows...), len(t.Head)-1) + note
		}
	}
	return ""
}

func (r *results) docsMachine() string {
	m := r.Machine
	beside := ""
	if r.OtherCPU.Median > busyShare {
		beside = "Other programs used " + m["used by others meanwhile"] + " meanwhile.\n"
	}
	return fmt.Sprintf("%s. %s virtual cores (%s), %s of memory, Linux %s, %s.\n"+
		"Medians of %d rounds, `%s`.\nBackend: %s.\n%s", r.Started.Format("2 January 2006"),
		m["cores"], m["cpu"], m["memory"], m["kernel"], m["go"], r.Rounds,
		plainCommand(r.Command), r.Backend, beside)
}

var (
	cdirFlag = regexp.MustCompile(` -c[ =]\S+`)
	outFlag  = regexp.MustCompile(` -(o|docs)[ =]\S+`)
)

// plainCommand leaves out where the files of that run were.
func plainCommand(s string) string {
	return outFlag.ReplaceAllString(cdirFlag.ReplaceAllString(s, " -c DIR"), "")
}

// markdown prints a table; columns 1 to right-1 are aligned to the right.
func markdown(lines [][]string, right int) string {
	var b strings.Builder
	for i, l := range lines {
		b.WriteString("| " + strings.Join(l, " | ") + " |\n")
		if i > 0 {
			continue
		}
		for j := range l {
			if j > 0 && j < right {
				b.WriteString("|---:")
			} else {
				b.WriteString("|---")
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}
