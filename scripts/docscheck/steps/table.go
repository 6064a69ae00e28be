// Package steps knows the ten steps that every chapter of Part I shares with the
// C program it mirrors: which call makes a step, and on which line of the C file
// that call stands. It also finds the steps in a chapter's main.go.
package steps

// Names holds the names of the ten steps; Names[1] is step 1.
var Names = [11]string{
	1: "socket", 2: "bind", 3: "listen", 4: "accept", 5: "read request",
	6: "connect", 7: "forward request", 8: "read response",
	9: "send response", 10: "close",
}

// Call is one call of a C program: the function's name and the line, counted
// from 1, that the call begins on.
type Call struct {
	Name string
	Line int
}

// Step is one of the ten steps in a C program. A program that leaves the step
// out has no Calls there.
type Step struct {
	Number int
	Calls  []Call
}

// Extra is what a C program does between two steps: it starts a process or a
// thread, or it chooses a backend.
type Extra struct {
	After int    // the number of the step before it
	Name  string // what it is for
	Calls []Call // none if C has nothing here; "choose" stands for a passage
	Last  int    // last line of the passage, 0 if it is a call
}

// Chapter is a chapter of Part I and the C program it mirrors.
type Chapter struct {
	Dir    string // the chapter's directory, "ch2_basic_proxy"
	CFile  string // the C program's file name, "Reverse_Proxy.c"
	CLines int    // the number of lines of that file
	Steps  []Step // ten steps, in order
	Extras []Extra
}

// Chapters is the table of Part I, in the order of the book.
var Chapters = []Chapter{
	{
		Dir: "ch1_base", CFile: "Base.c", CLines: 60,
		Steps: table(
			calls{"socket", 17}, calls{"bind", 29}, nil, calls{"accept", 37},
			calls{"read", 46}, nil, nil, nil, nil, calls{"close", 55, "close", 56}),
	},
	{
		Dir: "ch2_basic_proxy", CFile: "Reverse_Proxy.c", CLines: 116,
		Steps: table(
			calls{"socket", 17}, calls{"bind", 29}, calls{"listen", 36},
			calls{"accept", 43}, calls{"read", 52}, calls{"socket", 64, "connect", 76},
			calls{"write", 85}, calls{"read", 98}, calls{"write", 107},
			calls{"close", 112, "close", 113}),
	},
	{
		Dir: "ch3_process_model", CFile: "fork_proxy.c", CLines: 146,
		Steps: table(
			calls{"socket", 21}, calls{"bind", 33}, calls{"listen", 41},
			calls{"accept", 51}, calls{"read", 69}, calls{"socket", 82, "connect", 95},
			calls{"write", 105}, calls{"read", 120}, calls{"write", 130},
			calls{"close", 135, "close", 137}),
		Extras: []Extra{
			{After: 4, Name: "a process for the client", Calls: []Call{{"fork", 59}}},
			{After: 10, Name: "the parent's copy", Calls: []Call{{"close", 142}}},
		},
	},
	{
		Dir: "ch4_threaded", CFile: "threaded_proxy.c", CLines: 146,
		Steps: table(
			calls{"socket", 95}, calls{"bind", 107}, calls{"listen", 116},
			calls{"accept", 125}, calls{"read", 21}, calls{"socket", 32, "connect", 44},
			calls{"write", 54}, calls{"read", 67}, calls{"write", 76},
			calls{"close", 81, "close", 82}),
		Extras: []Extra{
			{After: 4, Name: "a thread for the client",
				Calls: []Call{{"pthread_create", 134}, {"pthread_detach", 142}}},
		},
	},
	{
		Dir: "ch5_load_balancer", CFile: "proxy_load_balancer.c", CLines: 122,
		Steps: table(
			calls{"socket", 17}, calls{"bind", 29}, calls{"listen", 36},
			calls{"accept", 43}, calls{"read", 51}, calls{"socket", 63, "connect", 83},
			calls{"write", 92}, calls{"read", 104}, calls{"write", 112},
			calls{"close", 117, "close", 118}),
		Extras: []Extra{
			{After: 4, Name: "a goroutine for the client"},
			{After: 5, Name: "choose a backend", Calls: []Call{{"choose", 71}}, Last: 75},
		},
	},
}

// calls lists a step's calls as name, line, name, line.
type calls []any

// table numbers ten lists of calls.
func table(lists ...calls) []Step {
	all := make([]Step, len(lists))
	for i, list := range lists {
		all[i].Number = i + 1
		for j := 0; j < len(list); j += 2 {
			all[i].Calls = append(all[i].Calls, Call{list[j].(string), list[j+1].(int)})
		}
	}
	return all
}

// ByDir finds a chapter by its directory's name.
func ByDir(dir string) (Chapter, bool) {
	for _, c := range Chapters {
		if c.Dir == dir {
			return c, true
		}
	}
	return Chapter{}, false
}

// Extra returns what the C program does after the step with the given number.
func (c Chapter) Extra(after int) []Extra {
	var found []Extra
	for _, e := range c.Extras {
		if e.After == after {
			found = append(found, e)
		}
	}
	return found
}
