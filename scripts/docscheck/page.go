package main

import (
	"fmt"
	"regexp"
	"strings"
)

// block is a directive and the fenced block behind it.
type block struct {
	line   int      // of the directive, counted from 1
	kind   string   // "quote", "diff" or "run"
	args   string   // the rest of the comment, its line breaks kept
	open   int      // index of the line that opens the fence
	end    int      // index of the line that closes it
	indent string   // what stands before the fence, as in a list
	text   []string // the lines between, without indent
}

// problem is something wrong on a page.
type problem struct {
	page string
	line int
	text string // one line, or several with the difference
}

func (p problem) String() string { return fmt.Sprintf("%s:%d: %s", p.page, p.line, p.text) }

var (
	directive = regexp.MustCompile(`^\s*<!--\s*(quote|diff|run)\b(.*)$`)
	fence     = regexp.MustCompile("^(\\s*)(```+|~~~+)(.*)$")
)

// parsePage finds the directives of a page. Directives inside fenced blocks are
// examples and are left alone.
func parsePage(page string, lines []string) (blocks []block, problems []problem) {
	for i := 0; i < len(lines); i++ {
		if fence.MatchString(lines[i]) {
			end := closingFence(lines, i)
			if isCommand(lines[i+1:end]) && (i == 0 || !unrun.MatchString(lines[i-1])) {
				problems = append(problems, problem{page, i + 1,
					"a command is shown, and no run comment stands before it"})
			}
			i = end
			continue
		}
		m := directive.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		b := block{line: i + 1, kind: m[1]}
		fail := func(text string) { problems = append(problems, problem{page, b.line, text}) }
		comment := []string{m[2]}
		for !strings.Contains(lines[i], "-->") && i+1 < len(lines) {
			i++
			comment = append(comment, lines[i])
		}
		if !strings.Contains(lines[i], "-->") {
			fail("the comment is not closed")
			break
		}
		args, _, _ := strings.Cut(strings.Join(comment, "\n"), "-->")
		b.args = strings.TrimSpace(args)
		next := i + 1
		for next < len(lines) && strings.TrimSpace(lines[next]) == "" {
			next++
		}
		if next == len(lines) || !fence.MatchString(lines[next]) {
			fail("no fenced block follows the " + b.kind + " comment")
			continue
		}
		b.open, b.end = next, closingFence(lines, next)
		if b.end == len(lines) {
			fail("the fenced block is not closed")
			break
		}
		b.indent = fence.FindStringSubmatch(lines[next])[1]
		for _, l := range lines[b.open+1 : b.end] {
			b.text = append(b.text, strings.TrimPrefix(l, b.indent))
		}
		blocks = append(blocks, b)
		i = b.end
	}
	return blocks, problems
}

// unrun is the line above a block of commands that docscheck cannot run.
var unrun = regexp.MustCompile(`^\s*\*Not run by docscheck: .+\*$`)

// isCommand reports whether a block shows a command and what it prints.
func isCommand(block []string) bool {
	return len(block) > 0 && strings.HasPrefix(strings.TrimSpace(block[0]), "$ ")
}

// closingFence returns the index of the line that closes the fence opened on
// line i, or len(lines).
func closingFence(lines []string, i int) int {
	open := fence.FindStringSubmatch(lines[i])[2]
	for j := i + 1; j < len(lines); j++ {
		m := fence.FindStringSubmatch(lines[j])
		if m != nil && strings.HasPrefix(m[2], open) && strings.TrimSpace(m[3]) == "" {
			return j
		}
	}
	return len(lines)
}

// replace puts new text into a block and returns the page's lines. It fails if
// the text itself holds a line that would close the fence.
func (b block) replace(lines, text []string) ([]string, error) {
	open := fence.FindStringSubmatch(lines[b.open])[2]
	fresh := append([]string{}, lines[:b.open+1]...)
	for _, l := range text {
		if strings.HasPrefix(strings.TrimSpace(l), open) {
			return nil, fmt.Errorf("the text holds %q itself: open the block with a longer fence",
				open)
		}
		if l != "" {
			l = b.indent + l
		}
		fresh = append(fresh, l)
	}
	return append(fresh, lines[b.end:]...), nil
}
