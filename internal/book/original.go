package book

import (
	"fmt"
	"strings"
)

// Steps says what is done in each of the ten steps; Steps[1] is step 1.
var Steps = [11]string{
	1: "create the socket", 2: "bind", 3: "listen", 4: "accept a client", 5: "read the request",
	6: "connect to the backend", 7: "forward the request", 8: "read the response",
	9: "send the response", 10: "clean up",
}

// Call is one call of a C program: the function's name and the line, counted
// from 1, that the call begins on.
type Call struct {
	Name string
	Line int
}

// Extra is what a C program does between two steps: it starts a process or a
// thread, or it chooses a backend. A comment in main.go belongs to it that names
// its call or, where a call would not tell, holds its words.
type Extra struct {
	After int    // the number of the step before it
	Name  string // what it is for
	Words string // in the comment; "" if the call tells
	Calls []Call // none if C has nothing here, or a passage
	Lines [2]int // the passage's first and last line; 0 if there is none
}

// Row names what stands side by side in C and Go: a step, or what happens after it.
type Row struct {
	Step  int // 1 to 10
	Extra int // 0 for the step itself, i for the i-th thing that happens after it
}

// Original is a C program.
type Original struct {
	File   string // "Reverse_Proxy.c"
	Lines  int    // how many it has
	Client [2]int // first and last line of the function that serves a client, if there is one
	Steps  [11][]Call
	Extras []Extra
}

var base = &Original{
	File: "Base.c", Lines: 61,
	Steps: [11][]Call{
		1: {{"socket", 17}}, 2: {{"bind", 29}}, 4: {{"accept", 37}}, 5: {{"read", 46}},
		10: {{"close", 55}, {"close", 56}},
	},
}

var basic = &Original{
	File: "Reverse_Proxy.c", Lines: 117,
	Steps: [11][]Call{
		1: {{"socket", 17}}, 2: {{"bind", 29}}, 3: {{"listen", 36}}, 4: {{"accept", 43}},
		5: {{"read", 52}}, 6: {{"socket", 64}, {"connect", 76}}, 7: {{"write", 85}},
		8: {{"read", 98}}, 9: {{"write", 107}}, 10: {{"close", 112}, {"close", 113}},
	},
}

var fork = &Original{
	File: "fork_proxy.c", Lines: 146,
	Steps: [11][]Call{
		1: {{"socket", 21}}, 2: {{"bind", 33}}, 3: {{"listen", 41}}, 4: {{"accept", 51}},
		5: {{"read", 69}}, 6: {{"socket", 82}, {"connect", 95}}, 7: {{"write", 105}},
		8: {{"read", 120}}, 9: {{"write", 130}}, 10: {{"close", 135}, {"close", 137}},
	},
	Extras: []Extra{
		{After: 4, Name: "a process for the client", Calls: []Call{{"fork", 59}}},
		{After: 10, Name: "the child's end", Calls: []Call{{"exit", 138}}},
		{After: 10, Name: "the parent's copy", Words: "parent's copy",
			Calls: []Call{{"close", 142}}},
	},
}

var threaded = &Original{
	File: "threaded_proxy.c", Lines: 147, Client: [2]int{12, 84},
	Steps: [11][]Call{
		1: {{"socket", 95}}, 2: {{"bind", 107}}, 3: {{"listen", 116}}, 4: {{"accept", 125}},
		5: {{"read", 21}}, 6: {{"socket", 32}, {"connect", 44}}, 7: {{"write", 54}},
		8: {{"read", 67}}, 9: {{"write", 76}}, 10: {{"close", 81}, {"close", 82}},
	},
	Extras: []Extra{
		{After: 4, Name: "a thread for the client",
			Calls: []Call{{"pthread_create", 134}, {"pthread_detach", 142}}},
	},
}

var balancer = &Original{
	File: "proxy_load_balancer.c", Lines: 122,
	Steps: [11][]Call{
		1: {{"socket", 17}}, 2: {{"bind", 29}}, 3: {{"listen", 36}}, 4: {{"accept", 43}},
		5: {{"read", 51}}, 6: {{"socket", 63}, {"connect", 83}}, 7: {{"write", 92}},
		8: {{"read", 104}}, 9: {{"write", 112}}, 10: {{"close", 117}, {"close", 118}},
	},
	Extras: []Extra{
		{After: 4, Name: "a goroutine for the client", Words: "a goroutine"},
		{After: 5, Name: "choose the backend", Words: "choose the backend", Lines: [2]int{71, 75}},
	},
}

// After returns what the program does after the step with the given number.
func (o *Original) After(step int) []Extra {
	var found []Extra
	for _, e := range o.Extras {
		if e.After == step {
			found = append(found, e)
		}
	}
	return found
}

// Rows lists the steps and what follows them, in order.
func (o *Original) Rows() []Row {
	var rows []Row
	for n := 1; n <= 10; n++ {
		for i := range 1 + len(o.After(n)) {
			rows = append(rows, Row{n, i})
		}
	}
	return rows
}

// Calls returns the calls that make a row.
func (o *Original) Calls(row Row) []Call {
	if row.Extra == 0 {
		return o.Steps[row.Step]
	}
	return o.After(row.Step)[row.Extra-1].Calls
}

// Where says where the steps stand, as the header of main.go does:
// "threaded_proxy.c, steps 1–3 lines 95–116, 4 line 125, 5–10 lines 12–84".
func (o *Original) Where() string {
	var runs []string
	for _, part := range [][2]int{{1, 3}, {4, 4}, {5, 10}} {
		for n := part[0]; n <= part[1]; n++ {
			if len(o.Steps[n]) == 0 {
				continue
			}
			last := n
			for last < part[1] && len(o.Steps[last+1]) > 0 {
				last++
			}
			calls := o.Steps[last]
			lines := [2]int{o.Steps[n][0].Line, calls[len(calls)-1].Line}
			if n == 5 && o.Client[1] > 0 {
				lines = o.Client
			}
			runs = append(runs, span(n, last)+" "+Lines(lines[0], lines[1]))
			n = last
		}
	}
	return o.File + ", steps " + strings.Join(runs, ", ")
}

// Lines names a passage: "line 125", "lines 95–116".
func Lines(from, to int) string {
	if from == to {
		return "line " + span(from, to)
	}
	return "lines " + span(from, to)
}

func span(from, to int) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d–%d", from, to)
}
