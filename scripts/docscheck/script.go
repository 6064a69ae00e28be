package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// script is what a run directive asks for.
type script struct {
	commands  []command
	hidden    bool     // the commands stand in the comment, the block is all output
	want      []string // the block's lines if hidden
	unordered bool
	backends  bool // the demo backends run beside it, unseen
	masks     []*regexp.Regexp
	needs     []string
	timeout   time.Duration
}

// command is a line that is typed in a transcript and what the block says it prints.
type command struct {
	typed []string // as the block shows it, with "$ "; one line unless continued
	text  string   // for sh, without the final "&"; "" for ^C
	back  bool     // it ends in "&"
	want  []string
}

// expects is how many lines it prints at least, for all that the block says.
func (c command) expects() (lines int) {
	for _, line := range c.want {
		if line != ellipsis {
			lines++
		}
	}
	return lines
}

// interrupt is how a transcript writes Ctrl+C.
const interrupt = "^C"

// parseScript reads the arguments and the block of a run directive.
func parseScript(args string, text []string) (script, error) {
	s := script{timeout: 2 * time.Minute}
	rest, err := s.options(args)
	if err != nil {
		return s, err
	}
	shown := slices.ContainsFunc(text, func(l string) bool { return strings.HasPrefix(l, "$ ") })
	if rest == "" {
		if !shown {
			return s, fmt.Errorf("run what? The commands stand in the comment or, after \"$ \", " +
				"in the block")
		}
		return s, s.parseShown(text)
	}
	if shown {
		return s, fmt.Errorf("the commands stand in the comment or in the block, not in both")
	}
	s.hidden, s.want = true, text
	var typed []string
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			typed = append(typed, line)
			if !strings.HasSuffix(line, `\`) {
				if err := s.add(typed); err != nil {
					return s, err
				}
				typed = nil
			}
		}
	}
	if typed != nil {
		return s, fmt.Errorf("the last command ends in a backslash")
	}
	return s, nil
}

// options reads the options at the start of a directive and returns the rest.
func (s *script) options(args string) (rest string, err error) {
	for strings.HasPrefix(args, "-") {
		option, after := cutWord(args)
		args = after
		switch option {
		case "-unordered":
			s.unordered = true
			continue
		case "-backends":
			s.backends = true
			continue
		}
		var value string
		value, args = cutWord(after)
		switch option {
		case "-mask":
			re, err := regexp.Compile(value)
			if err != nil {
				return "", err
			}
			s.masks = append(s.masks, re)
		case "-needs":
			s.needs = append(s.needs, strings.Split(value, ",")...)
		case "-timeout":
			if s.timeout, err = time.ParseDuration(value); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("run has no option %s", option)
		}
	}
	return args, nil
}

func cutWord(text string) (word, rest string) {
	i := strings.IndexAny(text, " \t\n")
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimSpace(text[i:])
}

// parseShown reads a block that shows its commands.
func (s *script) parseShown(text []string) error {
	for i := 0; i < len(text); i++ {
		line := text[i]
		switch {
		case strings.HasPrefix(line, "$ "), line == interrupt:
			typed := []string{line}
			for strings.HasSuffix(line, `\`) && i+1 < len(text) {
				i++
				line = text[i]
				typed = append(typed, line)
			}
			if err := s.add(typed); err != nil {
				return err
			}
		case len(s.commands) == 0:
			return fmt.Errorf("%q stands before the first command", line)
		default:
			last := &s.commands[len(s.commands)-1]
			last.want = append(last.want, line)
		}
	}
	return nil
}

// grouped is what holds a ";" and is one command all the same: a quoted word, a loop, what
// stands in parentheses.
var grouped = regexp.MustCompile(`'[^']*'|"[^"]*"|\b(for|while)\b.*\bdone\b|\(.*\)`)

// add takes a command in as it is typed.
func (s *script) add(typed []string) error {
	c := command{typed: typed}
	var parts []string
	for i, line := range typed {
		if i > 0 {
			line = strings.TrimPrefix(line, "> ")
		}
		parts = append(parts, strings.TrimSuffix(line, `\`))
	}
	c.text = strings.TrimSpace(strings.TrimPrefix(strings.Join(parts, " "), "$ "))
	if c.text == interrupt {
		c.text = ""
	}
	if strings.HasSuffix(c.text, "&") && !strings.HasSuffix(c.text, "&&") {
		c.back = true
		c.text = strings.TrimSpace(strings.TrimSuffix(c.text, "&"))
		if strings.Contains(grouped.ReplaceAllString(c.text, ""), ";") {
			return fmt.Errorf("%q: a shell runs only what follows the last \";\" in the "+
				"background; write two commands", typed[0])
		}
	}
	s.commands = append(s.commands, c)
	return nil
}

// compose puts the commands and what they printed together as the block shows them.
func (s script) compose(printed [][]string) []string {
	var lines []string
	for i, c := range s.commands {
		if !s.hidden {
			lines = append(lines, c.typed...)
		}
		lines = append(lines, printed[i]...)
	}
	return lines
}

// agrees compares what was printed with what the block says.
func (s script) agrees(printed [][]string) bool {
	if s.hidden {
		return s.matches(s.want, s.compose(printed))
	}
	for i, c := range s.commands {
		if !s.matches(c.want, printed[i]) {
			return false
		}
	}
	return true
}

// matches compares lines without what differs from run to run.
func (s script) matches(want, got []string) bool {
	want, got = s.normalize(want), s.normalize(got)
	if s.unordered && !slices.Contains(want, ellipsis) {
		slices.Sort(want)
		slices.Sort(got)
	}
	return matchLines(want, got)
}

// ellipsis is a line that stands for any number of lines.
const ellipsis = "..."

func matchLines(want, got []string) bool {
	for i, w := range want {
		if w == ellipsis {
			for skip := 0; skip <= len(got)-i; skip++ {
				if matchLines(want[i+1:], got[i+skip:]) {
					return true
				}
			}
			return false
		}
		if i >= len(got) || w != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

// mask is something that differs from run to run, and what it is compared as.
type mask struct {
	re *regexp.Regexp
	to string
}

var masks = []mask{
	{regexp.MustCompile(`\x1b\[[0-9;]*m`), ""},
	{regexp.MustCompile(`((?:\d{1,3}(?:\.\d{1,3}){3}|localhost|\[[0-9a-f:]+\]):)\d{5}\b`),
		"${1}PORT"},
	{regexp.MustCompile(`(?i)\b(pid|child|thread|tid|goroutine|process)(s?[ =:#]+)\d+`),
		"${1}${2}N"},
	{regexp.MustCompile(`"(elapsed_us|pid|tid)":\d+`), `"${1}":N`},
	{regexp.MustCompile(`\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?`),
		"TIME"},
	{regexp.MustCompile(`\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`),
		"DATE"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "TIME"},
	{regexp.MustCompile(`(?i)\b(CPU\s+)[\d.]+(\s?(s|ms|%))`), "${1}N${2}"},
	{regexp.MustCompile(`\b(\d+m)?\d+(\.\d+)?\s?(ns|µs|μs|us|ms)\b`), "DURATION"},
	{regexp.MustCompile(`\b(\d+m)?\d+\.\d+\s?s\b`), "DURATION"},
	{regexp.MustCompile(`(?i)\b(memory\s+)[\d.]+\s?[KMG]i?B\b`), "${1}SIZE"},
	{regexp.MustCompile(`\b\d+\.\d+\s?[KMG]i?B\b`), "SIZE"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// normalize replaces what differs from run to run, and blank lines at the end.
func (s script) normalize(lines []string) []string {
	same := make([]string, len(lines))
	for i, l := range lines {
		for _, re := range s.masks {
			l = re.ReplaceAllString(l, "MASKED")
		}
		for _, m := range masks {
			l = m.re.ReplaceAllString(l, m.to)
		}
		same[i] = strings.TrimSpace(l)
	}
	for len(same) > 0 && same[len(same)-1] == "" {
		same = same[:len(same)-1]
	}
	return same
}
