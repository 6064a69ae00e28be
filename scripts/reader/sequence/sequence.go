// Package sequence draws the sequence diagrams of the book. It reads the part of
// mermaid's language that the book uses, so that the same source is drawn by GitHub and
// by the reader, and writes SVG that takes its colours from the page's style sheet.
package sequence

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// diagram is a parsed sequence diagram.
type diagram struct {
	title  string
	actors []actor
	items  []item
	number bool // autonumber
}

type actor struct{ id, label string }

// kind is what an item of a diagram is.
type kind int

const (
	message kind = iota
	note
	blockStart // loop, alt, opt, par, critical, break, rect
	blockElse  // else, and, option
	blockEnd
)

// item is a line of a diagram.
type item struct {
	kind     kind
	from, to int    // indexes of actors; of a note: the first and last it stands over
	side     string // of a note: "over", "left" or "right"
	text     string
	word     string // "loop", "else", ...
	dashed   bool
	head     byte // '>' filled, 'x' cross, ')' open, 0 none
	both     bool // heads at both ends
}

var (
	participant = regexp.MustCompile(`^(?:create\s+)?(?:participant|actor)\s+(\S+?)(?:\s+as\s+(.+))?$`)
	arrow       = regexp.MustCompile(`^([^\s:]+?)\s*(<<-->>|<<->>|-->>|->>|-->|->|--x|-x|--\)|-\))\s*([+-]?)\s*([^\s:]+?)\s*:\s*(.*)$`)
	noteLine    = regexp.MustCompile(`^(?i:note)\s+(over|left of|right of)\s+([^:]+?)\s*:\s*(.*)$`)
	blockLine   = regexp.MustCompile(`^(loop|alt|opt|par|critical|break|rect)\b\s*(.*)$`)
	elseLine    = regexp.MustCompile(`^(else|and|option)\b\s*(.*)$`)
	ignored     = regexp.MustCompile(`^(activate|deactivate|destroy)\s+\S+$|^link\b|^accTitle|^accDescr`)
	lineBreak   = regexp.MustCompile(`(?i)<br\s*/?>`)
	entity      = regexp.MustCompile(`#(\w+);`)
	entityEnd   = regexp.MustCompile(`#\w+;$`)
)

// parse reads a diagram. It refuses what it does not know, so that nothing is left
// out silently.
func parse(source string) (diagram, error) {
	var d diagram
	begun := false
	var open []string
	for n, line := range strings.Split(source, "\n") {
		line = strings.TrimSpace(line)
		if !entityEnd.MatchString(line) {
			line = strings.TrimSpace(strings.TrimSuffix(line, ";"))
		}
		if line == "" || strings.HasPrefix(line, "%%") {
			continue
		}
		if !begun {
			if line != "sequenceDiagram" {
				return d, fmt.Errorf("it begins with %q, not with sequenceDiagram", line)
			}
			begun = true
			continue
		}
		it, err := d.line(line, &open)
		if err != nil {
			return d, fmt.Errorf("line %d: %w", n+1, err)
		}
		if it != nil {
			d.items = append(d.items, *it)
		}
	}
	switch {
	case !begun:
		return d, fmt.Errorf("it is empty")
	case len(open) > 0:
		return d, fmt.Errorf("%s has no end", open[len(open)-1])
	case len(d.actors) == 0:
		return d, fmt.Errorf("nobody takes part")
	}
	return d, nil
}

// line reads one line; nil means that there is nothing to draw for it.
func (d *diagram) line(line string, open *[]string) (*item, error) {
	if m := participant.FindStringSubmatch(line); m != nil {
		i := d.actor(m[1])
		if m[2] != "" {
			d.actors[i].label = m[2]
		}
		return nil, nil
	}
	if m := arrow.FindStringSubmatch(line); m != nil {
		it := &item{kind: message, from: d.actor(m[1]), to: d.actor(m[4]), text: m[5]}
		it.dashed = strings.Contains(m[2], "--")
		it.both = strings.HasPrefix(m[2], "<<")
		switch {
		case strings.HasSuffix(m[2], ">>"):
			it.head = '>'
		case strings.HasSuffix(m[2], "x"):
			it.head = 'x'
		case strings.HasSuffix(m[2], ")"):
			it.head = ')'
		}
		return it, nil
	}
	if m := noteLine.FindStringSubmatch(line); m != nil {
		it := &item{kind: note, side: strings.Fields(strings.ToLower(m[1]))[0], text: m[3]}
		names := strings.Split(m[2], ",")
		it.from = d.actor(strings.TrimSpace(names[0]))
		it.to = d.actor(strings.TrimSpace(names[len(names)-1]))
		if it.from > it.to {
			it.from, it.to = it.to, it.from
		}
		return it, nil
	}
	return d.block(line, open)
}

func (d *diagram) block(line string, open *[]string) (*item, error) {
	if m := blockLine.FindStringSubmatch(line); m != nil {
		*open = append(*open, m[1])
		it := &item{kind: blockStart, word: m[1], text: m[2]}
		if m[1] == "rect" {
			it.word, it.text = "", ""
		}
		return it, nil
	}
	if m := elseLine.FindStringSubmatch(line); m != nil && len(*open) > 0 {
		return &item{kind: blockElse, word: m[1], text: m[2]}, nil
	}
	switch {
	case line == "end" && len(*open) > 0:
		*open = (*open)[:len(*open)-1]
		return &item{kind: blockEnd}, nil
	case strings.HasPrefix(line, "autonumber"):
		d.number = line != "autonumber off"
		return nil, nil
	case strings.HasPrefix(line, "title"):
		d.title = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "title"), ":"))
		return nil, nil
	case ignored.MatchString(line):
		return nil, nil
	}
	return nil, fmt.Errorf("%q is not known", line)
}

// actor finds a participant, or adds it at the right.
func (d *diagram) actor(id string) int {
	i := slices.IndexFunc(d.actors, func(a actor) bool { return a.id == id })
	if i < 0 {
		d.actors = append(d.actors, actor{id, id})
		i = len(d.actors) - 1
	}
	return i
}

// textLines splits a text at its breaks and replaces mermaid's entities.
func textLines(s string) []string {
	s = entity.ReplaceAllStringFunc(s, func(e string) string {
		switch name := entity.FindStringSubmatch(e)[1]; name {
		case "semi", "59":
			return ";"
		case "colon", "58":
			return ":"
		case "35", "num":
			return "#"
		case "lt", "60":
			return "<"
		case "gt", "62":
			return ">"
		case "quot", "34":
			return `"`
		case "amp", "38":
			return "&"
		}
		return e
	})
	lines := lineBreak.Split(s, -1)
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}
